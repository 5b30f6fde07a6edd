"""Reading a live Slurm cluster into a spec: one look over there, then judge, then write."""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from hpcli.domain.adoption import Found, find
from hpcli.domain.adoption_lines import PROLOG, Line, lines_for
from hpcli.domain.adoption_nodes import LeftOut, is_host, is_name
from hpcli.domain.adoption_text import CARE, Choice, Reach, cluster_name, spec_text
from hpcli.domain.adoption_update import sections_of
from hpcli.domain.diagnosis import Configuration, parse_configuration
from hpcli.errors import HpcliError, NotFound, Unreachable, UsageFault
from hpcli.ports import Transport
from hpcli.spec.load import parse_spec
from hpcli.spec.model import Spec

LOOK = r"""
IFS= read -r mark
part() { name=$1; shift; "$@" </dev/null; printf '\n%s %s %s\n' "$mark" "$?" "$name"; }
[ -z "$1" ] || { SLURM_CONF=$1; export SLURM_CONF; }
[ -z "$2" ] || PATH=$2:$PATH
found=$(command -v scontrol || sh -lc 'command -v scontrol' </dev/null 2>/dev/null | tail -n 1)
case $found in /*) PATH=${found%/*}:$PATH ;; esac
part program printf %s "$found"
part host hostname -s
part user id -un
config=$(scontrol show config </dev/null)
part config printf '%s\n' "$config"
part nodes scontrol -a show node -o
set -f
for hook in $(printf '%s\n' "$config" | sed -n 's/^Prolog\(\[[0-9]*\]\)\{0,1\} *= *//p' | tr , ' '); do
    case $hook in /*) set +f; part "hook $hook" cat -- $hook 2>/dev/null; set -f ;; esac
done
:
"""
"""For sh: $1 slurm.conf, $2 the folder of programs, both may be empty; the mark comes on standard input."""

LIMIT = 120.0
USUAL = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read on a machine of the cluster. `hooks` are texts by path or pattern, only what can be read there."""

    program: str
    host: str
    user: str
    config: Configuration
    nodes: str
    hooks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for. `old` is the text of the file that is brought up to date, "" for a new one."""

    name: str = ""
    mode: str = ""
    reach: Reach = field(default_factory=Reach)
    host: str = ""
    slurm_conf: str = ""
    programs: str = ""
    old: str = ""
    source: str = "cluster.yaml"


