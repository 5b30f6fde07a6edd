#!/usr/bin/env bash
# Process 1 of a container that stands for a machine:  entrypoint machine
# Makes what a machine has of its own (host key, machine id), starts sshd, then the services that lifecycle scripts have
# set up here, and stops them all on TERM. Keys of the user admin: the variable HPCLI_AUTHORIZED_KEY, or the file
# /run/secrets/authorized_keys. Any other first word: that program instead.
set -euo pipefail

SERVICE=/opt/hpcli/lifecycle/service
STOPPING=
SSHD=

main() {
    [[ ${1-machine} == machine ]] || exec "$@"
    trap stop TERM INT
    identify
    admit
    mkdir -p /run/sshd /run/lock
    chmod 755 /run/sshd
    start_sshd
    [[ ! -x $SERVICE ]] || "$SERVICE" boot || echo "entrypoint: not all services have started" >&2
    while [[ -z $STOPPING ]]; do
        wait "$SSHD" || true
        [[ -n $STOPPING ]] || kill -0 "$SSHD" 2>/dev/null || { sleep 1 && start_sshd; }
    done
    [[ ! -x $SERVICE ]] || "$SERVICE" stop all || true
}

# Ends the wait for sshd too, wherever the signal finds us. Open sessions go on until the services are down.
stop() {
    STOPPING=yes
    [[ -z $SSHD ]] || kill "$SSHD" 2>/dev/null || true
}

start_sshd() {
    /usr/sbin/sshd -D -e &
    SSHD=$!
}

identify() {
    local id
    if [[ ! -s /etc/machine-id ]]; then
        id=$(</proc/sys/kernel/random/uuid)
        printf '%s\n' "${id//-/}" >/etc/machine-id
    fi
    [[ -s /etc/ssh/ssh_host_ed25519_key ]] ||
        { rm -f /etc/ssh/ssh_host_ed25519_key && ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key; }
}

# A key that was let in later stays: a machine keeps its users' files when it boots.
admit() {
    local folder=/home/admin/.ssh keys=${HPCLI_AUTHORIZED_KEY-} fresh
    [[ ! -r /run/secrets/authorized_keys ]] || keys+=$'\n'$(</run/secrets/authorized_keys)
    [[ -n $keys ]] || return 0
    install -d -o admin -g admin -m 700 /home/admin "$folder"
    fresh=$folder/authorized_keys.$HOSTNAME
    # Several machines may share this folder: the file is swapped whole.
    touch "$folder/authorized_keys"
    awk 'NF && !seen[$0]++' <(printf '%s\n' "$keys") "$folder/authorized_keys" >"$fresh"
    chown admin:admin "$fresh"
    chmod 600 "$fresh"
    mv "$fresh" "$folder/authorized_keys"
}

main "$@"
