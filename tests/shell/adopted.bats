#!/usr/bin/env bats
# Machines whose Slurm somebody else built: hpcli comes and goes, and what was there before stays as it was.
# shellcheck disable=SC2016,SC2154 # bats sets these; text of scripts is written here as it is

setup() {
    export HPCLI_ROOT="$BATS_TEST_TMPDIR/root"
    scripts="$HPCLI_ROOT/opt/hpcli/lifecycle"
    mkdir -p "$HPCLI_ROOT"/{etc/hpcli,etc/slurm,var/lib/slurm/slurmctld,var/log,run,opt/hpcli,usr/local/bin,tmp}
    cp -rL "$BATS_TEST_DIRNAME/../../lifecycle-scripts" "$scripts"
    printf 'root:x:0:0::/root:/bin/sh\nslurm:x:64030:64030::/:/bin/sh\n' >"$HPCLI_ROOT/etc/passwd"
    printf 'root:x:0:\nslurm:x:64030:\n' >"$HPCLI_ROOT/etc/group"
    echo 'ClusterName=site' >"$HPCLI_ROOT/etc/slurm/slurm.conf"
    echo 'jobs' >"$HPCLI_ROOT/var/lib/slurm/slurmctld/job_state"
    conf
}

conf() {
    printf '%s\n' HPCLI_ADOPTED=yes HPCLI_CLUSTER=site HPCLI_NODE=c1 HPCLI_ROLE=compute HPCLI_SLURM_USER=root \
        >"$HPCLI_ROOT/etc/hpcli/node.conf"
}

step() { bash "$scripts/adopted/$1" "${2-work}"; }

rc_local() { cat "$HPCLI_ROOT/etc/rc.local"; }

uninstall() { run bash "$scripts/uninstall"; }

@test "its steps are its own: no packages, users, hosts or munge" {
    run ls "$scripts/adopted"
    [ "$output" = $'15-python\n20-folders\n80-instance\n90-start' ]
}

@test "folders are made, and none of Slurm's" {
    rm -rf "$HPCLI_ROOT/var/lib/slurm"
    step 20-folders
    [ -d "$HPCLI_ROOT/run/hpcli/c1" ]
    [ ! -e "$HPCLI_ROOT/var/lib/slurm" ]
    [ ! -e "$HPCLI_ROOT/run/munge" ]
    [ ! -e "$HPCLI_ROOT/run/slurm" ]
}

@test "without systemd rc.local starts the services, before its exit" {
    printf 'hpcli-agent\troot\tyes\t/bin/true\n' >"$HPCLI_ROOT/etc/hpcli/services.tsv"
    mkdir -p "$HPCLI_ROOT/var/lib/hpcli"
    printf '#!/bin/sh -e\nmount /scratch\nexit 0\n' >"$HPCLI_ROOT/etc/rc.local"
    chmod 755 "$HPCLI_ROOT/etc/rc.local"
    step 90-start
    step 90-start holds
    [ "$(rc_local | sed -n 2p)" = 'mount /scratch' ]
    [ "$(rc_local | tail -n 1)" = 'exit 0' ]
    [ "$(rc_local | grep -c 'service boot')" -eq 1 ]
    step 90-start
    [ "$(rc_local | grep -c 'service boot')" -eq 1 ]
}

@test "uninstall gives rc.local back byte by byte, its mode too" {
    printf 'hpcli-agent\troot\tyes\t/bin/true\n' >"$HPCLI_ROOT/etc/hpcli/services.tsv"
    mkdir -p "$HPCLI_ROOT/var/lib/hpcli"
    printf '#!/bin/sh\nmount /scratch\n\n\nexit 0  \n\n# the end' >"$HPCLI_ROOT/etc/rc.local"
    chmod 644 "$HPCLI_ROOT/etc/rc.local"
    cp -p "$HPCLI_ROOT/etc/rc.local" "$BATS_TEST_TMPDIR/before"
    step 90-start
    [ "$(rc_local | grep -n 'service boot' | cut -d: -f1)" -lt "$(rc_local | grep -n '^exit' | cut -d: -f1)" ]
    uninstall
    [ "$status" -eq 0 ]
    cmp "$BATS_TEST_TMPDIR/before" "$HPCLI_ROOT/etc/rc.local"
    [ "$(stat -c %a "$HPCLI_ROOT/etc/rc.local")" = 644 ]
}

