"""What `hpcli cluster adopt` finds out about a Slurm that somebody else built, and what it cannot take. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpcli.domain.adoption_lines import OURS, paths_of
from hpcli.domain.adoption_nodes import FoundNode, LeftOut, is_host, is_word, read_nodes
from hpcli.domain.diagnosis import Configuration
from hpcli.domain.names import fold
from hpcli.errors import HpcliError

OLDEST = (22, 5)
MUNGE_SOCKET = "/run/munge/munge.socket.2"

_HOST_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_RESERVED = frozenset({"default", "all", "localhost"})
_CONTROLLER = re.compile(r"([^,()\s]+)(?:\(([^()\s]*)\))?")
_USER = re.compile(r"([a-z_][a-z0-9_-]{0,31})\((\d{1,10})\)")
_FOLDER = re.compile(r"/|(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9_.+@=-]+)+")
_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\"'\\]{1,255}")
_LOOPBACK = re.compile(r"127\.|::1$|localhost$")


@dataclass(frozen=True, slots=True)
class Found:
    """A live cluster. `series` as 24.11; the controller is the first of several; an empty address is its name.

    `prolog` are the site's own scripts, hpcli's left out. `gate` says that hpcli's is in force already.
    """

    cluster: str
    series: str
    release: str
    controller: str
    address: str
    slurm_user: str
    slurm_uid: int
    state: str
    slurmd_pid: str
    munge_socket: str
    slurm_conf: str
    nodes: tuple[FoundNode, ...]
    prolog: tuple[str, ...] = ()
    prolog_flags: tuple[str, ...] = ()
    gate: bool = False
    left_out: tuple[LeftOut, ...] = ()


def find(conf: Configuration, nodes_text: str) -> Found:
    """Put together what slurmctld says. Raises `HpcliError` for a cluster that hpcli cannot look after."""
    _require_slurm(conf)
    (controller, address), *backups = _controllers(conf)
    nodes, out = read_nodes(nodes_text)
    _require_nodes(nodes, out)
    _require_machines(nodes, controller, address)
    user, uid = _user(conf)
    year, month = conf.version
    prolog, strange = _prologs(conf)
    return Found(
        cluster=conf.text("ClusterName"),
        series=f"{year}.{month:02}",
        release=conf.text("SLURM_VERSION"),
        controller=controller,
        address="" if _LOOPBACK.match(address) or address == controller else address,
        slurm_user=user,
        slurm_uid=uid,
        state=_folder(conf, "StateSaveLocation"),
        slurmd_pid=_line(conf, "SlurmdPidFile"),
        munge_socket=_socket(conf),
        slurm_conf=_folder(conf, "SLURM_CONF"),
        nodes=nodes,
        prolog=prolog,
        prolog_flags=tuple(flag for flag in conf.text("PrologFlags").split(",") if is_word(flag)),
        gate=any(_is_ours(path) for path in paths_of(conf, "Prolog")),
        left_out=(*(_backup(name) for name, _ in backups), *folded(out), *strange),
    )


def folded(out: Iterable[LeftOut]) -> tuple[LeftOut, ...]:
    """What is left out for one reason, as one."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for one in out:
        head, _, name = one.what.rpartition(" ")
        by_reason.setdefault((head, one.why), []).append(name)
    return tuple(LeftOut(f"{head} {fold(names)}".strip(), why) for (head, why), names in by_reason.items())


def _require_slurm(conf: Configuration) -> None:
    if conf.version < OLDEST:
        found = f"found release {conf.text('SLURM_VERSION') or 'not told'}, expected 22.05 or later"
        raise HpcliError("Slurm", found, "upgrade Slurm first, by at most two releases at a time")
    auth = conf.text("AuthType")
    if auth != "auth/munge":
        found = f"found {auth or 'none'}, expected auth/munge: hpcli's agents and controller sign with munge"
        raise HpcliError(
            "AuthType", found, "hpcli does not support another AuthType yet; job commands work all the same"
        )


