# shellcheck shell=bash
# Shared by the lifecycle scripts: where things lie, node.conf, marked blocks, retries. Sourced, never run.
# HPCLI_ROOT: a folder in front of every path, for tests.

R=${HPCLI_ROOT-}
ETC=$R/etc/hpcli
VAR=$R/var/lib/hpcli
RUN=$R/run/hpcli
LOGS=$R/var/log/hpcli
OPT=$R/opt/hpcli
# Shared by all scripts that source this one.
export R ETC VAR RUN LOGS OPT
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL=C.UTF-8

declare -A NODE=()

die() { printf '%s\n' "$*" >&2 && exit 1; }

# Parse node.conf into NODE; it is never run.
read_node_conf() {
    local line
    [[ -r $ETC/node.conf ]] || die "node.conf: found no $ETC/node.conf, expected what hpcli writes before it runs these scripts"
    while IFS= read -r line || [[ -n $line ]]; do
        [[ $line != HPCLI_*=* ]] || NODE[${line%%=*}]=${line#*=}
    done <"$ETC/node.conf"
    case ${NODE[HPCLI_ROLE]-} in
        controller | login | compute) ;;
        *) die "node.conf: found HPCLI_ROLE=${NODE[HPCLI_ROLE]-}, expected controller, login or compute" ;;
    esac
}

# Whether Slurm here is somebody else's, so that nothing of it may be touched.
adopted() { [[ ${NODE[HPCLI_ADOPTED]-} == yes ]]; }

# Those of node.conf's values that a step depends on.
settings() {
    local key
    for key in "$@"; do printf '%s=%s\n' "$key" "${NODE[$key]-}"; done
}

# The content of a table, nothing when there is none.
table() { [[ ! -r $ETC/$1 ]] || printf '%s\n' "$(<"$ETC/$1")"; }

has_systemd() { [[ -d $R/run/systemd/system ]]; }

# The last line of a text that has something in it.
last_line() {
    local line last=''
    while IFS= read -r line; do
        [[ -z ${line//[[:space:]]/} ]] || last=$line
    done <<<"${1//$'\r'/$'\n'}"
    printf '%s\n' "$last"
}

# Of a daemon's lines on stdin, the one that says why it ended: the last fatal, else the last error, else the last.
# A fatal that only points at an error before it gives way to that.
telling_line() {
    sed -E -e 's/^\[[0-9T:.+-]+\] //' -e 's/^(slurmctld|slurmd|slurmdbd|munged): //' -e 's/[[:space:]]+$//' | awk '
        $0 == "" || /^service [a-z-]+: ended, starting it again/ || /\[ERROR\] Aborting$/ { next }
        { last = $0 }
        /fatal: Unable to process configuration file/ && error != "" { fatal = error; next }
        tolower($0) ~ /fatal/ { fatal = $0; next }
        tolower($0) ~ /error/ && !/[^a-z]no error/ { error = $0 }
        END { line = fatal != "" ? fatal : error != "" ? error : last; if (line != "") print line }'
}

# Run a program; when it fails, die in its own last words.
must() {
    local out code=0
    out=$("$@" 2>&1 </dev/null) || code=$?
    [[ -z $out ]] || printf '%s\n' "$out"
    ((code == 0)) || die "${1##*/}: $(last_line "${out:-ended with $code}")"
}

# As `must`, at most three times with longer and longer pauses.
must_soon() {
    local out code try
    for try in 1 2 3; do
        code=0
        out=$("$@" 2>&1 </dev/null) || code=$?
        [[ -z $out ]] || printf '%s\n' "$out"
        ((code)) || return 0
        ((try == 3)) || sleep $((try * ${HPCLI_PAUSE-3}))
    done
    die "${1##*/}: $(last_line "${out:-ended with $code}") (tried three times)"
}

# Replace a file whole: replace_file PATH MODE <content. What is there already is left as it is.
replace_file() {
    local path=$1 mode=$2 fresh=$1.hpcli-new
    mkdir -p "${path%/*}"
    (umask 077 && cat >"$fresh") || { rm -f "$fresh" && die "$path: not written"; }
    chmod "$mode" "$fresh"
    if cmp -s "$fresh" "$path"; then rm "$fresh"; else mv -T "$fresh" "$path"; fi
}

BEGIN_BLOCK='# hpcli begin: written by hpcli, changes here are lost'
END_BLOCK='# hpcli end'
# What a line of somebody else's begins with while it is out of service.
# shellcheck disable=SC2034 # used by those who source this
ASIDE='# set aside by hpcli: '

# A file's text with our block replaced by $2, at its end; an empty $2 takes it out.
with_block() {
    local path=$1 text=$2
    [[ ! -r $path ]] || awk -v begin="$BEGIN_BLOCK" -v end="$END_BLOCK" \
        '$0 == begin { ours = 1 } !ours { print } $0 == end { ours = 0 }' "$path"
    [[ -z $text ]] || printf '%s\n%s\n%s\n' "$BEGIN_BLOCK" "$text" "$END_BLOCK"
}

# Whether a file has exactly this block.
has_block() {
    local have
    have=$([[ ! -r $1 ]] || awk -v begin="$BEGIN_BLOCK" -v end="$END_BLOCK" \
        '$0 == end { ours = 0 } ours { print } $0 == begin { ours = 1 }' "$1")
    [[ $have == "$2" ]]
}

new_uuid() { printf '%s\n' "$(</proc/sys/kernel/random/uuid)"; }

# The number of a user or group: id_of passwd|group NAME; fails for one that is not there.
id_of() {
    local name _ id
    while IFS=: read -r name _ id _; do
        [[ $name != "$2" ]] || { printf '%s\n' "$id" && return; }
    done <"$R/etc/$1"
    return 1
}
