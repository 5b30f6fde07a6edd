#!/usr/bin/env bash
# Prove on a bare Debian that a fresh clone works:  tests/bare.sh SUITE [COMMAND...]   (e.g. bookworm, trixie)
# Runs each COMMAND (default: './run demo' './run test') in one unprivileged container that has git and
# ca-certificates only (docker-slurm/base-image.sh makes it), and prints how long each took. Needs a Docker engine and,
# once per suite, debootstrap and root. PIP_*: given to the container.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
WORK=

die() { printf 'bare: %s\n' "$*" >&2 && exit 1; }

main() {
    local suite=${1:-} image
    [[ -n $suite ]] || die "which suite? tests/bare.sh bookworm|trixie [COMMAND...]"
    shift
    docker info >/dev/null 2>&1 || die "no Docker engine answers: start one (apt-get install docker.io; dockerd)"
    image=hpcli-bare:$suite
    "$ROOT/docker-slurm/base-image.sh" "$suite" "$image"
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    git -C "$ROOT" bundle create --quiet "$WORK/head.bundle" HEAD
    (($#)) || set -- './run demo' './run test'
    printf '%s\n' "$@" >"$WORK/commands"
    inside >"$WORK/inside.sh"
    contained "$image"
}

# What runs in the container: clone, then each command, its seconds, and whether it held.
inside() {
    cat <<'SH'
set -u
git -c advice.detachedHead=false -c init.defaultBranch=main clone --quiet /given/head.bundle /root/hpcli && cd /root/hpcli || exit 1
failed=0
while IFS= read -r line <&3; do
    began=$(date +%s.%N)
    code=0
    bash -c "$line" 3<&- </dev/null || code=$?
    [ "$code" = 0 ] || failed=1
    awk -v b="$began" -v e="$(date +%s.%N)" -v c="$code" -v l="$line" \
        'BEGIN { printf "bare: %s: exit %d after %.1f s\n", l, c, e - b }'
done 3</given/commands
exit $failed
SH
}

contained() {
    local options=(--rm --network host --volume "$WORK:/given:ro") name file
    file=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}
    options+=(--volume "$file:/etc/hpcli-ca.crt:ro" --env PIP_CERT=/etc/hpcli-ca.crt)
    for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_DEFAULT_TIMEOUT http_proxy https_proxy no_proxy; do
        [[ -z ${!name-} ]] || options+=(--env "$name")
    done
    docker run "${options[@]}" "$1" bash /given/inside.sh
}

main "$@"
