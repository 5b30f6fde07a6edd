#!/usr/bin/env bats
# ./run test docker: an engine is started only where none answers, and a skipped test is a failure.
# shellcheck disable=SC2016,SC1091 # for the stand-ins' own shells; ./run is a copy

setup() {
    HERE=$BATS_TEST_TMPDIR/checkout
    BIN=$BATS_TEST_TMPDIR/bin
    mkdir -p "$HERE" "$BIN"
    cp -r "$BATS_TEST_DIRNAME/../../.ci" "$BATS_TEST_DIRNAME/../../run" "$HERE"
    # An engine answers while this file is there.
    export ENGINE=$BATS_TEST_TMPDIR/engine
    program docker '[ -e "$ENGINE" ]'
    program dockerd 'echo "$@" >"$ENGINE.argv"; trap "rm -f $ENGINE; exit 0" TERM; touch "$ENGINE"; while :; do sleep 0.05; done'
    PATH=$BIN:$PATH
}

program() { printf '#!/bin/sh\n%s\n' "$2" >"$BIN/$1" && chmod +x "$BIN/$1"; }

@test "an engine that answers is used as it is" {
    touch "$ENGINE"
    run "$HERE/.ci/docker" echo well
    [ "$output" = well ]
    [ ! -e "$ENGINE.argv" ]
}

@test "one that was started ends with the command, whose exit code counts" {
    [ "$(id -u)" = 0 ] || skip "needs root"
    run "$HERE/.ci/docker" sh -c 'test -e "$ENGINE" && exit 7'
    [ "$status" = 7 ]
    [ ! -e "$ENGINE" ]
    grep -q -- "--data-root $HERE/build/docker" "$ENGINE.argv"
}

@test "one that cannot start says why" {
    [ "$(id -u)" = 0 ] || skip "needs root"
    program dockerd 'echo "failed to start daemon: no iptables" >&2; exit 1'
    run "$HERE/.ci/docker" echo well
    [ "$status" = 1 ]
    [[ $output == 'run: dockerd: failed to start daemon: no iptables (log: '* ]]
}

@test "a skipped Docker test is a failure with its name" {
    . "$HERE/run"
    VENV=$BATS_TEST_TMPDIR/venv && mkdir -p "$VENV/bin" && ln -s "$(command -v python3)" "$VENV/bin/python"
    printf '<testsuites><testsuite><testcase name="good"/></testsuite></testsuites>' >"$BATS_TEST_TMPDIR/report.xml"
    run no_skips "$BATS_TEST_TMPDIR/report.xml"
    [ "$status" = 0 ]
    printf '<testsuites><testsuite><testcase name="lazy"><skipped/></testcase></testsuite></testsuites>' >"$BATS_TEST_TMPDIR/report.xml"
    run no_skips "$BATS_TEST_TMPDIR/report.xml"
    [ "$status" = 1 ]
    [ "$output" = 'run: found 1 Docker tests skipped, expected none: lazy' ]
}
