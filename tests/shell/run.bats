#!/usr/bin/env bats
# ./run in a checkout of its own, with stand-ins for Python, Slurm and apt-get: nothing is installed for real.

setup() {
    HERE=$BATS_TEST_TMPDIR/checkout
    BIN=$BATS_TEST_TMPDIR/bin
    CALLS=$BATS_TEST_TMPDIR/calls
    export CALLS
    mkdir -p "$HERE/tests/bench" "$BIN"
    cp -r "$BATS_TEST_DIRNAME/../../run" "$BATS_TEST_DIRNAME/../../.ci" "$HERE"
    echo '[metadata]' >"$HERE/setup.cfg"
    echo '[build-system]' >"$HERE/pyproject.toml"
    touch "$HERE/tests/bench/recovery.py" "$HERE/tests/bench/__init__.py" "$CALLS"
    for name in slurmctld slurmd sbatch slurmdbd munged mariadbd; do program "$name" true; done
    python_stand_in
    PATH=$BIN:/usr/bin:/bin
}

program() { printf '#!/bin/sh\n%s\n' "$2" >"$BIN/$1" && chmod +x "$BIN/$1"; }

# Answers the question for its version, makes "virtual environments" of itself, and "installs" an hpcli that echoes.
python_stand_in() {
    cat >"$BIN/python3.13" <<'SH'
#!/bin/sh
case "$1 $2" in
    '-c '*) exit 0 ;;
    '-m venv')
        echo venv >>"$CALLS"
        [ ! -e "$CALLS.slow" ] || sleep 0.3
        mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    '-m pip')
        echo "$*" >>"$CALLS"
        echo 'pip talks'
        [ ! -e "$CALLS.broken" ] || { echo 'no such package' >&2; exit 1; }
        printf '#!/bin/sh\necho "hpcli $*"\n' >"${0%/*}/hpcli" && chmod +x "${0%/*}/hpcli" ;;
esac
SH
    chmod +x "$BIN/python3.13"
}

calls() { grep -c "$1" "$CALLS" || true; }

@test "help lists the commands, anything unknown is a usage error" {
    run "$HERE/run" help
    [ "$status" = 0 ]
    [[ $output == *demo*test*check*bench* ]]
    run "$HERE/run" nonsense
    [ "$status" = 2 ]
}

@test "an unknown benchmark is answered with those that exist" {
    run "$HERE/run" bench recovry
    [ "$status" = 2 ]
    [ "$output" = 'run: bench: found recovry, expected one of: recovery' ]
    [ ! -e "$HERE/.venv" ]
}

@test "demo says on stdout what hpcli says and nothing else" {
    out=$("$HERE/run" demo --json 'a b' 2>"$BATS_TEST_TMPDIR/err")
    [ "$out" = 'hpcli demo --json a b' ]
    grep 'installing hpcli\[demo\]' "$BATS_TEST_TMPDIR/err"
}

@test "the second demo is silent and installs nothing" {
    "$HERE/run" demo 2>/dev/null
    cp "$CALLS" "$CALLS.first"
    run "$HERE/run" demo
    [ "$output" = 'hpcli demo' ]
    cmp "$CALLS" "$CALLS.first"
}

@test "demo keeps the caller's folder" {
    "$HERE/run" demo 2>/dev/null
    printf '#!/bin/sh\npwd\n' >"$HERE/.venv/bin/hpcli"
    run bash -c "cd '$BIN' && '$HERE/run' demo"
    [ "$output" = "$BIN" ]
}

@test "a changed setup.cfg installs again into the same .venv" {
    "$HERE/run" demo 2>/dev/null
    echo 'name = other' >>"$HERE/setup.cfg"
    "$HERE/run" demo 2>/dev/null
    [ "$(calls '^venv')" = 1 ]
    [ "$(calls '\[demo\]')" = 2 ]
}

@test "a .venv for development serves the demo, not the other way round" {
    "$HERE/run" bench recovery 2>/dev/null
    "$HERE/run" demo 2>/dev/null
    [ "$(calls 'pip install')" = 1 ]
    rm "$HERE/.venv/.stamp-dev"
    "$HERE/run" demo 2>/dev/null
    "$HERE/run" bench recovery 2>/dev/null
    [ "$(calls '\[demo\]')" = 1 ]
    [ "$(calls '\[dev\]')" = 2 ]
}

@test "a .venv whose making was cut short is made anew" {
    "$HERE/run" demo 2>/dev/null
    touch "$HERE/.venv/.installing" "$HERE/.venv/rubbish"
    run "$HERE/run" demo
    [ "$status" = 0 ]
    [ ! -e "$HERE/.venv/rubbish" ]
    [ ! -e "$HERE/.venv/.installing" ]
    [ "$(calls '^venv')" = 2 ]
}

@test "two at once make one .venv" {
    touch "$CALLS.slow"
    "$HERE/run" demo >"$BATS_TEST_TMPDIR/one" 2>/dev/null &
    "$HERE/run" demo >"$BATS_TEST_TMPDIR/two" 2>/dev/null
    wait $!
    [ "$(cat "$BATS_TEST_TMPDIR/one" "$BATS_TEST_TMPDIR/two")" = $'hpcli demo\nhpcli demo' ]
    [ "$(calls '^venv')" = 1 ]
}

@test "a failed installation shows its last words, and the next try goes on" {
    touch "$CALLS.broken"
    run "$HERE/run" demo
    [ "$status" = 1 ]
    [[ $output == *'no such package'*'run: failed: '*setup.log* ]]
    rm "$CALLS.broken"
    run "$HERE/run" demo
    [ "$status" = 0 ]
    [ "$(calls '^venv')" = 1 ]
}

@test "what needs no Slurm asks for none" {
    rm "$BIN/sbatch"
    program shellcheck true
    program apt-get "echo apt-get >>$CALLS; exit 1"
    printf '#!/bin/sh\necho checked\n' >"$HERE/.ci/check"
    run "$HERE/run" check
    [ "$status" = 0 ]
    [[ $output == *checked ]]
    [ "$(calls apt-get)" = 0 ]
}

# A PATH with nothing but what any system has, and the named.
only_these() {
    local name
    FEW=$BATS_TEST_TMPDIR/few
    mkdir "$FEW"
    for name in bash sh env dirname readlink sha256sum mkdir flock cat tail grep touch "$@"; do
        ln -s "$(command -v "$name")" "$FEW/$name"
    done
}

@test "a machine without apt-get gets one line that names what is missing" {
    only_these
    run env PATH="$FEW" "$HERE/run" demo
    [ "$status" = 1 ]
    [ "${#lines[@]}" = 1 ]
    [[ $output == *'no apt-get'*slurm-client*python3-venv*'Python 3.11'* ]]
}

@test "another system than Linux gets one line" {
    OSTYPE=darwin23 run "$HERE/run" demo
    [ "$status" = 1 ]
    [ "${#lines[@]}" = 1 ]
    [[ $output == *'needs Linux, found darwin23'* ]]
}

@test "an ordinary user without sudo gets one line with the command for root" {
    local as=()
    [ "$(id -u)" != 0 ] || as=(setpriv --reuid 65534 --clear-groups)
    program apt-get true
    only_these setpriv apt-get
    chmod -R a+rwX "$BATS_RUN_TMPDIR"
    run "${as[@]}" env PATH="$FEW" "$HERE/run" demo </dev/null
    [ "$status" = 1 ]
    [ "${#lines[@]}" = 1 ]
    [[ $output == *"run as root: "*".ci/packages"*slurm-client* ]]
}
