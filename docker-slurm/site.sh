#!/usr/bin/env bash
# What a container of compose.yaml runs:  site.sh controller|database|login|compute   (root, as process 1)
# A plain Slurm for its role, from /site/slurm; munge's key is made by whoever comes first, in the volume /var/lib/site-key.
# It ends when one of its daemons ends.
set -euo pipefail

KEY=/var/lib/site-key/munge.key

main() {
    trap 'exit 0' TERM INT
    trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
    people
    share_key
    configure
    as munge munged --foreground &
    case ${1-} in
        controller) controller & ;;
        database) database ;;
        compute) slurmd -D & ;;
        login) login & ;;
        *) echo "site: found the role ${1-}, expected controller, database, login or compute" >&2 && exit 1 ;;
    esac
    wait -n
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
        [[ -z ${HPCLI_AUTHORIZED_KEY-} ]] || printf '%s\n' "$HPCLI_AUTHORIZED_KEY" |
            install -o "$user" -g "$user" -m 600 /dev/stdin "/home/$user/.ssh/authorized_keys"
    done
}

# A link succeeds for one only, and then the key is whole.
share_key() {
    (umask 077 && head -c 128 /dev/urandom >"$KEY.$HOSTNAME")
    ln "$KEY.$HOSTNAME" "$KEY" 2>/dev/null || true
    rm "$KEY.$HOSTNAME"
    install -o munge -g munge -m 600 "$KEY" /etc/munge/munge.key
}

configure() {
    install -d -o munge -g munge -m 755 /run/munge
    install -d -o slurm -g slurm -m 755 /run/slurm /var/log/slurm /var/lib/slurm /var/lib/slurm/slurmctld
    install -m 644 /site/slurm/slurm.conf /etc/slurm/slurm.conf
    [[ $(slurmd -V) == *' 22.05.'* ]] || install -m 644 /site/slurm/cgroup.conf /etc/slurm/cgroup.conf
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
    install -o slurm -g slurm -m 600 /site/slurm/slurmdbd.conf /etc/slurm/slurmdbd.conf
    [[ -d /var/lib/mysql/mysql ]] ||
        mariadb-install-db --user=mysql --datadir=/var/lib/mysql --skip-test-db --auth-root-authentication-method=socket >/dev/null
    rm -f "$run/mysqld.sock"
    # It is Debian 13's slurmdbd that must find its database made.
    as mysql mariadbd --datadir=/var/lib/mysql --skip-networking --init-file=/site/slurm/database.sql --innodb-buffer-pool-size=256M \
        --innodb-lock-wait-timeout=900 --innodb-log-file-size=64M &
    until mariadb-admin --silent ping >/dev/null 2>&1; do sleep 0.2; done
    as slurm slurmdbd -D &
}

login() {
    install -d -m 755 /run/sshd
    [[ -s /etc/ssh/ssh_host_ed25519_key ]] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
    exec /usr/sbin/sshd -D -e
}

main "$@"
