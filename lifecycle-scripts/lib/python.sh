# shellcheck shell=bash
# hpcli's virtual environment and its command, with a network and without one. Sourced after base.sh, by the step
# 15-python and by `install`. Needs Python 3.11 or newer with its whole standard library. Where pip's own wheel lies
# among the wheels, ensurepip (Debian's python3-venv) and pip are not needed.
# The environment: PYTHON makes it, VENV is where, NEEDS its requirements; WHEELS is the folder whose packages are the
# only ones there are, "" where INDEX or pip's own choice is asked. CHOICE: in words, how one names another Python.

PYTHON=python3
VENV=$OPT/venv
NEEDS=$OPT/code/requirements.txt
WHEELS=
INDEX=
CHOICE=
CERTIFICATES=$R/etc/ssl/certs/ca-certificates.crt
# Of PYTHON: X.Y, and the program behind it. Set by know_python.
VERSION=
BEHIND=

know_python() {
    local found
    command -v -- "$PYTHON" >/dev/null || refuse_python 'no such program'
    found=$("$PYTHON" - 2>&1 <<'PY'
import os, sys
real = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
print("%d.%d %s" % (sys.version_info[0], sys.version_info[1], real))
PY
    ) || refuse_python "$(last_line "$found")"
    read -r VERSION BEHIND <<<"$found"
    if [[ ! $VERSION =~ ^3\.([0-9]+)$ ]] || ((BASH_REMATCH[1] < 11)); then refuse_python "Python $VERSION"; fi
    "$BEHIND" -c 'import asyncio, sqlite3, venv' 2>/dev/null ||
        die "$PYTHON: found it without parts of its standard library (asyncio, sqlite3 or venv), expected all of it: Debian has it in the package python3"
}

refuse_python() {
    local others
    others=$(compgen -c python3. | grep -xE 'python3\.(1[1-9]|[2-9][0-9])' | sort -u | paste -sd' ' || true)
    die "$PYTHON: found $1, expected Python 3.11 or newer${others:+ (here are: $others)}${CHOICE:+; name another: $CHOICE}"
}

# Whether the environment is whole and of this very Python.
venv_stands() {
    [[ ! -e $VENV/.underway && -x $VENV/bin/python && -d $VENV/lib/python$VERSION ]] &&
        [[ $(readlink -f "$VENV/bin/python") == "$BEHIND" ]]
}

# Whether an environment, maybe one that came with the machine, has what is needed.
venv_meets() {
    [[ ! -e $VENV/.underway && -x $VENV/bin/python ]] && "$VENV/bin/python" - "$NEEDS" <<'PY'
import sys
from importlib.metadata import PackageNotFoundError, version
from pip._vendor.packaging.requirements import Requirement

for line in open(sys.argv[1]):
    need = Requirement(line)
    try:
        if not need.marker and not need.specifier.contains(version(need.name)):
            sys.exit(1)
    except PackageNotFoundError:
        sys.exit(1)
PY
}

# Make the environment, or mend one that was interrupted; the caller has called know_python.
make_venv() {
    local pip options=()
    # Everybody runs it, whatever root's own umask is.
    umask 022
    [[ -z $WHEELS ]] || wheels_fit
    pip=$(pip_wheel)
    if ! venv_stands; then
        [[ -n $pip ]] || expect_ensurepip
        rm -rf "$VENV"
        begin_venv
        must "$PYTHON" -m venv ${pip:+--without-pip} "$VENV"
    fi
    begin_venv
    if [[ -n $WHEELS ]]; then
        # No setting of this machine's pip has a say in what is a folder's alone.
        options=(--isolated --no-index --find-links "$WHEELS" ${pip:+pip})
        export PIP_CONFIG_FILE=/dev/null
        must pip_install "${pip:+$pip/pip}" "${options[@]}" -r "$NEEDS"
    else
        [[ -z $INDEX ]] || options=(--index-url "$INDEX")
        trust_certificates
        must_soon pip_install '' "${options[@]}" -r "$NEEDS"
    fi
    rm "$VENV/.underway"
}

begin_venv() {
    local out
    out=$({ mkdir -p "$VENV" && : >"$VENV/.underway"; } 2>&1) || die "$VENV: not made: ${out##*: }"
}

# pip's own wheel, of which the newest is taken; nothing where there is none.
pip_wheel() { [[ -z $WHEELS ]] || { compgen -G "$WHEELS/pip-*.whl" || true; } | sort -V | tail -n 1; }

expect_ensurepip() {
    "$PYTHON" -c 'import ensurepip' 2>/dev/null ||
        die "$PYTHON: found no ensurepip, expected it or pip's own wheel: install python3-venv (Debian: python$VERSION-venv), or use a bundle: hpcli bundle"
}

# Refuse a folder whose wheels are for other Pythons or machines, before anything is changed. One that also has source
# packages may well do.
wheels_fit() {
    local arch pythons archs
    [[ -d $WHEELS ]] || die "pip: found no folder $WHEELS, expected Python packages there"
    ! compgen -G "$WHEELS/*.tar.gz" >/dev/null || return 0
    pythons=$(tags 's/.*-cp3\([0-9]*\)-cp3[0-9]*-[^-]*\.whl$/3.\1/p')
    archs=$(tags 's/.*-[^-]*linux[^-]*_\(x86_64\|aarch64\|ppc64le\|s390x\|riscv64\|i686\|armv7l\)\.whl$/\1/p')
    arch=$(uname -m)
    [[ -z $archs || " $archs " == *" $arch "* ]] ||
        die "this machine: found $arch here and wheels for $archs in $WHEELS, expected the same: hpcli bundle --arch $arch"
    [[ -z $pythons || " $pythons " == *" $VERSION "* ]] ||
        die "$PYTHON: found Python $VERSION here and wheels for $pythons in $WHEELS, expected one of these${CHOICE:+: $CHOICE}; or: hpcli bundle --python $VERSION"
}

# What `sed` makes of the wheels' names, each word once.
tags() { (cd "$WHEELS" && { compgen -G '*.whl' || true; }) | sed -n "$1" | sort -uV | paste -sd' '; }

# A site's own authorities are among the system's, unless its pip.conf names others: the variable would win over it.
trust_certificates() {
    [[ -n ${PIP_CERT-} || ! -s $CERTIFICATES || $("$VENV/bin/python" -m pip config list 2>/dev/null) == *.cert=* ]] ||
        export PIP_CERT=$CERTIFICATES
}

# pip_install PIP OPTION...: PIP is a folder in pip's wheel, "" for the environment's own.
pip_install() {
    local out pip=(-m pip)
    [[ -z $1 ]] || pip=("$1")
    shift
    out=$(PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 \
        "$VENV/bin/python" "${pip[@]}" --quiet --no-input --disable-pip-version-check --no-cache-dir install "$@" 2>&1) && return
    # pip's last line is often a bare repetition: the first ERROR says more, and why no index answered says most.
    printf '%s\n' "$out"
    { grep -m 1 -oE "connection broken by .*'" <<<"$out" || grep -m 1 '^ERROR: ' <<<"$out"; } || true
    return 1
}

# launcher BASE: the command's text for an hpcli whose code and venv lie in BASE.
launcher() {
    printf '#!/bin/sh\n# hpcli of this cluster: written by hpcli.\n'
    printf 'PYTHONPATH=%q PYTHONSAFEPATH=1 exec %q -m hpcli "$@"\n' "$1/code" "$1/venv/bin/python"
}