def _controllers(conf: Configuration) -> Sequence[tuple[str, str]]:
    found = [(one[1], one[2] or "") for one in _CONTROLLER.finditer(conf.text("SlurmctldHost"))]
    name = found[0][0] if found else "none"
    if not found or not _HOST_NAME.fullmatch(name) or name.lower() in _RESERVED:
        expected = "expected a host name of letters, digits, . and -, a letter first"
        raise HpcliError(
            "SlurmctldHost", f"found {name!a}, {expected}", "put its name there: SlurmctldHost=NAME(ADDRESS)"
        )
    if found[0][1] and not is_host(found[0][1]):
        hint = "put a host name or an IP address there: SlurmctldHost=NAME(ADDRESS)"
        raise HpcliError("SlurmctldHost", f"found address {found[0][1]!a}, expected a host name or IP address", hint)
    return found


def _backup(name: str) -> LeftOut:
    return LeftOut(f"backup controller {name}", "hpcli's controller runs on the first SlurmctldHost alone")


def _require_nodes(nodes: Sequence[FoundNode], out: Sequence[LeftOut]) -> None:
    if nodes:
        return
    why = f"{folded(out)[0].what}: {folded(out)[0].why}" if out else "scontrol show node names none"
    raise HpcliError("nodes", f"found none to adopt, expected at least one ({why})", "see: scontrol -a show node")


def _require_machines(nodes: Sequence[FoundNode], controller: str, address: str) -> None:
    """hpcli has one agent for each machine, and its controller on one that takes no jobs."""
    here = {_short(controller), controller, address} - {""}
    for node in nodes:
        if here & {_short(node.hostname), node.hostname, node.name, node.address}:
            found = f"found it on the controller's machine {controller}, expected a machine that is not the controller"
            raise HpcliError(f"node {node.name}", found, "move slurmctld, or take that node out of slurm.conf")
    for what, values in (
        ("NodeHostName", [node.hostname for node in nodes]),
        ("NodeAddr", [node.address for node in nodes]),
    ):
        _require_apart(nodes, what, values)


def _require_apart(nodes: Sequence[FoundNode], what: str, values: Sequence[str]) -> None:
    names: dict[str, list[str]] = {}
    for node, value in zip(nodes, values, strict=True):
        names.setdefault(value, []).append(node.name)
    for value, shared in names.items():
        if len(shared) > 1:
            found = f"found {what} {value} for all of them, expected a machine for each: several slurmd share one host"
            raise HpcliError(f"nodes {fold(shared)}", found, "hpcli adopts clusters with one slurmd per machine")


def _user(conf: Configuration) -> tuple[str, int]:
    found = _USER.fullmatch(conf.text("SlurmUser"))
    if not found:
        expected = "expected a user of this machine, as slurm(64030)"
        words = f"found {conf.text('SlurmUser')!a}, {expected}"
        raise HpcliError("SlurmUser", words, "see: scontrol show config | grep SlurmUser")
    return found[1], int(found[2])


def _folder(conf: Configuration, key: str) -> str:
    value = conf.text(key)
    if not _FOLDER.fullmatch(value):
        expected = "expected an absolute path of letters, digits and _ . + @ = -"
        raise HpcliError(key, f"found {value!a}, {expected}", "hpcli cannot follow such a path into its own files")
    return value


def _line(conf: Configuration, key: str) -> str:
    value = conf.text(key)
    if not _LINE.fullmatch(value):
        raise HpcliError(key, f"found {value!a}, expected a path without quotes", "give it another name in slurm.conf")
    return value


def _socket(conf: Configuration) -> str:
    value = conf.option("AuthInfo", "socket").strip() or MUNGE_SOCKET
    if not _FOLDER.fullmatch(value):
        expected = "expected the absolute path of munged's socket"
        raise HpcliError("AuthInfo", f"found socket={value!a}, {expected}", "see AuthInfo in slurm.conf(5)")
    return value


def _prologs(conf: Configuration) -> tuple[tuple[str, ...], tuple[LeftOut, ...]]:
    """The site's own; a name without a folder means one that hpcli's Prolog could not find."""
    theirs = [path for path in paths_of(conf, "Prolog") if not _is_ours(path)]
    good = tuple(path for path in theirs if path.startswith("/") and _LINE.fullmatch(path))
    why = "no absolute path, so hpcli's Prolog cannot run it: call the gate from it, /etc/hpcli/prolog || exit 1"
    return good, tuple(LeftOut(f"Prolog {path}", why) for path in theirs if path not in good)


def _is_ours(path: str) -> bool:
    return any(path.startswith(ours) for ours in OURS)


def _short(name: str) -> str:
    return name.partition(".")[0] if not name[:1].isdigit() else name
