# shellcheck shell=bash
# Services as systemd's units. Sourced by `service` after base.sh.

unit_call() {
    local out
    out=$(systemctl "$1" "$2.service" 2>&1) && return
    printf '%s\n' "$out" >&2
    out=$("$HERE/last-words" "$2" 2>/dev/null || true)
    die "service $2: systemctl $1 failed${out:+: $out}"
}

# A unit that ended too often is tried again when a person asks for it.
unit_start() {
    systemctl reset-failed "$1.service" >/dev/null 2>&1 || true
    unit_call start "$1"
}
unit_stop() { unit_call stop "$1"; }
unit_reload() { unit_call reload "$1"; }

unit_status() {
    if systemctl is-active --quiet "$1.service"; then printf '%s running\n' "$1" && return; fi
    printf '%s stopped\n' "$1"
    die "service $1: found it stopped, expected it to run"
}
