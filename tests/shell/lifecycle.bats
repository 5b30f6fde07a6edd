#!/usr/bin/env bats
# The lifecycle scripts in a root of their own (HPCLI_ROOT), with stand-ins for programs that would change the machine.
# shellcheck disable=SC2016,SC2030,SC2031 # hostile text is meant as it stands; each test has its own environment
# shellcheck disable=SC2154,SC1091 # bats sets these; the scripts are copies
bats_require_minimum_version 1.5.0

setup() {
    HERE=$BATS_TEST_TMPDIR/scripts
    export HPCLI_ROOT=$BATS_TEST_TMPDIR/root HPCLI_PAUSE=0 CALLS=$BATS_TEST_TMPDIR/calls
    BIN=$BATS_TEST_TMPDIR/bin
    cp -r "$BATS_TEST_DIRNAME/../../lifecycle-scripts" "$HERE"
    mkdir -p "$BIN" "$HPCLI_ROOT"/{etc/hpcli,etc/slurm,var/lib,opt/hpcli,dev,proc/self}
    printf 'root:x:0:0::/root:/bin/sh\nmallory:x:5001:100::/:/bin/sh\n' >"$HPCLI_ROOT/etc/passwd"
    printf 'root:x:0:\nusers:x:100:\n' >"$HPCLI_ROOT/etc/group"
    printf 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n' \
        >"$HPCLI_ROOT/etc/os-release"
    : >"$HPCLI_ROOT/proc/self/mounts"
    : >"$CALLS"
    conf compute
    PATH=$BIN:$PATH
}

conf() { printf 'HPCLI_CLUSTER=lab\nHPCLI_NODE=c1\nHPCLI_ROLE=%s\nHPCLI_SLURM=22.05\n%s\n' "$1" "${2-}" >"$HPCLI_ROOT/etc/hpcli/node.conf"; }

program() { printf '#!/bin/bash\n%s\n' "$2" >"$BIN/$1" && chmod +x "$BIN/$1"; }

step() { run bash "$HERE/$1" "${2-work}"; }

