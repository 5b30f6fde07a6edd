#!/usr/bin/env bash
# What a container of compose.yaml runs:  site.sh controller|database|login|compute   (root, as process 1)
# A plain Slurm for its role and sshd. Munge's key and Slurm's configuration are made by whoever comes first, in the volumes
# /var/lib/site-key and /etc/slurm (from /site/slurm); what is there stays, so that it may be edited.
# It ends when a daemon of its role ends, on a compute node when sshd does: that one outlives its slurmd. TERM reboots it,
# where the engine starts it again.
set -euo pipefail

KEY=/var/lib/site-key/munge.key
GRACE=5
VITAL=()

main() {
    trap 'exit 0' TERM INT
    trap stop EXIT
    people
    share_key
    configure "${1-}"
    as munge munged --foreground &
    case ${1-} in
        controller) controller & VITAL+=($!) ;;
        database) database ;;
        compute) compute & ;;
        login) ;;
        *) echo "site: found the role ${1-}, expected controller, database, login or compute" >&2 && exit 1 ;;
    esac
    listen & VITAL+=($!)
    # What a site starts by itself with its machines. It must not keep the others waiting.
    [[ ! -x /etc/rc.local ]] || /etc/rc.local &
    wait -n "${VITAL[@]}"
}

# A daemon that does not end, since it is frozen, keeps no machine from its reboot.
stop() {
    local pids
    mapfile -t pids < <(jobs -p)
    ((${#pids[@]})) || return 0
    kill "${pids[@]}" 2>/dev/null || true
    { sleep "$GRACE" && kill -KILL "${pids[@]}" 2>/dev/null; } &
    wait "${pids[@]}" || true
}

as() {
    local user=$1 && shift
    exec setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups "$@"
}

# admin is the image's own; alice is everywhere too, with the same number.
people() {
    id alice >/dev/null 2>&1 || useradd --uid 1001 --no-create-home --shell /bin/bash --password '*' alice
    local user
    for user in admin alice; do
        install -d -o "$user" -g "$user" -m 700 "/home/$user" "/home/$user/.ssh"
        [[ -z ${HPCLI_AUTHORIZED_KEY-} ]] ||
            printf '%s\n' "$HPCLI_AUTHORIZED_KEY" | put "/home/$user/.ssh/authorized_keys" -o "$user" -g "$user" -m 600
    done
}

# All machines write the shared ones at the same time: each swaps its file in whole.
put() {
    install "${@:2}" /dev/stdin "$1.$HOSTNAME"
    mv -T "$1.$HOSTNAME" "$1"
}

# A link succeeds for one only, and then the file is whole.
put_first() {
    [[ ! -e $1 ]] || { cat >/dev/null && return; }
    install "${@:2}" /dev/stdin "$1.$HOSTNAME"
    ln -T "$1.$HOSTNAME" "$1" 2>/dev/null || true
    rm "$1.$HOSTNAME"
}

share_key() {
    head -c 128 /dev/urandom | put_first "$KEY" -m 600
    install -o munge -g munge -m 600 "$KEY" /etc/munge/munge.key
}

configure() {
    local series
    series=$(slurmd -V)
    install -d -o munge -g munge -m 755 /run/munge
    install -d -o slurm -g slurm -m 755 /run/slurm /var/log/slurm /var/lib/slurm /var/lib/slurm/slurmctld
    put_first /etc/slurm/slurm.conf -m 644 </site/slurm/slurm.conf
    put_first /etc/slurm/gres.conf -m 644 </site/slurm/gres.conf
    put_first /etc/slurm/site-prolog -m 755 </site/slurm/site-prolog
    [[ $series == *' 22.05.'* ]] || put_first /etc/slurm/cgroup.conf -m 644 </site/slurm/cgroup.conf
    [[ $1 != compute ]] || put_first /etc/rc.local -m 755 </site/slurm/rc.local
    [[ $1 != database ]] || put_first /etc/slurm/slurmdbd.conf -o slurm -g slurm -m 600 </site/slurm/slurmdbd.conf
}

controller() {
    # Jobs are not accounted before the database knows the cluster.
    until sacctmgr -nP list cluster format=cluster >/tmp/clusters 2>/dev/null; do sleep 0.5; done
    grep -qx site /tmp/clusters || sacctmgr -i add cluster site
    as slurm slurmctld -D
}

database() {
    local run
    # Debian has moved the socket from one release to the next: its package knows.
    run=$(awk '$1 == "d" { print $2; exit }' /usr/lib/tmpfiles.d/mariadb.conf)
    install -d -o mysql -g mysql -m 755 "$run" /var/lib/mysql
    [[ -d /var/lib/mysql/mysql ]] ||
        mariadb-install-db --user=mysql --datadir=/var/lib/mysql --skip-test-db --auth-root-authentication-method=socket >/dev/null
    rm -f "$run/mysqld.sock"
    # It is Debian 13's slurmdbd that must find its database made.
    as mysql mariadbd --datadir=/var/lib/mysql --skip-networking --init-file=/site/slurm/database.sql --innodb-buffer-pool-size=256M \
        --innodb-lock-wait-timeout=900 --innodb-log-file-size=64M &
    VITAL+=($!)
    until mariadb-admin --silent ping >/dev/null 2>&1; do sleep 0.2; done
    as slurm slurmdbd -D &
    VITAL+=($!)
}

# Simulated GPUs are plain files, and /dev is new at each start: one that was lost is back then. For slurmd too, a
# container's start is a boot.
compute() {
    local gpu
    for gpu in /dev/nvidia0 /dev/nvidia1; do
        [[ -e $gpu ]] || install -m 666 /dev/null "$gpu"
    done
    until getent hosts controller >/dev/null; do sleep 0.2; done
    # slurmctld tells boots apart by the second: no machine boots faster than that.
    sleep 2
    exec slurmd -D -b
}

listen() {
    install -d -m 755 /run/sshd
    [[ -s /etc/ssh/ssh_host_ed25519_key ]] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
    exec /usr/sbin/sshd -D -e
}

main "$@"