@dataclass(frozen=True, slots=True)
class Adoption:
    """The spec's text and value, what it was made of, the site's lines, and nodes that came or went since."""

    text: str
    spec: Spec
    found: Found
    lines: tuple[Line, ...]
    left_out: tuple[LeftOut, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def _mark() -> str:
    return secrets.token_hex(16)


async def look(transport: Transport, slurm_conf: str = "", programs: str = "", mark: Callable[[], str] = _mark) -> Seen:
    """Read all in one round trip. Raises `NotFound` without Slurm's programs, `Unreachable` without slurmctld."""
    sign = mark()
    argv = ["sh", "-c", LOOK, "sh", slurm_conf, programs]
    done = await transport.run(argv, stdin=f"{sign}\n", env={"LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}, timeout=LIMIT)
    said = re.split(rf"\n{sign} (\d+) (.*)\n", done.out)
    parts = {name: (int(code), text) for text, code, name in zip(said[::3], said[1::3], said[2::3], strict=False)}
    program = parts.get("program", (0, ""))[1]
    if not program.startswith("/"):
        words = "found no scontrol on PATH there, expected Slurm's programs"
        raise NotFound("Slurm", words, "say where they are: --programs /opt/slurm/bin")
    config = parse_configuration(parts.get("config", (0, ""))[1])
    code, nodes = parts.get("nodes", (1, ""))
    if config is None or code:
        told = (done.err.strip() or f"sh ended with {done.code}").splitlines()[-1]
        hint = "is slurmctld up, and is it this slurm.conf? see there: scontrol ping; or give --slurm-conf"
        raise Unreachable("slurmctld", told, hint)
    hooks = {name.removeprefix("hook "): text for name, (code, text) in parts.items() if name.startswith("hook ")}
    return Seen(program, parts["host"][1].strip(), parts["user"][1].strip(), config, nodes, hooks)


async def adopt(transport: Transport, wanted: Wanted) -> Adoption:
    """Read the cluster and write its spec; touches nothing. Raises `HpcliError` for one that cannot be adopted."""
    before = parse_spec(wanted.old, wanted.source) if wanted.old else None
    if before and before.provider != "adopted":
        found = f"found provider {before.provider}, expected adopted: hpcli builds that cluster itself"
        raise UsageFault(wanted.source, found, "write another file: -o FILE")
    programs = wanted.programs or (before.adopted.programs or "" if before else "")
    seen = await look(transport, wanted.slurm_conf, programs)
    return judge(seen, wanted, before)


def judge(seen: Seen, wanted: Wanted, before: Spec | None = None) -> Adoption:
    """What was seen, as a spec. Raises `HpcliError`, `SpecInvalid` for what no rule of ours foresaw."""
    found = find(seen.config, seen.nodes)
    chain = _chain(found, seen, before)
    reach, left_out = _with_login(_kept_reach(wanted.reach, found, before), found, seen, wanted.host)
    text = spec_text(found, reach, _choice(seen, found, wanted, before, chain))
    spec = parse_spec(text, wanted.source)
    old, new = set(before.node_names if before else spec.node_names), set(spec.node_names)
    return Adoption(
        text=text,
        spec=spec,
        found=found,
        lines=lines_for(seen.config, chain, seen.hooks),
        left_out=(*found.left_out, *left_out),
        added=tuple(name for name in spec.node_names if name not in old),
        removed=tuple(name for name in (before.node_names if before else ()) if name not in new),
    )


def _choice(seen: Seen, found: Found, wanted: Wanted, before: Spec | None, chain: tuple[str, ...]) -> Choice:
    folder = seen.program.rpartition("/")[0]
    return Choice(
        name=cluster_name(wanted.name or (before.name if before else ""), found),
        mode=wanted.mode or "observe",
        python=before.adopted.python if before and "python" in before.adopted.model_fields_set else "",
        programs="" if folder in USUAL else folder,
        chain=chain,
        sections=sections_of(wanted.old, CARE) if before else {},
    )


def _chain(found: Found, seen: Seen, before: Spec | None) -> tuple[str, ...]:
    """The site's own Prolog, but for one that calls hpcli's: the two would call each other for ever."""
    kept = before.adopted.chain_prolog if before and found.gate else ()
    own = tuple(path for path in found.prolog if PROLOG not in seen.hooks.get(path, ""))
    return tuple(dict.fromkeys((*kept, *(() if found.gate else own))))


def _kept_reach(reach: Reach, found: Found, before: Spec | None) -> Reach:
    """What the command line says, else the old file; its addresses where Slurm has none but the name."""
    if before is None:
        return reach
    hosts, own = before.hosts, {found.controller: found.address} | {one.name: one.address for one in found.nodes}
    addresses = {
        name: before.address_of(name)
        for name in (*own, *before.login_names)
        if own.get(name, "") in ("", name) and before.address_of(name) != name
    }
    return replace(
        reach,
        user=reach.user or hosts.user or "",
        port=reach.port or hosts.port or 0,
        identity=reach.identity or hosts.identity or "",
        known_hosts=reach.known_hosts or hosts.known_hosts or "",
        login=",".join(before.login_names),
        addresses=addresses,
    )


def _with_login(reach: Reach, found: Found, seen: Seen, host: str) -> tuple[Reach, tuple[LeftOut, ...]]:
    """The machine behind `--ssh` as the cluster's login node, or its address for one that has another role."""
    if not host or reach.login:
        return reach, ()
    if not is_host(host):
        return reach, (
            LeftOut(f"login node {host}", "a name of ~/.ssh/config alone is no host name: add login: yourself"),
        )
    if seen.host == found.controller.partition(".")[0] or host in (found.controller, found.address):
        # The way that works from here; the name that Slurm has may mean nothing here.
        own = {} if host == found.controller else {found.controller: host}
        return replace(reach, addresses={**reach.addresses, **own}), ()
    nodes = {name for one in found.nodes for name in (one.name, one.hostname.partition(".")[0], one.address)}
    if nodes & {seen.host, host} or not is_name(seen.host):
        return reach, ()
    own = {} if host == seen.host else {seen.host: host}
    return replace(reach, login=seen.host, addresses={**reach.addresses, **own}), ()


def require_old(text: str, source: str) -> None:
    """Raises `HpcliError` when there is nothing to bring up to date."""
    if not text.strip():
        raise HpcliError(source, "found an empty file, expected the spec of an adopted cluster", "leave --update out")