@test "uninstall removes an rc.local that was made for us, and keeps a line that was added since" {
    printf 'hpcli-agent\troot\tyes\t/bin/true\n' >"$HPCLI_ROOT/etc/hpcli/services.tsv"
    mkdir -p "$HPCLI_ROOT/var/lib/hpcli"
    step 90-start
    cp -r "$HPCLI_ROOT" "$BATS_TEST_TMPDIR/copy"
    uninstall
    [ ! -e "$HPCLI_ROOT/etc/rc.local" ]
    rm -rf "$HPCLI_ROOT" && mv "$BATS_TEST_TMPDIR/copy" "$HPCLI_ROOT"
    echo 'modprobe lustre' >>"$HPCLI_ROOT/etc/rc.local"
    uninstall
    [ "$(rc_local)" = $'#!/bin/sh\nmodprobe lustre' ]
}

@test "uninstall takes all of hpcli's and nothing of Slurm's" {
    printf '1\n' >"$BATS_TEST_TMPDIR/0" && printf '/etc/hpcli/agent.json\t600\troot\troot\t0\n' >"$BATS_TEST_TMPDIR/manifest.tsv"
    tar -cf "$BATS_TEST_TMPDIR/files.tar" -C "$BATS_TEST_TMPDIR" manifest.tsv 0
    bash "$scripts/files" write "$BATS_TEST_TMPDIR/files.tar"
    step 20-folders
    : >"$HPCLI_ROOT/usr/local/bin/hpcli"
    printf '{\n "lease": "/var/lib/slurm/slurmctld/hpcli-controller.lease",\n "x": 1\n}\n' >"$HPCLI_ROOT/etc/hpcli/controller.json"
    : >"$HPCLI_ROOT/var/lib/slurm/slurmctld/hpcli-controller.lease"
    uninstall
    [ "$status" -eq 0 ]
    run find "$HPCLI_ROOT" -name '*hpcli*'
    [ -z "$output" ]
    [ "$(<"$HPCLI_ROOT/var/lib/slurm/slurmctld/job_state")" = jobs ]
    [ "$(<"$HPCLI_ROOT/etc/slurm/slurm.conf")" = 'ClusterName=site' ]
}

@test "uninstall puts back what lay in the place of a file of ours" {
    mkdir -p "$HPCLI_ROOT/etc/systemd/system"
    echo theirs >"$HPCLI_ROOT/etc/systemd/system/hpcli-agent.service"
    printf 'ours\n' >"$BATS_TEST_TMPDIR/0"
    printf '/etc/systemd/system/hpcli-agent.service\t644\troot\troot\t0\n' >"$BATS_TEST_TMPDIR/manifest.tsv"
    tar -cf "$BATS_TEST_TMPDIR/files.tar" -C "$BATS_TEST_TMPDIR" manifest.tsv 0
    bash "$scripts/files" write "$BATS_TEST_TMPDIR/files.tar"
    uninstall
    [ "$(<"$HPCLI_ROOT/etc/systemd/system/hpcli-agent.service")" = theirs ]
}

@test "uninstall refuses a machine that hpcli built, and retire one that it did not" {
    run bash "$scripts/retire"
    [ "$status" -eq 1 ]
    [[ $output == *'not ours to remove'* ]]
    [ -e "$HPCLI_ROOT/var/lib/slurm/slurmctld/job_state" ]
    printf '%s\n' HPCLI_CLUSTER=big HPCLI_NODE=c1 HPCLI_ROLE=compute >"$HPCLI_ROOT/etc/hpcli/node.conf"
    uninstall
    [ "$status" -eq 1 ]
    [[ $output == *'hpcli cluster down'* ]]
    [ -e "$HPCLI_ROOT/etc/hpcli/node.conf" ]
}

@test "a machine that starts without systemd starts hpcli's services and mounts nothing" {
    mkdir -p "$HPCLI_ROOT/var/lib/hpcli" && : >"$HPCLI_ROOT/var/lib/hpcli/ready"
    : >"$HPCLI_ROOT/etc/hpcli/services.tsv"
    printf '/scratch\tnfs\tnowhere:/x\t\n' >"$HPCLI_ROOT/etc/hpcli/mounts.tsv"
    run bash "$scripts/service" boot
    [ "$status" -eq 0 ]
    [ ! -e "$HPCLI_ROOT/etc/hosts" ]
    [ ! -e "$HPCLI_ROOT/scratch" ]
}
