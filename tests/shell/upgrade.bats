#!/usr/bin/env bats
# Going from one release to another on a machine: unpack and back, Slurm's packages, the dump of the database. In a root of
# their own (HPCLI_ROOT), with stand-ins for apt, dpkg and the database.
# shellcheck disable=SC2016,SC2030,SC2031 # stand-ins expand their own variables; each test has its own environment
# shellcheck disable=SC2154 # bats sets these
bats_require_minimum_version 1.5.0

setup() {
    HERE=$BATS_TEST_TMPDIR/scripts
    export HPCLI_ROOT=$BATS_TEST_TMPDIR/root HPCLI_PAUSE=0 CALLS=$BATS_TEST_TMPDIR/calls
    BIN=$BATS_TEST_TMPDIR/bin
    BASE=$HPCLI_ROOT/opt/hpcli
    cp -r "$BATS_TEST_DIRNAME/../../lifecycle-scripts" "$HERE"
    mkdir -p "$BIN" "$HPCLI_ROOT"/{etc/hpcli,etc/slurm,var/lib,usr/sbin,usr/lib/tmpfiles.d,opt}
    : >"$CALLS"
    conf compute
    PATH=$BIN:$PATH
}

conf() { printf 'HPCLI_CLUSTER=lab\nHPCLI_NODE=c1\nHPCLI_ROLE=%s\nHPCLI_SLURM=22.05\n%s\n' "$1" "${2-}" >"$HPCLI_ROOT/etc/hpcli/node.conf"; }

program() { printf '#!/bin/bash\n%s\n' "$2" >"$BIN/$1" && chmod +x "$BIN/$1"; }

# A release's archive.
release() {
    local folder=$BATS_TEST_TMPDIR/release.$1
    mkdir -p "$folder"/{lifecycle,code}
    printf '%s\n' "$1" | tee "$folder/lifecycle/which" >"$folder/code/which"
    tar -czf "$BATS_TEST_TMPDIR/$1.tgz" -C "$folder" lifecycle code
}

unpack() { release "$1" && bash -s -- "$BATS_TEST_TMPDIR/$1.tgz" "$1" <"$HERE/unpack"; }

# What is in place, and what is kept.
present() { cat "$BASE"/{release,code/which,lifecycle/which} | sort -u | paste -sd' '; }
kept() { cat "$BASE"/previous/{release,code/which,lifecycle/which} | sort -u | paste -sd' '; }

@test "the release before is kept whole, and put back" {
    unpack one
    [ ! -e "$BASE/previous" ]
    unpack two
    [ "$(present) $(kept)" = 'two one' ]
    run bash "$HERE/unpack" back two
    [ "$status" = 0 ]
    [ "$(present) $(kept)" = 'one one' ]
    [ -z "$(find "$BASE" -name 'incoming.*')" ]
}

@test "the same release again keeps what was before it" {
    unpack one
    unpack two
    unpack two
    [ "$(present) $(kept)" = 'two one' ]
}

@test "a release that is half there is not kept, and going back from it works" {
    unpack one
    unpack two
    rm -r "$BASE/release" "$BASE/code"
    run bash "$HERE/unpack" back two
    [ "$(present)" = one ]
    rm -r "$BASE/release" "$BASE/lifecycle"
    unpack three
    [ "$(present) $(kept)" = 'three one' ]
}

@test "where another release is in place nothing goes back, and without one before it is an error" {
    unpack one
    unpack two
    run bash "$HERE/unpack" back three
    [ "$status $(present)" = '0 two' ]
    rm -r "$BASE/previous"
    run bash "$HERE/unpack" back two
    [ "$status $(present)" = '1 two' ]
    [[ $output == 'unpack: found no release in '*'/previous, expected the one before two' ]]
}

@test "an archive that is cut short changes nothing" {
    unpack one
    release two
    head -c 100 "$BATS_TEST_TMPDIR/two.tgz" >"$BATS_TEST_TMPDIR/cut.tgz"
    run bash -s -- "$BATS_TEST_TMPDIR/cut.tgz" two <"$HERE/unpack"
    [ "$status $(present)" = '1 one' ]
    [ ! -e "$BASE/previous" ]
}

OLD=22.05.8-4+deb12u2
NEW=22.05.8-4+deb12u3

