#!/usr/bin/env bash
# Make this machine what /etc/hpcli/node.conf says:  run.sh [--again] [--offline DIR]   (root)
# Runs the numbered steps of common/, then those of the machine's role; starts no service. Prints `step NAME begin`, then
# `step NAME ok SECONDS`, `step NAME same` or `step NAME failed CODE LOGFILE`. A later run goes on where this one ended;
# --again forgets what was done. --offline: packages come from DIR/debs and DIR/wheels, nothing from a network.
set -euo pipefail
shopt -s nullglob

HERE=$(cd "${BASH_SOURCE[0]%/*}" && pwd -P)
# shellcheck source=lifecycle-scripts/lib/base.sh
. "$HERE/lib/base.sh"
STEPS=$VAR/steps
UNDERWAY=$STEPS/underway
export HPCLI_OFFLINE=

main() {
    local again='' path step
    while (($#)); do
        case $1 in
            --again) again=yes ;;
            --offline) (($# > 1)) || die "lifecycle: --offline: found no folder" && HPCLI_OFFLINE=$2 && shift ;;
            *) die "lifecycle: found the argument $1, expected --again or --offline DIR" ;;
        esac
        shift
    done
    ((EUID == 0)) || [[ -n $R ]] || die "lifecycle: needs root"
    [[ -z $HPCLI_OFFLINE || -d $HPCLI_OFFLINE ]] || die "lifecycle: --offline: found no folder $HPCLI_OFFLINE"
    read_node_conf
    mkdir -p "$STEPS" "$LOGS/lifecycle" || die "lifecycle: $STEPS: not made"
    alone
    [[ -z $again ]] || find "$STEPS" -mindepth 1 -delete
    [[ ! -s $UNDERWAY ]] || printf 'lifecycle: the run before this one ended in %s: going on from there\n' "$(<"$UNDERWAY")" >&2
    local folders=(common "${NODE[HPCLI_ROLE]}")
    ! adopted || folders=(adopted)
    for path in "${folders[@]/#/$HERE/}"; do
        for step in "$path"/[0-9]*; do run_step "${step#"$HERE/"}"; done
    done
    rm -f "$UNDERWAY"
    # From now on this machine's own start may start its services.
    : >"$VAR/ready"
}

# One run at a time. Steps inherit the lock: what an interrupted run left working is waited for.
alone() {
    exec 9>>"$VAR/run.lock"
    flock -n 9 || { echo 'lifecycle: waiting for another run to end' >&2 && flock -w 900 9; } ||
        die "lifecycle: another run has been at work for 15 minutes on this machine: see ps"
}

run_step() {
    local name=$1 log=$LOGS/lifecycle/${1//\//-}.log record=$STEPS/${1//\//-} now code=0 began=$EPOCHREALTIME
    printf 'step %s begin\n' "$name"
    now=$(digest "$name")
    if [[ -r $record && $(<"$record") == "$now" ]] && bash "$HERE/$name" holds >/dev/null 2>&1; then
        printf 'step %s same\n' "$name"
        return
    fi
    rm -f "$record"
    printf '%s\n' "$name" >"$UNDERWAY" || die "lifecycle: $name: $UNDERWAY: not written"
    bash "$HERE/$name" work >"$log" 2>&1 </dev/null || code=$?
    ((code == 0)) || failed "$name" "$code" "$log"
    printf '%s\n' "$now" >"$record" || die "lifecycle: $name: $record: not written"
    printf 'step %s ok %s\n' "$name" "$(seconds_since "$began")"
}

# What a step's outcome depends on.
digest() {
    { bash "$HERE/$1" inputs && cat "$HERE/$1" "$HERE"/lib/{base,step}.sh; } | sha256sum || true
}

failed() {
    local name=$1 code=$2 log=$3 words
    words=$(last_line "$(tail -n 20 "$log" 2>/dev/null)")
    printf 'step %s failed %d %s\n' "$name" "$code" "$log"
    printf 'lifecycle: %s: %s (log: %s)\n' "$name" "${words:-ended with $code}" "$log" >&2
    exit 1
}

seconds_since() {
    local us=$((${EPOCHREALTIME/[.,]/} - ${1/[.,]/}))
    printf '%d.%02d' $((us / 1000000)) $((us % 1000000 / 10000))
}

main "$@"
