#!/usr/bin/env bats
# A bundle's `install`, and the step 15-python on a machine without a network: a real Python, and a wheel of pip that
# writes down what it is asked.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # bats sets these, each test by itself; text of scripts is written as it is
bats_require_minimum_version 1.5.0

setup() {
    BUNDLE=$BATS_TEST_TMPDIR/hpcli-bundle
    HOME_OF=$BATS_TEST_TMPDIR/hpcli
    BIN=$BATS_TEST_TMPDIR/bin
    export CALLS=$BATS_TEST_TMPDIR/calls
    mkdir -p "$BIN" "$BUNDLE"/{code/hpcli,wheels}
    cp -rL "$BATS_TEST_DIRNAME/../../lifecycle-scripts" "$BUNDLE/lifecycle"
    cp "$BUNDLE/lifecycle/install" "$BUNDLE/install"
    echo 'click>=8.1' >"$BUNDLE/code/requirements.txt"
    echo 'print("hpcli 9.9")' >"$BUNDLE/code/hpcli/__main__.py"
    echo 0123456789abcdef >"$BUNDLE/release"
    echo 9.9 >"$BUNDLE/version"
    pip_wheel
    : >"$CALLS"
    PATH=$BIN:$PATH
}

pip_wheel() {
    mkdir "$BATS_TEST_TMPDIR/pip"
    printf '%s\n' 'import os, sys' 'open(os.environ["CALLS"], "a").write(" ".join(sys.argv[1:]) + "\n")' \
        'words = os.environ.get("PIP_FAILS")' 'sys.exit(words)' >"$BATS_TEST_TMPDIR/pip/__main__.py"
    (cd "$BATS_TEST_TMPDIR" && python3 -m zipfile -c "$BUNDLE/wheels/pip-26.3-py3-none-any.whl" pip)
}

wheels() { (cd "$BUNDLE/wheels" && touch "$@"); }

program() { printf '#!/bin/bash\n%s\n' "$2" >"$BIN/$1" && chmod +x "$BIN/$1"; }

# python3 may be a script that chooses one.
real_python() { python3 -c 'import os, sys; print(os.path.realpath(sys.executable))'; }

