"""What `~/.ssh/config` says of a host, for the transport that reads it by itself."""

import getpass
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcli.errors import UsageFault
from hpcli.transport.known_hosts import SSH_PORT, Place, lookup_name
from hpcli.transport.target import SshTarget

INCLUDE = re.compile(r"\s*include[\s=]+(.+)", re.IGNORECASE)
BLOCK = re.compile(r"\s*(host|match)[\s=]", re.IGNORECASE)
DEEPEST = 16
MOST_JUMPS = 8
USER_FILES = ("~/.ssh/config", "/etc/ssh/ssh_config")
IDENTITIES = ("~/.ssh/id_rsa", "~/.ssh/id_ecdsa", "~/.ssh/id_ed25519")
KNOWN = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
KNOWN_TO_ALL = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"
JUMP = re.compile(r"(?:ssh://)?(?:(?P<user>[^@]+)@)?(?P<host>\[[^\]]+\]|[^:\[\]]+)(?::(?P<port>\d+))?/?")

LookUp = Callable[[str, str], Mapping[str, object]]
"""What a configuration's text says of a host: keys in lower case, in the order of the text."""


@dataclass(frozen=True, slots=True)
class Route:
    """Everything needed to log in on one host; at most one of `jumps` (in the order of the way) and `proxy`."""

    place: Place
    user: str
    identities: tuple[str, ...]
    identities_only: bool
    agent: bool
    known_hosts: tuple[str, ...]
    jumps: tuple[SshTarget, ...]
    proxy: str


def config_text(target: SshTarget) -> str:
    """The files that count for a target as one text, what the target itself says first: the first value wins.

    Included files stand in place of their line. One limit: `Host` blocks of a file that is included inside
    another `Host` block count by themselves.
    """
    first = [f"User {target.user}"] if target.user else []
    first += [f"Port {target.port}"] if target.port else []
    for source in [target.config] if target.config else USER_FILES:
        # A file read before must not lend its last block to this one.
        first += ["Host *", *_lines(Path(source).expanduser(), 0)]
    return "\n".join(first) + "\n"


def _lines(path: Path, depth: int) -> Iterator[str]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return
    block = ""
    for line in text.splitlines():
        block = line if BLOCK.match(line) else block
        included = INCLUDE.match(line)
        if not included:
            yield line
        elif depth < DEEPEST:
            for pattern in shlex.split(included[1]):
                yield from _included(pattern, path, depth)
            yield block


def _included(pattern: str, source: Path, depth: int) -> Iterator[str]:
    root = Path("/etc/ssh") if source.is_relative_to("/etc/ssh") else Path("~/.ssh").expanduser()
    whole = root / Path(pattern).expanduser()
    for path in sorted(whole.parent.glob(whole.name)):
        yield from _lines(path, depth + 1)


def whole_way(target: SshTarget, look_up: LookUp, deep: int = 0) -> tuple[Route, ...]:
    """The hosts to log in on, each through the one before it; the last one is the target.

    The first jump host may have jump hosts of its own; for the others the list has said all (ssh_config(5)).
    """
    if deep > MOST_JUMPS:
        raise UsageFault(target.subject, "found jump hosts that lead in a circle", "correct ProxyJump in ~/.ssh/config")
    route = read_route(target, look_up(config_text(target), target.host))
    before: tuple[Route, ...] = ()
    for jump in route.jumps:
        further = read_route(jump, look_up(config_text(jump), jump.host)) if before else None
        before += (further,) if further else whole_way(jump, look_up, deep + 1)
    return (*before, route)


def read_route(target: SshTarget, found: Mapping[str, object]) -> Route:
    """`found` is what `LookUp` gives for the target."""
    said = {key: value for key, value in found.items() if isinstance(value, str)}
    address, port = said.get("hostname", target.host), target.port or int(said.get("port", SSH_PORT))
    user_files = target.known_hosts or said.get("userknownhostsfile", KNOWN)
    known = (target.known_hosts,) if target.known_hosts else tuple(user_files.split())
    listed = found.get("identityfile")
    named = tuple(str(path) for path in listed) if isinstance(listed, list) else ()
    if target.identity:
        named = (target.identity, *named)
    jumps, proxy = _way(target, found)
    return Route(
        place=Place(target.host, address, port, lookup_name(address, port, said.get("hostkeyalias", "")), known[0]),
        user=target.user or said.get("user", "") or getpass.getuser(),
        identities=named or IDENTITIES,
        identities_only=bool(target.identity) or said.get("identitiesonly", "no").lower() == "yes",
        agent=said.get("identityagent", "").lower() != "none",
        known_hosts=(*known, *said.get("globalknownhostsfile", KNOWN_TO_ALL).split()),
        jumps=jumps,
        proxy=proxy,
    )


def _way(target: SshTarget, found: Mapping[str, object]) -> tuple[tuple[SshTarget, ...], str]:
    """Of ProxyJump and ProxyCommand the one that is named first counts (ssh_config(5))."""
    key = next((key for key in found if key in ("proxyjump", "proxycommand")), "")
    value = found.get(key)
    if not isinstance(value, str) or value.lower() == "none":
        return (), ""
    if key == "proxycommand":
        return (), value
    jumps = tuple(_jump(word.strip(), target.config) for word in value.split(","))
    # `Host *` with a ProxyJump also fits the jump host itself: ssh then goes straight.
    return (() if any(jump.host == target.host for jump in jumps) else jumps), ""


def _jump(word: str, config: str) -> SshTarget:
    parts = JUMP.fullmatch(word)
    if not parts:
        raise UsageFault(f"ProxyJump {word}", "expected [user@]host[:port]", "correct it in the ssh configuration")
    return SshTarget(parts["host"].strip("[]"), parts["user"] or "", int(parts["port"] or 0), config=config)