# Slurm's packages at $OLD, until apt-get installs others; services that run are files in $RUNNING.
slurm_stand_ins() {
    export HAVE=$BATS_TEST_TMPDIR/have RUNNING=$BATS_TEST_TMPDIR/running
    mkdir -p "$RUNNING"
    echo "$OLD" >"$HAVE"
    program dpkg-query 'v=$(<"$HAVE")
        printf "installed\tslurm-wlm\tslurmd\t%s\ninstalled\tmunge\tmunge\t0.5\nconfig-files\tslurm-wlm\tslurmctld\t%s\ninstalled\tslurm-wlm\tlibslurm38\t%s\n" "$v" "$v" "$v"'
    program dpkg 'echo "dpkg $*" >>"$CALLS"'
    program apt-get 'echo "apt-get $*" >>"$CALLS"
        [[ $* != *" install "* ]] || { [[ -e $RUNNING/hpcli-agent || -e $RUNNING/slurmd ]] && echo "installs beside running daemons" >>"$CALLS"; }
        [[ $* != *"--download-only"* && $* == *slurmd=* ]] || exit 0
        "$HPCLI_ROOT/usr/sbin/policy-rc.d" || echo "denied $?" >>"$CALLS"
        [[ ! -e $BATS_TEST_TMPDIR/no_room ]] || { echo "E: You don'"'"'t have enough free space" >&2; exit 100; }
        [[ $* =~ slurmd=([^ ]*) ]] && echo "${BASH_REMATCH[1]}" >"$HAVE"'
    program apt-cache 'printf "%s:\n  Installed: %s\n  Candidate: %s\n  Version table:\n     %s 500\n        500 http://mirror bookworm/main\n *** %s 100\n        100 /var/lib/dpkg/status\n" \
        "${*: -1}" "$(<"$HAVE")" "$NEW" "$NEW" "$(<"$HAVE")"'
    export NEW
    printf 'munge\tmunge\tno\t/x\nslurmd\troot\tno\t/x\nhpcli-agent\troot\tyes\t/x\n' >"$HPCLI_ROOT/etc/hpcli/services.tsv"
    touch "$RUNNING"/{slurmd,hpcli-agent}
    cat >"$HERE/service" <<'SERVICE'
#!/bin/bash
[[ $1 == status ]] || echo "$1 $2" >>"$CALLS"
case $1 in
    status) [[ -e $RUNNING/$2 ]] ;;
    start) : >"$RUNNING/$2" ;;
    stop) [[ ! -e $RUNNING/kill_at_$2 ]] || kill -KILL "$(ps -o ppid= -p $PPID | tr -d " ")" $PPID; rm -f "$RUNNING/$2" ;;
esac
SERVICE
}

@test "what is installed and to be had, of Slurm alone" {
    slurm_stand_ins
    run bash "$HERE/upgrade" look
    [ "$status" = 0 ]
    [ "${lines[0]}" = "slurmd	$OLD	$NEW	$NEW,$OLD" ]
    [ "${lines[1]}" = "libslurm38	$OLD	$NEW	$NEW,$OLD" ]
    [ "${#lines[@]}" = 2 ]
}

@test "agent and slurmd stop, packages change, slurmd and agent start; nothing starts by itself" {
    slurm_stand_ins
    run bash "$HERE/upgrade" packages "$NEW"
    [ "$status" = 0 ]
    run cat "$CALLS"
    [ "${lines[0]} ${lines[1]}" = 'stop hpcli-agent stop slurmd' ]
    [ "${lines[-2]} ${lines[-1]}" = 'start slurmd start hpcli-agent' ]
    [[ $output == *"slurmd=$NEW libslurm38=$NEW"*'denied 101'* && $output != *slurmctld=* && $output != *beside* ]]
    [ ! -e "$HPCLI_ROOT/usr/sbin/policy-rc.d" ]
    [ ! -e "$HPCLI_ROOT/var/lib/hpcli/upgrade.underway" ]
}

@test "a failure starts again what ran, says why, and is still under way" {
    slurm_stand_ins
    : >"$BATS_TEST_TMPDIR/no_room"
    run bash "$HERE/upgrade" packages "$NEW"
    [ "$status" = 1 ]
    [[ $output == *"E: You don't have enough free space"* ]]
    [ -e "$RUNNING/slurmd" ] && [ -e "$RUNNING/hpcli-agent" ]
    run bash "$HERE/upgrade" look
    [ "${lines[0]}" = underway ]
}

