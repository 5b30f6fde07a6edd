"""Machines that run systemd, as containers: the image of a Slurm series with systemd as process 1."""

import subprocess
from pathlib import Path

from tests.docker.ground import Ground, built

BUILD = Path(__file__).parents[2] / "docker-slurm" / "build.sh"
FIRST_PROCESS = """#!/bin/bash
# The engine mounts the container's own cgroups read-only; a machine's systemd and slurmd make new ones.
mount -o remount,rw,bind /sys/fs/cgroup
for folder in /sys/fs/cgroup/*/; do
    [[ -L ${folder%/} ]] || ! mountpoint -q "$folder" || mount -o remount,rw,bind "$folder"
done
ssh-keygen -A
keys=/home/admin/.ssh/authorized_keys
install -d -o admin -g admin -m 700 "${keys%/*}"
[[ -e $keys ]] || install -o admin -g admin -m 600 /dev/stdin "$keys" <<<"$HPCLI_AUTHORIZED_KEY"
# In a container these words count as the kernel's command line: systemd 256 and 257 take cgroup v1 only when told to.
exec /sbin/init SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 systemd.unified_cgroup_hierarchy=0
"""
DOCKERFILE = """ARG BASE
FROM ${BASE}
RUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \\
    -o Dpkg::Use-Pty=0 install systemd-sysv dbus libpam-systemd && rm -rf /var/lib/apt/lists/*
# The image has Slurm's packages without a database: nothing of them is to start before hpcli says so.
RUN systemctl disable mariadb munge slurmd slurmctld slurmdbd
COPY first-process /usr/local/sbin/first-process
RUN chmod 755 /usr/local/sbin/first-process
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["/usr/local/sbin/first-process"]
CMD []
"""
# What systemd and slurmd need of root's rights; --privileged asks for all, which not every machine has to give.
CAPABILITIES = ("SYS_ADMIN", "SYS_PTRACE", "SYS_BOOT", "SYS_NICE", "NET_ADMIN", "SYSLOG", "IPC_LOCK", "DAC_READ_SEARCH")
OPTIONS = (
    *(word for one in CAPABILITIES for word in ("--cap-add", one)),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--security-opt", "systempaths=unconfined", "--cgroupns", "private"),
    *("--tmpfs", "/run/lock", "--env", "container=docker"),
)


def systemd_image(series: str, folder: Path) -> str:
    """Build it from the series' own image; the engine's cache knows it again."""
    name, base = f"j-systemd:{series}", built(BUILD, (series, "slurm"))
    (folder / "first-process").write_text(FIRST_PROCESS)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    argv = ["docker", "build", "--quiet", "--network", "host", "--tag", name, "--build-arg", f"BASE={base}", folder]
    subprocess.run(argv, check=True, capture_output=True, timeout=900)
    return name


def systemd_ground(series: str, folder: Path, name: str, network: str) -> Ground:
    machines = ("ctl", "login1", "c1", "c2")
    context = folder / "image"
    context.mkdir(parents=True, exist_ok=True)
    image = systemd_image(series, context)
    return Ground(folder, name, network, image, machines, command=(), options=OPTIONS)
