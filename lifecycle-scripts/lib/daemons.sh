# shellcheck shell=bash
# Services where no systemd runs: a file of pid and start time for each, so that a pid that somebody else got is never
# killed. Sourced by `service` after base.sh.

SERVICES=$RUN/services
LONGEST_START=${HPCLI_LONGEST_START-60}
MOST_OUTPUT=$((10 * 1024 * 1024))
AGAIN='starting it again'

# USER, KEPT and COMMAND of a service.
find_service() {
    local name user kept argv
    while IFS=$'\t' read -r name user kept argv; do
        [[ $name != "$1" ]] || { USER=$user KEPT=$kept && read -r -a COMMAND <<<"$argv" && return; }
    done < <(table services.tsv)
    die "service $1: found no such service in $ETC/services.tsv"
}

daemon_start() {
    local name=$1 out=$LOGS/$1.out
    find_service "$name"
    alone
    ! daemon_pid "$name" >/dev/null || { free && return; }
    [[ -z $STARTING_ALL || $STARTING_ALL == "$(last_stop)" ]] || die "service $name: not started, since all were stopped meanwhile"
    [[ -x ${COMMAND[0]} ]] || die "service $name: found no program ${COMMAND[0]}"
    id_of passwd "$USER" >/dev/null || die "service $name: found no user $USER"
    mkdir -p "$SERVICES" "$LOGS"
    [[ ! -e $out ]] || mv "$out" "$out.1"
    rm -f "$(socket_of "$name")"
    if [[ $KEPT == yes ]]; then
        setsid "$HERE/service" keep "$name" >>"$out" 2>&1 </dev/null 3>&- 9>&- &
    else
        first_start_flag "$name"
        as_user setsid "${COMMAND[@]}" >>"$out" 2>&1 </dev/null 3>&- 9>&- &
    fi
    remember "$name" $!
    free
}

# One change at a time: a machine's start and a person may both be at it. Nobody waits for those who merely wait.
alone() {
    mkdir -p "$RUN"
    exec 9>>"$RUN/service.lock"
    flock -w 120 9 || die "service: another start or stop has been at work for 2 minutes"
}

free() { exec 9>&-; }

# A start of all ends where a stop of all came in.
STARTING_ALL=
last_stop() { cat "$RUN/last_stop" 2>/dev/null || echo never; }
since_the_last_stop() { STARTING_ALL=$(last_stop); }

end_starts() {
    has_systemd && return
    alone
    new_uuid >"$RUN/last_stop"
    free
}

# A container's slurmd tells slurmctld that its machine has started; the kernel's own start time would not.
first_start_flag() {
    [[ $1 == slurmd && ! -e $SERVICES/slurmd.started ]] || return 0
    COMMAND+=(-b)
    : >"$SERVICES/slurmd.started"
}

as_user() {
    if [[ $USER == root || -n $R ]]; then exec "$@"; fi
    exec setpriv --reuid "$USER" --regid "$(id -g "$USER")" --init-groups "$@"
}

# Run a service, and run it again when it ends: after 1 s, then 2, up to 10; one that has run for a minute is well.
keep_running() {
    local pause=1 began
    CHILD=''
    find_service "$1"
    trap 'end_child; exit 0' TERM
    while :; do
        began=$SECONDS
        # Should we be killed, it ends too.
        (as_user setpriv --pdeathsig TERM "${COMMAND[@]}") &
        CHILD=$!
        wait "$CHILD" || true
        CHILD=''
        ((SECONDS - began < 60)) || pause=1
        # Its output is appended to: cutting it short is safe.
        (($(stat -c %s "$LOGS/$1.out") < MOST_OUTPUT)) || : >"$LOGS/$1.out"
        echo "service $1: ended, $AGAIN in $pause s"
        sleep "$pause" &
        wait $! || true
        ((pause = pause * 2 > 10 ? 10 : pause * 2))
    done
}

end_child() {
    local try
    [[ -n $CHILD ]] || return 0
    kill -TERM "$CHILD" 2>/dev/null || return 0
    for ((try = 0; try < 80; try++)); do
        start_time "$CHILD" >/dev/null || return 0
        sleep 0.05
    done
    kill -KILL "$CHILD" 2>/dev/null || true
}

