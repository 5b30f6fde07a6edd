# shellcheck shell=bash
# What a machine's start takes away and its services need again. Sourced after base.sh, with node.conf read.

runtime_folders() {
    install -d -m 755 "$RUN"
    # Where the agent leaves its verdict for the Prolog.
    [[ ${NODE[HPCLI_ROLE]-} != compute ]] || install -d -m 755 "$RUN/${NODE[HPCLI_NODE]}"
    # Slurm's and munge's own folders are theirs who built the cluster.
    ! adopted || return 0
    ! id_of passwd munge >/dev/null || install -d -o munge -g munge -m 755 "$R/run/munge"
    ! id_of passwd slurm >/dev/null || install -d -o slurm -g slurm -m 755 "$R/run/slurm"
    ! id_of passwd mysql >/dev/null || install -d -o mysql -g mysql -m 755 "$(database_run)"
}

# Debian has moved it from one release to the next: its package knows.
database_run() {
    local word path _
    while read -r word path _; do
        [[ $word != d ]] || { printf '%s\n' "$R$path" && return; }
    done 2>/dev/null <"$R/usr/lib/tmpfiles.d/mariadb.conf"
    printf '%s\n' "$R/run/mysqld"
}

# Plain files: gres.conf asks for one that is there, and nothing reads it. One named in /var/lib/hpcli/broken stays away,
# as a GPU that no reboot brings back.
simulated_gpus() {
    local i count=${NODE[HPCLI_SIMULATED_GPUS]:-0}
    for ((i = 0; i < count; i++)); do
        [[ -e $R/dev/nvidia$i || -e $VAR/broken/nvidia$i ]] || { : >"$R/dev/nvidia$i" && chmod 666 "$R/dev/nvidia$i"; }
    done
}
