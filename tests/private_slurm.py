"""A real Slurm of three nodes on this machine for the tests: own munge, free ports, nothing left behind."""

import itertools
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

NODES = ("c1", "c2", "c3")
PROGRAMS = ("munged", "slurmctld", "slurmd")
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def missing_programs() -> tuple[str, ...]:
    return tuple(name for name in PROGRAMS if shutil.which(name, path=_PATH) is None)


@contextmanager
def private_slurm() -> Iterator[dict[str, str]]:
    """Give the environment that names the cluster, once all its nodes are idle."""
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="hp", dir="/tmp"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        conf = _write_files(home)
        env = {**os.environ, "PATH": _PATH, "SLURM_CONF": str(conf)}
        for argv in _daemons(home):
            stack.callback(_stop, _start(argv, env, home / "log" / f"{argv[0]}.out"))
            if argv[0] == "munged":
                _wait_for(lambda: (home / "m.sock").exists(), "munged's socket")
        _wait_for(lambda: _idle(env) == len(NODES), f"{len(NODES)} idle nodes; see {home}/log", 30)
        yield {"SLURM_CONF": str(conf)}


def _daemons(home: Path) -> list[list[str]]:
    munged = ["munged", "-F", "--force", f"--key-file={home}/munge.key", f"--socket={home}/m.sock"]
    munged += [f"--pid-file={home}/m.pid", f"--log-file={home}/log/munged.log", f"--seed-file={home}/m.seed"]
    return [munged, ["slurmctld", "-D"], *(["slurmd", "-D", "-N", node] for node in NODES)]


def _start(argv: list[str], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as sink:
        return subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
        )


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


def _idle(env: dict[str, str]) -> int:
    sinfo = subprocess.run(["sinfo", "-h", "-t", "idle", "-o", "%D"], env=env, capture_output=True, text=True)
    return int(sinfo.stdout.strip() or 0)


def _wait_for(happened: Callable[[], bool], what: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.05)


def _free_ports(count: int) -> list[int]:
    """Find ports below the ephemeral range: one in it may be taken again by any outgoing connection."""
    candidates = random.sample(range(24000, 31000), 50 * count)
    return list(itertools.islice(filter(_is_free, candidates), count))


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _write_files(home: Path) -> Path:
    for folder in ("log", "state", "spool", *(f"dev/{node}" for node in NODES)):
        (home / folder).mkdir(parents=True)
    key = home / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    devices = [home / "dev" / node / f"nvidia{gpu}" for node in NODES for gpu in (0, 1)]
    for device in devices:
        device.touch()
    gres = [f"NodeName={node} Name=gpu File={home}/dev/{node}/nvidia[0-1]" for node in NODES]
    (home / "gres.conf").write_text("\n".join(gres) + "\n")
    (home / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    conf = home / "slurm.conf"
    conf.write_text(_slurm_conf(home))
    return conf


def _slurm_conf(home: Path) -> str:
    host, me = socket.gethostname().split(".")[0], pwd.getpwuid(os.getuid()).pw_name
    controller_port, *ports = _free_ports(1 + len(NODES))
    nodes = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=1000 Gres=gpu:2"
        for node, port in zip(NODES, ports, strict=True)
    ]
    lines = [
        "ClusterName=contract",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={controller_port}",
        f"SlurmUser={me}",
        f"SlurmdUser={me}",
        "AuthType=auth/munge",
        f"AuthInfo=socket={home}/m.sock",
        "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "MpiDefault=none",
        "JobAcctGatherType=jobacct_gather/none",
        "SlurmdParameters=config_overrides",
        f"StateSaveLocation={home}/state",
        f"SlurmdSpoolDir={home}/spool/%n",
        f"SlurmdPidFile={home}/%n.pid",
        f"SlurmctldPidFile={home}/ctl.pid",
        f"SlurmctldLogFile={home}/log/slurmctld.log",
        f"SlurmdLogFile={home}/log/%n.log",
        "ReturnToService=1",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core",
        "SchedulerParameters=sched_min_interval=0,batch_sched_delay=0",
        "GresTypes=gpu",
        "MailProg=/bin/true",
        *nodes,
        "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP",
    ]
    return "\n".join(lines) + "\n"