# Its pid's start time in clock ticks; nothing for a zombie or a pid that is nobody's.
start_time() {
    local text fields
    { text=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    # The name, in brackets, may hold anything: fields count from behind it.
    read -r -a fields <<<"${text##*) }"
    [[ ${fields[0]} != Z ]] || return 1
    printf '%s\n' "${fields[19]}"
}

remember() { printf '%s %s\n' "$2" "$(start_time "$2" || echo 0)" >"$SERVICES/$1"; }

# The pid of a service that runs.
daemon_pid() {
    local pid since
    [[ -r $SERVICES/$1 ]] && read -r pid since <"$SERVICES/$1" || return 1
    [[ $(start_time "$pid") == "$since" ]] || return 1
    printf '%s\n' "$pid"
}

daemon_signal() {
    local pid
    pid=$(daemon_pid "$1") || die "service $1: found it stopped, expected it to run"
    kill "-$2" "$pid"
}

# Only the daemon itself: slurmd's stepds, and so its jobs, live on. Those that write state get time for it.
daemon_stop() {
    local pid limit=5
    alone
    pid=$(daemon_pid "$1") || { rm -f "$SERVICES/$1" && free && return; }
    case $1 in slurmctld | slurmdbd | mariadb) limit=30 ;; esac
    kill -TERM "$pid" 2>/dev/null || true
    until_gone "$1" "$limit" || kill -KILL "$pid" 2>/dev/null || true
    until_gone "$1" 5 || die "service $1: found pid $pid still there after SIGKILL"
    rm -f "$SERVICES/$1"
    free
}

until_gone() {
    local end=$((SECONDS + $2))
    while daemon_pid "$1" >/dev/null; do
        ((SECONDS <= end)) || return 1
        sleep 0.05
    done
}

daemon_status() {
    local pid
    if pid=$(daemon_pid "$1"); then printf '%s running %s\n' "$1" "$pid" && return; fi
    printf '%s stopped\n' "$1"
    die "service $1: found it stopped, expected it to run"
}

# Wait until others can use it, or it has ended.
daemon_wait() {
    local name=$1 end=$((SECONDS + LONGEST_START)) words
    find_service "$name"
    until is_up "$name"; do
        if ! daemon_pid "$name" >/dev/null; then
            # A stop removes its file before it lets go.
            alone && free
            [[ -e $SERVICES/$name ]] || die "service $name: stopped while it started"
            words=$("$HERE/last-words" "$name" 2>/dev/null || true)
            die "service $name: ended at its start: ${words:-without a word} (log: $LOGS/$name.out)"
        fi
        ! keeps_ending "$name" || die "service $name: keeps ending: $("$HERE/last-words" "$name" || true) (log: $LOGS/$name.out)"
        if ((SECONDS > end)); then
            words=$("$HERE/last-words" "$name" 2>/dev/null || true)
            die "service $name: found it not ready after $LONGEST_START s: ${words:-it says nothing} (log: $LOGS/$name.out)"
        fi
        sleep 0.05
    done
}

keeps_ending() {
    [[ $KEPT == yes ]] || return 1
    (($(grep -c "$AGAIN" "$LOGS/$1.out" 2>/dev/null) >= 2))
}

is_up() {
    case $1 in
        # Its socket is there before it has made the schema.
        mariadb) mariadb-admin --socket="$(socket_of mariadb)" --connect-timeout=5 --silent ping >/dev/null 2>&1 ;;
        munge | hpcli-keeper) [[ -S $(socket_of "$1") ]] ;;
        slurmctld) listens "$(port_of slurm.conf SlurmctldPort 6817)" ;;
        slurmd) listens "$(port_of slurm.conf SlurmdPort 6818)" ;;
        slurmdbd) listens "$(port_of slurmdbd.conf DbdPort 6819)" ;;
        hpcli-controller) listens 6825 ;;
        *) daemon_pid "$1" >/dev/null ;;
    esac
}

socket_of() {
    case $1 in
        munge) echo "$R/run/munge/munge.socket.2" ;;
        mariadb) echo "$(database_run)/mysqld.sock" ;;
        hpcli-keeper) echo "$RUN/keeper/socket" ;;
        *) echo "$SERVICES/none" ;;
    esac
}

port_of() {
    local port
    port=$(sed -n "s/^$2=\([0-9]*\).*/\1/Ip" "$R/etc/slurm/$1" 2>/dev/null | tail -n 1)
    printf '%s\n' "${port:-$3}"
}

# Read from the kernel: a connection of ours would stand in the daemon's log as a fault.
listens() {
    local hex
    hex=$(printf ':%04X' "$1")
    awk -v port="$hex" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }' \
        /proc/net/tcp /proc/net/tcp6 2>/dev/null
}
