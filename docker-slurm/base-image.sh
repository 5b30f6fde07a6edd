#!/usr/bin/env bash
# Make a bare Debian:  docker-slurm/base-image.sh SUITE [TAR|IMAGE]   (e.g. bookworm build/bare/bookworm.tar; trixie hpcli-bare:trixie)
# A target that ends in .tar is a root file system; anything else names a Docker image made from one, hpcli-base:SUITE
# by default. What is there already is not made again. Needs debootstrap and root to make a root file system, a Docker engine for an image.
# HPCLI_MIRROR: where debootstrap takes packages from; HPCLI_BARE_CACHE: the root file systems behind images (build/bare).
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE=${HPCLI_BARE_CACHE:-$ROOT/build/bare}
TREE=

die() { printf 'base-image: %s\n' "$*" >&2 && exit 1; }

main() {
    (($# == 1 || $# == 2)) || die "found $# arguments, expected: docker-slurm/base-image.sh SUITE [TAR|IMAGE]"
    set -- "$1" "${2-hpcli-base:$1}"
    trap 'rm -rf --one-file-system "$TREE"' EXIT
    case $2 in
        *.tar) make_tar "$1" "$2" ;;
        *) make_image "$1" "$2" ;;
    esac
}

make_tar() {
    local suite=$1 tar=$2
    [[ ! -e $tar ]] || return 0
    ((EUID == 0)) || die "making the $suite root file system needs root, once"
    command -v debootstrap >/dev/null || die "no debootstrap: apt-get install debootstrap"
    mkdir -p "$(dirname "$tar")"
    TREE=$(mktemp -d)
    debootstrap --variant=minbase --include=git,ca-certificates "$suite" "$TREE" ${HPCLI_MIRROR:+"$HPCLI_MIRROR"} \
        >"${tar%.tar}.log" || die "debootstrap failed, see ${tar%.tar}.log"
    tar -C "$TREE" --numeric-owner --exclude='./var/cache/apt/archives/*.deb' --exclude='./var/lib/apt/lists/*_*' \
        -cf "$tar.part" .
    mv "$tar.part" "$tar"
}

make_image() {
    local suite=$1 image=$2
    docker info >/dev/null 2>&1 || die "no Docker engine answers: start one (apt-get install docker.io; dockerd)"
    [[ -z $(docker image ls --quiet "$image") ]] || return 0
    make_tar "$suite" "$CACHE/$suite.tar"
    docker import "$CACHE/$suite.tar" "$image" >/dev/null
}

main "$@"
