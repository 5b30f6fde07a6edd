#!/usr/bin/env bats
# The Prolog gate: it closes for the word "fail" and for nothing else, and starts no program.
# shellcheck disable=SC2016,SC2059 # hostile text must reach the gate as it is written here

bats_require_minimum_version 1.5.0

setup() {
    etc="$BATS_TEST_TMPDIR/etc slurm"
    verdicts="$BATS_TEST_TMPDIR/verdicts"
    mkdir -p "$etc" "$verdicts/c1"
    cp "$BATS_TEST_DIRNAME/../../lifecycle-scripts/slurm/prolog" "$etc/prolog"
    echo "verdict_dir=$verdicts" >"$etc/prolog.conf"
}

# Runs the gate as slurmd does: by its full path, with next to no environment.
gate() {
    run env -i PATH=/nonexistent "SLURMD_NODENAME=${1-c1}" "$etc/prolog"
}

says() {
    printf "$1" >"$verdicts/c1/verdict"
}

@test "ok lets the job start" {
    says 'ok\n'
    gate
    [ "$status" -eq 0 ]
    [ -z "$output" ]
}

@test "fail stops it, with one line that says why" {
    says 'fail xid79\nGPU has fallen off the bus\n'
    gate
    [ "$status" -eq 1 ]
    [ "$output" = "hpcli: node c1 takes no jobs: xid79" ]
}

@test "fail without a newline, a cause or a Unix line end stops it too" {
    for text in 'fail' 'fail ' ' fail xid79' 'fail xid79\r\n'; do
        says "$text"
        gate
        [ "$status" -eq 1 ]
    done
}

@test "a cause is printed as it is, never run" {
    says 'fail $(touch %s/evil) `id` %%s \\c\n' "$BATS_TEST_TMPDIR"
    gate
    [ "$status" -eq 1 ]
    [ ! -e "$BATS_TEST_TMPDIR/evil" ]
    [[ "$output" == *'$(touch'*'`id`'* ]]
}

@test "whatever else it says lets the job start" {
    for text in '' '\n' 'failed xid79\n' 'FAIL x\n' 'failing' '\nfail x\n' '\377\376\000fail\n'; do
        says "$text"
        gate
        [ "$status" -eq 0 ]
    done
}

@test "no verdict, no folder, no settings: the job starts" {
    gate
    [ "$status" -eq 0 ]
    gate c2
    [ "$status" -eq 0 ]
    says 'fail x\n'
    echo '# nothing here' >"$etc/prolog.conf"
    gate
    [ "$status" -eq 0 ]
    rm "$etc/prolog.conf"
    gate
    [ "$status" -eq 0 ]
}

@test "a folder or a pipe in the verdict's place does not hold the job up" {
    mkdir "$verdicts/c1/verdict"
    gate
    [ "$status" -eq 0 ]
    rmdir "$verdicts/c1/verdict"
    mkfifo "$verdicts/c1/verdict"
    run timeout 5 env -i SLURMD_NODENAME=c1 "$etc/prolog"
    [ "$status" -eq 0 ]
}

@test "an unreadable verdict lets the job start" {
    says 'fail x\n'
    chmod 000 "$verdicts/c1/verdict"
    if [ -r "$verdicts/c1/verdict" ]; then
        skip "root reads everything"
    fi
    gate
    [ "$status" -eq 0 ]
}

@test "a node name that is none cannot lead out of the folder" {
    mkdir -p "$verdicts/c1/deeper"
    says 'fail x\n'
    for name in '' . .. ../verdicts/c1 c1/ /c1 'c1/../c1' 'c*' 'c?' 'c[1]' 'c 1' "c1
"; do
        gate "$name"
        [ "$status" -eq 0 ]
        [ -z "$output" ]
    done
    run env -i "$etc/prolog"
    [ "$status" -eq 0 ]
}

@test "settings are read, never run" {
    says 'fail x\n'
    printf '# comment\ntouch %s/evil\nverdict_dir=relative\n  verdict_dir=/indented\nverdict_dir=%s' \
        "$BATS_TEST_TMPDIR" "$verdicts" >"$etc/prolog.conf"
    gate
    [ "$status" -eq 1 ]
    echo 'verdict_dir=$(touch evil)/x' >"$etc/prolog.conf"
    gate
    [ "$status" -eq 0 ]
    [ ! -e "$BATS_TEST_TMPDIR/evil" ]
}

@test "variables of the job's environment do not open or close it" {
    says 'ok\n'
    run env -i SLURMD_NODENAME=c1 word=fail cause=x verdict_dir=/tmp verdict=/etc/passwd IFS=o "$etc/prolog"
    [ "$status" -eq 0 ]
    says 'fail x\n'
    run env -i SLURMD_NODENAME=c1 IFS=f word=ok "$etc/prolog"
    [ "$status" -eq 1 ]
}

@test "it starts no program" {
    command -v strace >/dev/null || skip "no strace"
    says 'fail x\n'
    run env -i SLURMD_NODENAME=c1 "$(command -v strace)" -f -qq -e trace=execve,fork,vfork,clone,clone3 "$etc/prolog"
    [ "$(grep -c execve <<<"$output")" -eq 1 ]
    run grep -E 'fork|clone' <<<"$output"
    [ "$status" -eq 1 ]
}

chain() { printf 'then=%s\n' "$1" >>"$etc/prolog.conf"; }

site_script() {
    printf '#!/bin/sh\necho "%s $SLURMD_NODENAME"\nexit %d\n' "$1" "$2" >"$etc/$1"
    chmod 755 "$etc/$1"
}

@test "a Prolog that the site had before runs after the gate, in the order of its lines" {
    site_script second 0 && site_script first 0
    chain "$etc/first" && chain "$etc/second"
    gate
    [ "$status" -eq 0 ]
    [ "$output" = $'first c1\nsecond c1' ]
}

@test "its exit code is Slurm's to see, and what comes behind does not run" {
    site_script first 3 && site_script second 0
    chain "$etc/first" && chain "$etc/second"
    gate
    [ "$status" -eq 3 ]
    [ "$output" = 'first c1' ]
}

@test "a closed gate runs none of it" {
    site_script first 0
    chain "$etc/first"
    says 'fail xid79\n'
    gate
    [ "$status" -eq 1 ]
    [[ $output != *'first'* ]]
}

@test "patterns are those of slurm.conf; one without a match is nothing, a path that is missing fails" {
    mkdir "$etc/d"
    printf '#!/bin/sh\necho a\n' >"$etc/d/10 a.sh" && printf '#!/bin/sh\necho b\n' >"$etc/d/20.sh" && chmod 755 "$etc"/d/*
    chain "$etc/d/*.sh" && chain "$etc/none/*"
    gate
    [ "$status" -eq 0 ]
    [ "$output" = $'a\nb' ]
    chain "$etc/missing"
    run -127 env -i PATH=/nonexistent SLURMD_NODENAME=c1 "$etc/prolog"
}