@test "one that was killed is finished by the next, which knows what ran" {
    slurm_stand_ins
    : >"$RUNNING/kill_at_slurmd"
    run -137 bash "$HERE/upgrade" packages "$NEW"
    rm "$RUNNING"/*
    run bash "$HERE/upgrade" packages "$NEW"
    [ "$status" = 0 ]
    [ -e "$RUNNING/slurmd" ] && [ -e "$RUNNING/hpcli-agent" ]
}

@test "what did not run is not started" {
    slurm_stand_ins
    rm "$RUNNING"/*
    run bash "$HERE/upgrade" packages "$NEW"
    [ "$status $(grep -c start "$CALLS")" = '0 0' ]
}

@test "a slurmctld that runs is not touched" {
    slurm_stand_ins
    printf 'slurmctld\tslurm\tno\t/x\n' >>"$HPCLI_ROOT/etc/hpcli/services.tsv"
    : >"$RUNNING/slurmctld"
    run bash "$HERE/upgrade" packages "$NEW"
    [ "$status $output" = '1 upgrade: found slurmctld running, expected it to be stopped' ]
    [ "$(cat "$HAVE")" = "$OLD" ]
}

@test "fetching stops nothing" {
    slurm_stand_ins
    run bash "$HERE/upgrade" fetch "$NEW"
    [ "$status" = 0 ]
    [[ $(cat "$CALLS") == *--download-only*"slurmd=$NEW"* ]]
    run ! grep stop "$CALLS"
}

@test "a site's own Slurm, a version that is none, and a word that is none are refused" {
    slurm_stand_ins
    run bash "$HERE/upgrade" packages '; reboot'
    [ "$status" = 1 ]
    run bash "$HERE/upgrade" now
    [ "$output" = 'upgrade: found now, expected look, fetch or packages' ]
    conf compute HPCLI_ADOPTED=yes
    run bash "$HERE/upgrade" look
    [[ $status == 1 && $output == *"somebody else's"* ]]
}

# A database that tells its arguments and, where there is one, its options file.
database_stand_in() {
    conf controller "HPCLI_ACCOUNTING=$1"
    printf 'StorageLoc=slurm_acct_db\n%s\n' "${2-}" >"$HPCLI_ROOT/etc/slurm/slurmdbd.conf"
    program mariadb-dump 'echo "$*" >>"$CALLS"
        [[ $1 != --defaults-file=* ]] || { stat -c %a "${1#*=}" && cat "${1#*=}"; } >>"$CALLS"
        [[ ! -e $BATS_TEST_TMPDIR/down ]] || { echo "mariadb-dump: Got error: 2002: Can'"'"'t connect" >&2; exit 2; }
        echo "CREATE TABLE job_table"
        [[ -e $BATS_TEST_TMPDIR/cut ]] || echo "-- Dump completed on 2026-01-01"'
}

@test "the embedded database is dumped through its socket, and three dumps are kept" {
    database_stand_in embedded
    for _ in 1 2 3 4; do last=$(bash "$HERE/dump"); done
    [[ $last == "$HPCLI_ROOT"/var/lib/hpcli/dumps/slurm_acct_db-*.sql.gz ]]
    [ "$(gzip -cd "$last" | head -n 1) $(stat -c %a "$last" "${last%/*}" | paste -sd' ')" = 'CREATE TABLE job_table 600 700' ]
    [ "$(find "${last%/*}" -type f | wc -l)" = 3 ]
    [[ $(tail -n 1 "$CALLS") == *--socket=*--single-transaction*'--databases slurm_acct_db' ]]
}

@test "an external one is asked with a password that stands in a file for root alone" {
    database_stand_in external $'StorageHost=db.site\nStoragePort=3307\nStorageUser=slurm\nStoragePass=a"b\\c d#e'
    run bash "$HERE/dump"
    [ "$status" = 0 ]
    run cat "$CALLS"
    [[ ${lines[0]} != *'a"b'* ]]
    [ "${lines[1]}" = 600 ]
    [[ $output == *'host="db.site"'*port=3307*'user="slurm"'*'password="a\"b\\c d#e"'* ]]
    [ -z "$(find "$HPCLI_ROOT/var/lib/hpcli/dumps" -name '.*' -type f)" ]
}

@test "a dump that failed or ends early is none, and says why" {
    database_stand_in embedded
    : >"$BATS_TEST_TMPDIR/down"
    run bash "$HERE/dump"
    [ "$status $output" = "1 dump: slurm_acct_db: mariadb-dump: Got error: 2002: Can't connect" ]
    rm "$BATS_TEST_TMPDIR/down"
    : >"$BATS_TEST_TMPDIR/cut"
    run bash "$HERE/dump"
    [[ $status == 1 && $output == *'not whole'* ]]
    [ -z "$(find "$HPCLI_ROOT/var/lib/hpcli/dumps" -type f)" ]
}

@test "without accounting there is nothing to dump" {
    conf controller HPCLI_ACCOUNTING=none
    run bash "$HERE/dump"
    [ "$status$output" = 0 ]
}
