# shellcheck shell=bash
# Debian's packages: where they come from, apt without questions, and services that stay off while packages change.
# Sourced after base.sh, with node.conf read. HPCLI_OFFLINE: a folder whose debs/ are the only packages there are.

POLICY=$R/usr/sbin/policy-rc.d
APT=$VAR/apt
FROM=()

# Where packages come from: the system's own sources, one mirror, or a folder.
choose_source() {
    local list=
    if [[ -n ${HPCLI_OFFLINE-} ]]; then
        make_repository
        list="deb [trusted=yes] copy:$APT/repository ./"
    elif [[ -n ${NODE[HPCLI_MIRROR]-} ]]; then
        list="deb ${NODE[HPCLI_MIRROR]} $(suite) main"
    fi
    [[ -n $list ]] || return 0
    mkdir -p "$APT/lists/partial"
    printf '%s\n' "$list" >"$APT/sources.list"
    FROM=(-o "Dir::Etc::sourcelist=$APT/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$APT/lists")
    [[ -z ${HPCLI_OFFLINE-} ]] || refresh
}

# Testing and unstable share one os-release; packages of that age are unstable's.
suite() {
    if [[ $(cat "$R/etc/debian_version" 2>/dev/null) == */sid ]]; then echo sid && return; fi
    sed -n 's/^VERSION_CODENAME=//p' "$R/etc/os-release"
}

# An index of the folder, so that apt takes from it what this machine needs and nothing else.
make_repository() {
    local repository=$APT/repository deb debs=("$HPCLI_OFFLINE"/debs/*.deb)
    [[ -e ${debs[0]} ]] || die "apt-get: found no packages in $HPCLI_OFFLINE/debs, expected *.deb"
    rm -rf "$repository"
    mkdir -p "$repository"
    for deb in "${debs[@]}"; do
        ln -s "$(readlink -f "$deb")" "$repository/${deb##*/}"
        dpkg-deb -f "$deb" || die "dpkg-deb: $deb: not a package"
        printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "${deb##*/}" "$(stat -L -c %s "$deb")" "$(sha256sum <"$deb" | cut -c1-64)"
    done >"$repository/Packages"
}

apt() {
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o Acquire::Retries=2 "${FROM[@]}" "$@"
}

# A refresh that could not reach its source is a failure; apt-get itself calls that a warning.
refresh() {
    local out
    out=$(apt -o APT::Update::Error-Mode=any update 2>&1) || { printf '%s\n' "$out" | blame && return 1; }
}

# The line that tells most comes last: who needs what is not to be had, else what apt-get calls its error.
blame() {
    local out line && out=$(cat)
    printf '%s\n' "$out"
    line=$(grep -E 'Depends: .* not installable' <<<"$out" | tail -n 1) || line=$(grep -E ' Depends:? ' <<<"$out" | tail -n 1) ||
        line=$(grep -E '^E: ' <<<"$out" | grep -v 'Some index files' | tail -n 1) || return 0
    line=${line#"${line%%[![:space:]0-9.]*}"}
    [[ $line != *' Depends '* ]] || line+=', found no such package'
    printf '%s\n' "$line"
}

# Packages ask this file before they start a service. Should we be killed, it lets everything pass again by itself.
deny_services() {
    [[ ! -e $POLICY ]] || grep -qs '^# hpcli' "$POLICY" || mv "$POLICY" "$POLICY.saved"
    printf '#!/bin/sh\n# hpcli\nkill -0 %d 2>/dev/null && exit 101\n[ ! -x %s ] || exec %s "$@"\n' \
        $$ "$POLICY.saved" "$POLICY.saved" >"$POLICY"
    chmod 755 "$POLICY"
}

put_back() {
    rm -f "$POLICY"
    [[ ! -e $POLICY.saved ]] || mv "$POLICY.saved" "$POLICY"
}
