#!/usr/bin/env bash
# Build an image of a machine:  docker-slurm/build.sh SERIES [machine|slurm|stock]   (SERIES: 22.05, 24.11, 26.05; default: slurm)
# Prints its name, hpcli-STAGE:SERIES. One that was built from the same inputs is not built
# again. Needs a Docker engine, and what base-image.sh needs for the first image of a Debian release.
# HPCLI_MIRROR: where Debian packages come from. PIP_CERT, PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_TRUSTED_HOST: as pip has them.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
ROOT=${HERE%/*}
CONTEXT=

die() { printf 'build: %s\n' "$*" >&2 && exit 1; }

main() {
    (($# == 1 || $# == 2)) || die "found $# arguments, expected SERIES [machine|slurm|stock]"
    local series=$1 stage=${2-slurm} suite image base inputs
    suite=$(suite_of "$series")
    [[ $stage == machine || $stage == slurm || $stage == stock ]] || die "found the stage $stage, expected machine, slurm or stock"
    docker info >/dev/null 2>&1 || die "no Docker engine answers: start one (apt-get install docker.io; dockerd)"
    image=hpcli-$stage:$series base=hpcli-base:$suite
    exec 9<"$HERE/Dockerfile"
    flock 9
    "$HERE/base-image.sh" "$suite" "$base" >&2 9<&-
    CONTEXT=$(mktemp -d)
    trap 'rm -rf "$CONTEXT"' EXIT
    fill_context
    inputs=$(inputs_of "$base" "$stage")
    [[ $(docker image inspect --format '{{index .Config.Labels "hpcli.inputs"}}' "$image" 2>/dev/null) == "$inputs" ]] ||
        build "$image" "$base" "$stage" "$suite" "$inputs"
    printf '%s\n' "$image"
}

suite_of() {
    case $1 in
        22.05) echo bookworm ;;
        24.11) echo trixie ;;
        26.05) echo sid ;;
        *) die "found the series $1, expected 22.05, 24.11 or 26.05" ;;
    esac
}

# All that the images are made from. The certificates serve the download of Python packages and stay in no image.
fill_context() {
    cp "$HERE/Dockerfile" "$HERE/entrypoint.sh" "$ROOT/lifecycle-scripts/lib/packages" "$CONTEXT"
    requirements >"$CONTEXT/requirements.txt"
    cat "${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}" >"$CONTEXT/ca.crt" 2>/dev/null || : >"$CONTEXT/ca.crt"
    chmod 755 "$CONTEXT/entrypoint.sh"
    # A file's time and mode decide what the engine's cache knows again.
    find "$CONTEXT" -exec touch -h -d @0 {} +
}

# hpcli's run-time requirements, one a line: install_requires of setup.cfg.
requirements() {
    python3 -c 'import configparser, sys
setup = configparser.ConfigParser()
setup.read(sys.argv[1])
print(setup["options"]["install_requires"].strip())' "$ROOT/setup.cfg"
}

inputs_of() {
    local base=$1 stage=$2 files=(Dockerfile entrypoint.sh)
    [[ $stage == machine ]] || files+=(packages requirements.txt)
    { docker image inspect --format '{{.Id}}' "$base" && cd "$CONTEXT" && sha256sum "${files[@]}"; } | sha256sum | cut -c1-32
}

build() {
    local image=$1 base=$2 stage=$3 suite=$4 inputs=$5 options=() name
    # unstable, or a mirror that stands still: what it says of its own age may have run out.
    [[ $suite != sid ]] || options+=(--build-arg "APT_OPTIONS=-o Acquire::Check-Valid-Until=false")
    for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_DEFAULT_TIMEOUT http_proxy https_proxy no_proxy; do
        [[ -z ${!name-} ]] || options+=(--build-arg "$name=${!name}")
    done
    docker build --network host --target "$stage" --tag "$image" --label "hpcli.inputs=$inputs" \
        --build-arg "BASE=$base" "${options[@]}" "$CONTEXT" >&2 9<&- || die "$image: docker build failed"
}

main "$@"