# run.sh with steps of the test's own.
only_steps() {
    rm "$HERE"/{common,controller,compute}/*
    step_is 10-first 'echo first >>"$CALLS"'
}

step_is() {
    { printf '#!/usr/bin/env bash\nset -euo pipefail\n. "${BASH_SOURCE[0]%%/*}/../lib/step.sh"\n' &&
        printf 'work() { %s; }\n%s\nmain "$@"\n' "$2" "${3-}"; } >"$HERE/common/$1"
}

@test "a step runs once, and is the same until its inputs, its text or the machine change" {
    only_steps
    step_is 20-second 'echo second >>"$CALLS"; touch "$R/made"' 'inputs() { table groups.tsv; }; holds() { [[ -e $R/made ]]; }'
    run "$HERE/run.sh"
    [ "$status" = 0 ]
    [[ ${lines[0]} == 'step common/10-first begin' && ${lines[1]} =~ ^'step common/10-first ok '[0-9]+\.[0-9][0-9]$ ]]
    run "$HERE/run.sh"
    [ "${lines[1]} ${lines[3]}" = 'step common/10-first same step common/20-second same' ]
    echo 'lab	5000' >"$HPCLI_ROOT/etc/hpcli/groups.tsv"
    run "$HERE/run.sh"
    [[ ${lines[1]} == *same && ${lines[3]} == *' ok '* ]]
    rm "$HPCLI_ROOT/made"
    run "$HERE/run.sh"
    [[ ${lines[1]} == *same && ${lines[3]} == *' ok '* ]]
    run "$HERE/run.sh" --again
    [[ ${lines[1]} == *' ok '* && ${lines[3]} == *' ok '* ]]
    [ "$(sort "$CALLS" | uniq -c | tr -s ' \n' ' ')" = ' 2 first 4 second ' ]
}

@test "a failure names the step, the command, the cause and the log, and nothing runs after it" {
    only_steps
    step_is 20-second 'must bash -c "echo talk; echo the disk is gone >&2; exit 3"'
    step_is 30-third 'echo third >>"$CALLS"'
    run --separate-stderr "$HERE/run.sh"
    [ "$status" = 1 ]
    log=$HPCLI_ROOT/var/log/hpcli/lifecycle/common-20-second.log
    [ "${lines[-1]}" = "step common/20-second failed 1 $log" ]
    [ "${stderr_lines[-1]}" = "lifecycle: common/20-second: bash: the disk is gone (log: $log)" ]
    grep -q talk "$log"
    run ! grep third "$CALLS"
    [ ! -e "$HPCLI_ROOT/var/lib/hpcli/ready" ]
}

@test "a command that fails by itself is named too" {
    only_steps
    step_is 20-second 'false; true'
    run --separate-stderr "$HERE/run.sh"
    [[ ${stderr_lines[-1]} == 'lifecycle: common/20-second: false: ended with 1 (log: '* ]]
}

@test "the run after a failure says where it goes on, and does not repeat what was done" {
    only_steps
    step_is 20-second '[[ -e $R/mended ]] || die "not yet"'
    run "$HERE/run.sh"
    touch "$HPCLI_ROOT/mended"
    run --separate-stderr "$HERE/run.sh"
    [ "$status" = 0 ]
    [ "${stderr_lines[0]}" = 'lifecycle: the run before this one ended in common/20-second: going on from there' ]
    [ "${lines[1]}" = 'step common/10-first same' ]
    run --separate-stderr "$HERE/run.sh"
    [ -z "$stderr" ]
}

@test "a step that failed for other inputs is not the same when the old ones are back" {
    only_steps
    step_is 20-second '[[ $(table groups.tsv) != bad ]]' 'inputs() { table groups.tsv; }'
    for text in good bad good; do
        echo "$text" >"$HPCLI_ROOT/etc/hpcli/groups.tsv"
        run "$HERE/run.sh"
    done
    [[ ${lines[-1]} == 'step common/20-second ok '* ]]
}

@test "a run that was killed is no run" {
    only_steps
    step_is 20-second 'touch "$R/half"; [[ -e $R/mended ]] || kill -KILL $PPID $$'
    run "$HERE/run.sh"
    [ "$status" = 137 ]
    touch "$HPCLI_ROOT/mended"
    run "$HERE/run.sh"
    [ "$status" = 0 ]
    [[ $output == *'ended in common/20-second'*'20-second ok '* ]]
}

@test "two runs at once: the second waits, then has nothing to do" {
    only_steps
    step_is 20-second 'echo second >>"$CALLS"; sleep 0.5'
    "$HERE/run.sh" >"$BATS_TEST_TMPDIR/one" &
    until grep -q second "$CALLS"; do sleep 0.05; done
    run "$HERE/run.sh"
    wait $!
    [ "$status" = 0 ]
    [[ $output == *'waiting for another run'*'10-first same'*'20-second same'* ]]
}

@test "node.conf is read, never run, and its role is one of three" {
    only_steps
    conf compute 'HPCLI_ADMIN=$(touch '"$BATS_TEST_TMPDIR"'/evil)`id`'
    run "$HERE/run.sh"
    [ "$status" = 0 ]
    [ ! -e "$BATS_TEST_TMPDIR/evil" ]
    conf king
    run "$HERE/run.sh"
    [ "$status" = 1 ]
    [ "$output" = 'node.conf: found HPCLI_ROLE=king, expected controller, login or compute' ]
}

dpkg_says() { program dpkg-query '[[ $* == *Status* ]] && { for p in "${@:4}"; do echo -n "'"$1"'=$p "; done; exit; }; echo '"$2"; }

@test "packages that are all there cost one question and no apt-get" {
    dpkg_says installed 22.05.8-4
    program apt-get 'echo apt-get >>"$CALLS"'
    step common/10-packages
    [ "$status" = 0 ]
    [ ! -s "$CALLS" ]
}

apt_stand_ins() {
    dpkg_says missing 22.05.8-4
    program dpkg true
    program apt-cache "echo '  Candidate: $1'"
    mkdir -p "$HPCLI_ROOT/usr/sbin"
}

@test "another Slurm than wanted is refused before anything is installed" {
    apt_stand_ins 24.11.5-4
    program apt-get 'echo "$@" >>"$CALLS"'
    step common/10-packages
    [ "$status" = 1 ]
    [ "${lines[-1]}" = 'slurm-client: found Slurm 24.11.5 in the packages of Debian GNU/Linux 12 (bookworm), expected 22.05' ]
    run ! grep ' install ' "$CALLS"
    [ ! -e "$HPCLI_ROOT/usr/sbin/policy-rc.d" ]
}

@test "a network that is gone is tried three times, and apt's own words come last" {
    apt_stand_ins 22.05.8-4
    program apt-get 'echo try >>"$CALLS"; echo "E: Failed to fetch http://mirror/x  Could not resolve mirror" >&2; exit 100'
    step common/10-packages
    [ "$status" = 1 ]
    [ "$(wc -l <"$CALLS")" = 3 ]
    [[ ${lines[-1]} == 'refresh: E: Failed to fetch http://mirror/x  Could not resolve mirror (tried three times)' ]]
}

@test "a network that comes back is good enough" {
    apt_stand_ins 22.05.8-4
    program apt-get 'echo "$*" >>"$CALLS"; [[ $(wc -l <"$CALLS") -gt 2 ]] || exit 100'
    step common/10-packages
    [ "$status" = 0 ]
    [[ $(tail -n 1 "$CALLS") == *' install '*munge*slurmd* ]]
    run ! grep -E 'slurmctld|mariadb|nfs-common|adopt' "$CALLS"
}

@test "each role gets its own packages" {
    apt_stand_ins 22.05.8-4
    program apt-get 'echo "$*" >>"$CALLS"'
    conf controller $'HPCLI_ACCOUNTING=embedded\nHPCLI_MIRROR=http://mirror/debian'
    echo '/home	nfs	server:/home	' >"$HPCLI_ROOT/etc/hpcli/mounts.tsv"
    step common/10-packages
    [[ $(grep ' install ' "$CALLS") == *slurmctld*slurmdbd*mariadb-server*nfs-common* ]]
    run ! grep -w slurmd "$CALLS"
    [ "$(cat "$HPCLI_ROOT/var/lib/hpcli/apt/sources.list")" = 'deb http://mirror/debian bookworm main' ]
}

@test "/etc/hosts keeps its place on disk, its own lines, and one block" {
    printf '127.0.0.1 localhost\n# end' >"$HPCLI_ROOT/etc/hosts"
    inode=$(stat -c %i "$HPCLI_ROOT/etc/hosts")
    mkdir -p "$HPCLI_ROOT/var/lib/hpcli"
    for names in '10.0.0.1 ctl' $'10.0.0.1 ctl\n10.0.0.2 c1'; do
        printf '%s\n' "$names" >"$HPCLI_ROOT/etc/hpcli/hosts"
        step common/20-hosts
        step common/20-hosts
        [ "$status" = 0 ]
        step common/20-hosts holds
        [ "$status" = 0 ]
    done
    [ "$(grep -c 'hpcli begin' "$HPCLI_ROOT/etc/hosts")" = 1 ]
    [ "$(grep -c ctl "$HPCLI_ROOT/etc/hosts")" = 1 ]
    : >"$HPCLI_ROOT/etc/hpcli/hosts"
    step common/20-hosts
    [ "$(cat "$HPCLI_ROOT/etc/hosts")" = $'127.0.0.1 localhost\n# end' ]
    [ "$(stat -c %i "$HPCLI_ROOT/etc/hosts")" = "$inode" ]
}

@test "users and groups get their numbers; a group of his own if none is named" {
    for name in groupadd useradd usermod; do program $name "echo $name \"\$@\" >>\$CALLS"; done
    printf 'lab\t5000\n' >"$HPCLI_ROOT/etc/hpcli/groups.tsv"
    printf 'ann\t5002\t\tlab,users\t\nbob\t5003\tlab\t\t\n' >"$HPCLI_ROOT/etc/hpcli/users.tsv"
    step common/30-users
    [ "$status" = 0 ]
    [ "$(grep -c groupadd "$CALLS")" = 2 ]
    grep -qx 'groupadd --gid 5002 ann' "$CALLS"
    grep -qE 'useradd --uid 5002 --gid ann .*ann$' "$CALLS"
    grep -qx 'usermod --append --groups lab,users ann' "$CALLS"
    grep -qE 'useradd --uid 5003 --gid lab .*bob$' "$CALLS"
}

@test "a number or name that is taken changes nothing" {
    for name in groupadd useradd; do program $name 'echo changed >>$CALLS'; done
    printf 'lab\t5000\n' >"$HPCLI_ROOT/etc/hpcli/groups.tsv"
    printf 'ann\t5001\tlab\t\t\n' >"$HPCLI_ROOT/etc/hpcli/users.tsv"
    step common/30-users
    [ "$status" = 1 ]
    [ "$output" = 'user ann: found its number 5001 taken by mallory here, expected it to be free' ]
    printf 'mallory\t7000\tlab\t\t\n' >"$HPCLI_ROOT/etc/hpcli/users.tsv"
    step common/30-users
    [ "$output" = 'user mallory: found the number 5001 here, expected 7000' ]
    printf 'lab\t100\n' >"$HPCLI_ROOT/etc/hpcli/groups.tsv"
    step common/30-users
    [ "$output" = 'group lab: found its number 100 taken by users here, expected it to be free' ]
    [ ! -s "$CALLS" ]
}

@test "mounts stand in fstab once; a server that does not answer is named" {
    printf '/home\tnfs\tfiles.site:/export/home\tnoatime\n/scratch\tbind\t/data/scratch\t\n/same\tbind\t/same\t\n' \
        >"$HPCLI_ROOT/etc/hpcli/mounts.tsv"
    echo 'UUID=1 / ext4 defaults 0 1' >"$HPCLI_ROOT/etc/fstab"
    program mount 'echo "mount.nfs: Connection timed out" >&2; exit 32'
    step common/40-mounts
    [ "$status" = 1 ]
    [ "${lines[-1]}" = 'mount_nfs: /home from server files.site: mount.nfs: Connection timed out (tried three times)' ]
    [ "$(grep -v '^#' "$HPCLI_ROOT/etc/fstab")" = 'UUID=1 / ext4 defaults 0 1
files.site:/export/home /home nfs noatime,_netdev,nofail 0 0
/data/scratch /scratch none bind,nofail 0 0' ]
    printf 'x /home nfs rw 0 0\nx /scratch none rw 0 0\n' >"$HPCLI_ROOT/proc/self/mounts"
    step common/40-mounts
    [ "$status" = 0 ]
    step common/40-mounts holds
    [ "$status" = 0 ]
}

@test "homes are made once, and keys stand beside the user's own" {
    key=$(base64 -w0 <<<'ssh-ed25519 AAAA ann')
    printf 'ann\t5002\t\t\t%s\n' "$key" >"$HPCLI_ROOT/etc/hpcli/users.tsv"
    mkdir -p "$HPCLI_ROOT/home/ann/.ssh"
    echo 'ssh-rsa BBBB her own' >"$HPCLI_ROOT/home/ann/.ssh/authorized_keys"
    step common/45-homes
    step common/45-homes
    [ "$status" = 0 ]
    [ "$(grep -v '^#' "$HPCLI_ROOT/home/ann/.ssh/authorized_keys")" = $'ssh-rsa BBBB her own\nssh-ed25519 AAAA ann' ]
    [ "$(stat -c %a "$HPCLI_ROOT/home/ann/.ssh/authorized_keys")" = 600 ]
}

@test "pam_slurm_adopt goes in with its exceptions, only when it is there, and out again" {
    mkdir -p "$HPCLI_ROOT/etc/pam.d"
    echo '@include common-account' >"$HPCLI_ROOT/etc/pam.d/sshd"
    conf compute $'HPCLI_PAM_ADOPT=yes\nHPCLI_ADMIN=ops'
    mkdir -p "$HPCLI_ROOT"/usr/lib/x86_64-linux-gnu/security "$HPCLI_ROOT/lib/security"
    touch "$HPCLI_ROOT/usr/lib/x86_64-linux-gnu/security/pam_access.so"
    step compute/20-pam
    [ "$status" = 1 ]
    [ "$(cat "$HPCLI_ROOT/etc/pam.d/sshd")" = '@include common-account' ]
    # Debian's packages use both folders.
    touch "$HPCLI_ROOT/lib/security/pam_slurm_adopt.so"
    step compute/20-pam
    grep -qx 'account required pam_slurm_adopt.so' "$HPCLI_ROOT/etc/pam.d/sshd"
    [ "$(cat "$HPCLI_ROOT/etc/hpcli/pam-access.conf")" = $'+:root:ALL\n+:ops:ALL\n-:ALL:ALL' ]
    conf compute 'HPCLI_PAM_ADOPT=no'
    step compute/20-pam
    [ "$(cat "$HPCLI_ROOT/etc/pam.d/sshd")" = '@include common-account' ]
    [ ! -e "$HPCLI_ROOT/etc/hpcli/pam-access.conf" ]
}

@test "simulated GPUs are plain files beside real ones, and an instance is made once" {
    conf compute 'HPCLI_SIMULATED_GPUS=2'
    echo real >"$HPCLI_ROOT/dev/nvidia0"
    step common/70-gpus
    [ "$(cat "$HPCLI_ROOT/dev/nvidia0")" = real ]
    [ -f "$HPCLI_ROOT/dev/nvidia1" ]
    step common/80-instance
    first=$(cat "$HPCLI_ROOT/var/lib/hpcli/instance_id")
    step common/80-instance
    [ "$(cat "$HPCLI_ROOT/var/lib/hpcli/instance_id")" = "$first" ]
    [ "${#first}" = 36 ]
}

@test "units are enabled at once, and MariaDB's socket is off" {
    mkdir -p "$HPCLI_ROOT/run/systemd/system" "$HPCLI_ROOT/etc/tmpfiles.d"
    printf 'munge\nmariadb\nslurmctld\n' >"$HPCLI_ROOT/etc/hpcli/services.tsv"
    program systemctl 'echo "$*" >>$CALLS; [[ $1 != is-enabled || $3 == munge.service ]]'
    conf controller HPCLI_ACCOUNTING=embedded
    step common/90-units
    [ "$status" = 0 ]
    [ "$(grep -c '^enable' "$CALLS")" = 1 ]
    grep -qx 'enable mariadb.service slurmctld.service' "$CALLS"
    grep -qx 'disable --now mariadb.socket' "$CALLS"
    conf compute
    step common/90-units
    grep -qx 'd /run/hpcli/c1 0755 root root' "$HPCLI_ROOT/etc/tmpfiles.d/hpcli.conf"
}

# sent NAME=TEXT...: a tar for `files write`.
sent() {
    local folder=$BATS_TEST_TMPDIR/sent i=0 pair
    rm -rf "$folder" && mkdir "$folder"
    for pair in "$@"; do
        printf '%s\t%s\troot\troot\t%d\n' "${pair%%=*}" "${MODE-644}" $i >>"$folder/manifest.tsv"
        printf '%s' "${pair#*=}" >"$folder/$i"
        i=$((i + 1))
    done
    tar -cf "$BATS_TEST_TMPDIR/sent.tar" -C "$folder" .
}

@test "files are written with their modes, read back, and removed" {
    MODE=600 sent /etc/hpcli/secret=hush /etc/new/folder/file=
    run "$HERE/files" write "$BATS_TEST_TMPDIR/sent.tar"
    [ "$status" = 0 ]
    [ "$(stat -c %a "$HPCLI_ROOT/etc/hpcli/secret")" = 600 ]
    run "$HERE/files" read <<<$'/etc/hpcli/secret\n/nowhere\n/etc'
    [[ $output == /etc/hpcli/secret$'\t'600$'\t'*$'\t'aHVzaA== ]]
    [ "$(cat "$HPCLI_ROOT/var/lib/hpcli/ours.tsv")" = $'/etc/hpcli/secret\n/etc/new/folder/file' ]
    run "$HERE/files" remove <<<'/etc/hpcli/secret'
    [ ! -e "$HPCLI_ROOT/etc/hpcli/secret" ]
    [ "$(cat "$HPCLI_ROOT/var/lib/hpcli/ours.tsv")" = /etc/new/folder/file ]
}

@test "what lay in a file's place is kept once" {
    echo "the site's" >"$HPCLI_ROOT/etc/slurm/slurm.conf"
    for text in first second; do
        sent "/etc/slurm/slurm.conf=$text"
        run "$HERE/files" write "$BATS_TEST_TMPDIR/sent.tar"
    done
    [ "$(cat "$HPCLI_ROOT/etc/slurm/slurm.conf")" = second ]
    [ "$(cat "$HPCLI_ROOT/var/lib/hpcli/before/etc/slurm/slurm.conf")" = "the site's" ]
}

@test "one bad file, and none is written" {
    mkdir "$HPCLI_ROOT/etc/slurm/slurm.conf"
    sent /etc/hpcli/good=new /etc/slurm/slurm.conf=new
    run "$HERE/files" write "$BATS_TEST_TMPDIR/sent.tar"
    [ "$status" = 1 ]
    [ "$output" = 'files: /etc/slurm/slurm.conf: found a folder in its place' ]
    [ ! -e "$HPCLI_ROOT/etc/hpcli/good" ]
    [ -z "$(find "$HPCLI_ROOT" -name '*hpcli-new' -o -name 'incoming.*')" ]
}

@test "a file whose owner is still to come is root's alone until then" {
    mkdir -p "$BATS_TEST_TMPDIR/sent"
    printf '/etc/munge/munge.key\t640\tmunge\tmunge\t0\n' >"$BATS_TEST_TMPDIR/sent/manifest.tsv"
    echo key >"$BATS_TEST_TMPDIR/sent/0"
    tar -cf "$BATS_TEST_TMPDIR/sent.tar" -C "$BATS_TEST_TMPDIR/sent" .
    run "$HERE/files" write "$BATS_TEST_TMPDIR/sent.tar"
    [ "$(stat -c %a "$HPCLI_ROOT/etc/munge/munge.key")" = 600 ]
    step common/12-owners holds
    [ "$status" = 1 ]
    step common/12-owners
    [ "$output" = 'chown: /etc/munge/munge.key: found no user munge, expected the packages to make it' ]
    echo 'munge:x:1:1::/:/bin/sh' >>"$HPCLI_ROOT/etc/passwd"
    echo 'munge:x:1:' >>"$HPCLI_ROOT/etc/group"
    program chown 'echo "$@" >>$CALLS'
    step common/12-owners
    [ "$(cat "$CALLS")" = "munge:munge $HPCLI_ROOT/etc/munge/munge.key" ]
    [ "$(stat -c %a "$HPCLI_ROOT/etc/munge/munge.key")" = 640 ]
}

@test "facts are lines of key=value, and need nothing of ours" {
    run env -i PATH=/usr/bin:/bin HPCLI_ROOT="$HPCLI_ROOT" bash -s <"$HERE/facts"
    [ "$status" = 0 ]
    [[ $output == *os_id=debian$'\n'os_version=12$'\n'codename=bookworm$'\n'* ]]
    for key in arch hostname systemd python slurm disk_free_mib memory_mib cpus uid sudo epoch; do
        [ "$(grep -c "^$key=" <<<"$output")" = 1 ]
    done
}

@test "the line that tells most is chosen" {
    . "$HERE/lib/base.sh"
    run telling_line <<<$'[2026-01-01T00:00:00.000] error: first\nslurmctld: fatal: the cause\nslurmctld: bye'
    [ "$output" = 'fatal: the cause' ]
    run telling_line <<<$'error: one\nerror: two\nbye'
    [ "$output" = 'error: two' ]
    run telling_line <<<$'error: unrecognized key: X\nslurmctld: fatal: Unable to process configuration file'
    [ "$output" = 'error: unrecognized key: X' ]
    run telling_line <<<''
    [ -z "$output" ]
}

@test "a service without systemd starts once, is told by its start time, and stops" {
    printf 'thing\troot\tno\t/bin/sleep 600\n' >"$HPCLI_ROOT/etc/hpcli/services.tsv"
    run "$HERE/service" start thing
    [ "$status" = 0 ]
    read -r pid since <"$HPCLI_ROOT/run/hpcli/services/thing"
    run "$HERE/service" start thing
    run "$HERE/service" status thing
    [ "$output" = "thing running $pid" ]
    echo "$pid $((since + 1))" >"$HPCLI_ROOT/run/hpcli/services/thing"
    run "$HERE/service" stop thing
    kill -0 "$pid"
    echo "$pid $since" >"$HPCLI_ROOT/run/hpcli/services/thing"
    run "$HERE/service" stop all
    [ "$status" = 0 ]
    # Whoever inherits it may leave it as a zombie.
    run ! grep -q '^State:.[^Z]' "/proc/$pid/status"
    run "$HERE/service" status thing
    [ "$status" = 1 ]
}

@test "a service that ends at once says why, and holds up no other" {
    program liar 'echo "fatal: no such thing" >&2; exit 1'
    printf 'liar\troot\tno\t%s/liar\nthing\troot\tno\t/bin/sleep 600\n' "$BIN" >"$HPCLI_ROOT/etc/hpcli/services.tsv"
    sed -i 's,^is_up() {,&\n    [[ $1 != liar ]] || return 1,' "$HERE/lib/daemons.sh"
    run "$HERE/service" start all
    [ "$status" = 1 ]
    [ "$output" = "service liar: ended at its start: fatal: no such thing (log: $HPCLI_ROOT/var/log/hpcli/liar.out)" ]
    run "$HERE/service" status thing
    [ "$status" = 0 ]
    run "$HERE/service" stop all
}

# slurmd runs, but never listens: its port is nobody's.
slurmd_that_hangs() {
    program slurmd 'exec /bin/sleep 600'
    printf 'slurmd\troot\tno\t%s/slurmd -D\nthing\troot\tyes\t/bin/sleep 600\n' "$BIN" >"$HPCLI_ROOT/etc/hpcli/services.tsv"
    echo 'SlurmdPort=1' >"$HPCLI_ROOT/etc/slurm/slurm.conf"
}

@test "a slurmd that does not come up holds up nobody, and is named" {
    slurmd_that_hangs
    HPCLI_LONGEST_START=1 run "$HERE/service" start all
    [ "$status" = 1 ]
    [[ $output == 'service slurmd: found it not ready after 1 s: '* ]]
    run "$HERE/service" status thing
    [ "$status" = 0 ]
    run "$HERE/service" stop all
}

@test "a machine's own start waits for no slurmd" {
    slurmd_that_hangs
    mkdir -p "$HPCLI_ROOT/var/lib/hpcli" && touch "$HPCLI_ROOT/var/lib/hpcli/ready"
    run timeout 10 "$HERE/service" boot
    [ "$status" = 0 ]
    [ "${#lines[@]}" = 0 ]
    [ -s "$HPCLI_ROOT/run/hpcli/boot_id" ]
    [ -d "$HPCLI_ROOT/run/hpcli/c1" ]
    grep -qx 'sleep' "/proc/$(cut -d' ' -f1 "$HPCLI_ROOT/run/hpcli/services/slurmd")/comm"
    run "$HERE/service" stop all
    [ "$status" = 0 ]
}

@test "a stop of all does not wait behind a start, which then starts nothing more" {
    slurmd_that_hangs
    # One that others stand on is waited for before the next.
    sed -i 's/^slurmd/slurmctld/' "$HPCLI_ROOT/etc/hpcli/services.tsv"
    echo 'SlurmctldPort=1' >"$HPCLI_ROOT/etc/slurm/slurm.conf"
    "$HERE/service" start all 2>"$BATS_TEST_TMPDIR/said" &
    local starting=$! code=0
    until [ -e "$HPCLI_ROOT/run/hpcli/services/slurmctld" ]; do sleep 0.05; done
    run timeout 10 "$HERE/service" stop all
    [ "$status" = 0 ]
    wait "$starting" || code=$?
    [ "$code" = 1 ]
    grep -q 'service slurmctld: stopped while it started; service thing: not started, since all were stopped' "$BATS_TEST_TMPDIR/said"
    run "$HERE/service" status thing
    [ "$status" = 1 ]
}

@test "fragments of prolog and epilog run in order, and the first that fails decides" {
    etc=$BATS_TEST_TMPDIR/gate && mkdir -p "$etc/prolog.d" "$etc/epilog.d"
    cp "$HERE/slurm/prolog" "$HERE/slurm/epilog" "$etc"
    printf 'verdict_dir=/nowhere\nfragments=%s/prolog.d\n' "$etc" >"$etc/prolog.conf"
    for kind in prolog epilog; do
        printf '#!/bin/sh\necho one\n' >"$etc/$kind.d/10-a"
        printf '#!/bin/sh\necho two; exit 7\n' >"$etc/$kind.d/20-b"
        printf '#!/bin/sh\necho three\n' >"$etc/$kind.d/30-c"
        chmod +x "$etc/$kind.d"/[12]*
        run env -i SLURMD_NODENAME=c1 "$etc/$kind"
        [ "$status" = 7 ]
        [ "$output" = $'one\ntwo' ]
        rm "$etc/$kind.d/20-b"
        run env -i SLURMD_NODENAME=c1 "$etc/$kind"
        [ "$status" = 0 ]
        [ "$output" = one ]
    done
}