version() { python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

install() { run --separate-stderr "$BUNDLE/install" "$@"; }

@test "an ordinary user gets code, environment and command below one folder" {
    install --prefix "$HOME_OF"
    [ "$status" = 0 ]
    [ "$output" = "hpcli 9.9 (release 0123456789abcdef) is in $HOME_OF, its command: $HOME_OF/bin/hpcli" ]
    [ "$("$HOME_OF/bin/hpcli")" = 'hpcli 9.9' ]
    [ "$(cat "$HOME_OF/release")" = 0123456789abcdef ]
    grep -q -- "--no-index --find-links $BUNDLE/wheels pip -r $HOME_OF/code/requirements.txt" "$CALLS"
    [ ! -e "$HOME_OF/venv/.underway" ]
    [ -z "$(compgen -G "$HOME_OF/incoming.*")" ]
}

@test "neither ensurepip nor pip is asked for" {
    program bare-python '[[ $* != *ensurepip* && ( $* != *"-m venv"* || $* == *--without-pip* ) ]] || exit 1; exec python3 "$@"'
    install --prefix "$HOME_OF" --python bare-python
    [ "$status" = 0 ]
    [ ! -e "$HOME_OF/venv/bin/pip" ]
}

@test "a second time nothing is done" {
    install --prefix "$HOME_OF"
    before=$(find "$HOME_OF" -type f -printf '%p %i %T@\n' | grep -v 'install.lock\|__pycache__' | sort)
    install --prefix "$HOME_OF"
    [ "$status" = 0 ]
    [ -z "$stderr" ]
    [ "$(wc -l <"$CALLS")" = 1 ]
    [ "$before" = "$(find "$HOME_OF" -type f -printf '%p %i %T@\n' | grep -v 'install.lock\|__pycache__' | sort)" ]
}

@test "another release replaces whole folders" {
    install --prefix "$HOME_OF"
    touch "$HOME_OF/code/hpcli/gone.py"
    echo fedcba9876543210 >"$BUNDLE/release"
    echo 'print("hpcli 10")' >"$BUNDLE/code/hpcli/__main__.py"
    install --prefix "$HOME_OF"
    [ "$("$HOME_OF/bin/hpcli")" = 'hpcli 10' ]
    [ ! -e "$HOME_OF/code/hpcli/gone.py" ]
    [ "$(cat "$HOME_OF/release")" = fedcba9876543210 ]
}

@test "one that failed in pip says why, and the next one goes on" {
    PIP_FAILS='ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device' install --prefix "$HOME_OF"
    [ "$status" = 1 ]
    [[ ${stderr_lines[-1]} == 'install: pip_install: ERROR: '*'No space left on device' ]]
    [ ! -e "$HOME_OF/bin/hpcli" ]
    install --prefix "$HOME_OF"
    [ "$status" = 0 ]
    [ "$("$HOME_OF/bin/hpcli")" = 'hpcli 9.9' ]
}

@test "one that was cut in the midst of its folders is put right" {
    install --prefix "$HOME_OF"
    rm -rf "$HOME_OF/release" "$HOME_OF/code/hpcli"
    mkdir -p "$HOME_OF/incoming.1/code"
    install --prefix "$HOME_OF"
    [ "$status" = 0 ]
    [ "$("$HOME_OF/bin/hpcli")" = 'hpcli 9.9' ]
    [ ! -e "$HOME_OF/incoming.1" ]
}

@test "a disk that fills up while code is copied changes nothing" {
    program cp '[[ $* != *incoming* ]] && exec /bin/cp "$@"; echo "cp: error writing '"'x'"': No space left on device" >&2; exit 1'
    install --prefix "$HOME_OF"
    [ "$status" = 1 ]
    [ "${stderr_lines[-1]}" = "install: cp: error writing 'x': No space left on device" ]
    [ ! -e "$HOME_OF/code" ]
    [ -z "$(compgen -G "$HOME_OF/incoming.*")" ]
}

@test "an old Python is named, and what else there is" {
    program python3 'echo "3.9 /usr/bin/python3.9"'
    program python3.12 true
    install --prefix "$HOME_OF"
    [ "$status" = 1 ]
    [[ $stderr == 'install: python3: found Python 3.9, expected Python 3.11 or newer (here are: '*'python3.12'*'); name another: install --python PYTHON' ]]
    [ ! -e "$HOME_OF" ]
}

@test "a Python that is not there is named" {
    install --prefix "$HOME_OF" --python python3.99
    [ "$status" = 1 ]
    [[ $stderr == 'install: python3.99: found no such program, expected Python 3.11 or newer'* ]]
}

@test "another Python may be named, and an environment of a different one is made anew" {
    install --prefix "$HOME_OF"
    touch "$HOME_OF/venv/old"
    ln -sf /nonexistent "$HOME_OF/venv/bin/python3"
    install --prefix "$HOME_OF" --python "$(command -v python3)"
    [ "$status" = 0 ]
    [ ! -e "$HOME_OF/venv/old" ]
}

@test "wheels for other Pythons: what the bundle has is named, and nothing is changed" {
    wheels a-1-cp397-cp397-manylinux2014_x86_64.whl a-1-cp398-cp398-manylinux_2_28_x86_64.whl b-1-cp37-abi3-manylinux_2_28_x86_64.whl
    program uname 'echo x86_64'
    install --prefix "$HOME_OF"
    [ "$status" = 1 ]
    [[ $stderr == "install: python3: found Python $(version) here and wheels for 3.97 3.98 in "*"; or: hpcli bundle --python $(version)" ]]
    [ ! -e "$HOME_OF" ]
}

@test "wheels for other machines: both are named, and nothing is changed" {
    wheels a-1-cp37-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl
    program uname 'echo aarch64'
    install --prefix "$HOME_OF"
    [ "$status" = 1 ]
    [[ $stderr == 'install: this machine: found aarch64 here and wheels for x86_64 in '*': hpcli bundle --arch aarch64' ]]
    [ ! -e "$HOME_OF" ]
}

@test "somebody's own folder is left alone" {
    mkdir -p "$HOME_OF/code"
    echo mine >"$HOME_OF/code/thesis"
    install --prefix "$HOME_OF"
    [ "$status" = 1 ]
    [[ $stderr == "install: $HOME_OF: found a folder code there that is not hpcli's"* ]]
    [ "$(cat "$HOME_OF/code/thesis")" = mine ]
}

@test "a folder's name may hold blanks and quotes, but no colon" {
    install --prefix "$BATS_TEST_TMPDIR/it's \"my\" \$own"
    [ "$status" = 0 ]
    [ "$("$BATS_TEST_TMPDIR/it's \"my\" \$own/bin/hpcli")" = 'hpcli 9.9' ]
    install --prefix "$BATS_TEST_TMPDIR/a:b"
    [ "$status" = 1 ]
    [[ $stderr == *'found a colon in it'* ]]
}

@test "a bundle that was unpacked for one's own eyes serves everybody" {
    chmod -R go= "$BUNDLE"
    umask 077
    install --prefix "$HOME_OF"
    [ "$(stat -c %a "$HOME_OF/code/hpcli" "$HOME_OF/code/hpcli/__main__.py" "$HOME_OF/bin/hpcli" "$HOME_OF/venv/bin" | paste -sd' ')" = '755 644 755 755' ]
    [ "$(stat -c %a "$HOME_OF/lifecycle/run.sh")" = 755 ]
}

@test "another install at work is waited for by nobody" {
    mkdir "$HOME_OF"
    touch "$HOME_OF/.hpcli"
    exec 8>>"$HOME_OF/.install.lock"
    flock 8
    install --prefix "$HOME_OF"
    [ "$status" = 1 ]
    [ "$stderr" = "install: $HOME_OF: found another install at work, expected none" ]
}

@test "root gets /opt/hpcli, and the command that the lifecycle scripts write" {
    export HPCLI_ROOT=$BATS_TEST_TMPDIR/root
    install
    [ "$status" = 0 ]
    [ "$(cat "$HPCLI_ROOT/opt/hpcli/release")" = 0123456789abcdef ]
    [ "$(tail -n 1 "$HPCLI_ROOT/usr/local/bin/hpcli")" = \
        'PYTHONPATH=/opt/hpcli/code PYTHONSAFEPATH=1 exec /opt/hpcli/venv/bin/python -m hpcli "$@"' ]
}

@test "what is no bundle, and what is no argument, is refused" {
    install --nonsense
    [ "$stderr" = 'install: found the argument --nonsense, expected --prefix DIR, --python PYTHON or --as NAME' ]
    install --prefix
    [ "$stderr" = 'install: --prefix: found no value' ]
    rm -r "$BUNDLE/wheels"
    install --prefix "$HOME_OF"
    [[ $stderr == *'found no wheels, expected a whole bundle: unpack it again' ]]
    rm -r "$BUNDLE/lifecycle"
    install --prefix "$HOME_OF"
    [[ $stderr == *'expected to be run from an unpacked bundle' ]]
}

# A bundle for the machines c1 and login, of which this is c1.
site() {
    export HPCLI_ROOT=$BATS_TEST_TMPDIR/root
    mkdir -p "$HPCLI_ROOT/etc" "$BUNDLE/site"
    printf 'root:x:0:0::/root:/bin/sh\n' >"$HPCLI_ROOT/etc/passwd"
    printf 'root:x:0:\n' >"$HPCLI_ROOT/etc/group"
    program hostname 'echo c1'
    (cd "$BATS_TEST_TMPDIR" && printf 'HPCLI_ADOPTED=yes\nHPCLI_CLUSTER=lab\nHPCLI_NODE=c1\nHPCLI_ROLE=compute\nHPCLI_SLURM_USER=root\n' >./0 &&
        printf '/etc/hpcli/node.conf\t644\troot\troot\t0\n' >manifest.tsv && tar -cf "$BUNDLE/site/c1.tar" manifest.tsv 0)
    touch "$BUNDLE/site/login.tar"
    printf '#!/bin/bash\necho "service $*" >>"$CALLS"\n[[ ! -e /proc/self/fd/9 ]] || echo "it has our lock" >>"$CALLS"\n' >"$BUNDLE/lifecycle/service"
}

@test "a machine of a cluster gets its files, its steps and its services, and again nothing" {
    site
    for _ in 1 2; do
        install
        [ "$status" = 0 ]
        grep -q HPCLI_NODE=c1 "$HPCLI_ROOT/etc/hpcli/node.conf"
        grep -q -- "--find-links $BUNDLE/wheels" "$CALLS"
    done
    [[ $output == *'step adopted/15-python same'* ]]
    [ "$(tail -n 1 "$CALLS")" = 'service start all' ]
    [ "$(grep -c install "$CALLS")" = 1 ]
}

@test "a machine that is none of the cluster's is told which there are, and nothing is changed" {
    site
    program hostname 'echo other'
    install
    [ "$status" = 1 ]
    [ "$stderr" = 'install: other: found no files of such a machine, expected one of: c1 login; name it: install --as NAME' ]
    [ ! -e "$HPCLI_ROOT/opt" ]
    install --as c1
    [ "$status" = 0 ]
}

@test "a cluster's files say where things go and what they run on" {
    site
    install --prefix "$HOME_OF"
    [ "$status" = 1 ]
    [[ $stderr == *"expected neither"* ]]
}

step() {
    export HPCLI_ROOT=$BATS_TEST_TMPDIR/root
    mkdir -p "$HPCLI_ROOT"/{etc/hpcli,opt/hpcli}
    cp -r "$BUNDLE/code" "$HPCLI_ROOT/opt/hpcli"
    printf 'HPCLI_ROLE=compute\n%s\n' "$2" >"$HPCLI_ROOT/etc/hpcli/node.conf"
    run bash "$BUNDLE/lifecycle/common/15-python" "$1"
}

@test "15-python takes a bundle's wheels, and node.conf's Python" {
    ln -s "$(real_python)" "$BIN/own-python"
    program python3 'exit 1'
    HPCLI_OFFLINE=$BUNDLE step work HPCLI_PYTHON=own-python
    [ "$status" = 0 ]
    grep -q -- "--no-index --find-links $BUNDLE/wheels pip -r" "$CALLS"
    step holds HPCLI_PYTHON=own-python
    [ "$status" = 0 ]
    # Debian was upgraded, and has another Python now.
    mv "$HPCLI_ROOT"/opt/hpcli/venv/lib/python3.{*,1}
    step holds HPCLI_PYTHON=own-python
    [ "$status" != 0 ]
}

@test "15-python leaves an environment alone that has what is needed" {
    mkdir -p "$BATS_TEST_TMPDIR/root/opt/hpcli"
    python3 -m venv --without-pip "$BATS_TEST_TMPDIR/root/opt/hpcli/venv"
    site=$(echo "$BATS_TEST_TMPDIR"/root/opt/hpcli/venv/lib/python3.*/site-packages)
    mkdir -p "$site"/{pip/_vendor/packaging,click-8.2.dist-info}
    printf 'Name: click\nVersion: 8.2\n' >"$site/click-8.2.dist-info/METADATA"
    cat >"$site/pip/_vendor/packaging/requirements.py" <<'PY'
class Requirement:
    name, marker, specifier = "click", None, type("Any", (), {"contains": staticmethod(lambda found: found == "8.2")})
    def __init__(self, line): assert line.strip() == "click>=8.1"
PY
    step work ''
    [ "$status" = 0 ]
    [ ! -s "$CALLS" ]
    [ -x "$HPCLI_ROOT/usr/local/bin/hpcli" ]
}

@test "15-python with a network, but without ensurepip, names what to install" {
    program own-python '[[ $* != *ensurepip* ]] && exec '"$(real_python)"' "$@"; exit 1'
    step work HPCLI_PYTHON=own-python
    [ "$status" = 1 ]
    [[ ${lines[-1]} == "own-python: found no ensurepip, expected it or pip's own wheel: install python3-venv (Debian: python$(version)-venv), or use a bundle: hpcli bundle" ]]
}
