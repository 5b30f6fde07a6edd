"""What can go wrong on the way to a host, in the same words whoever carries us there."""

from collections.abc import Sequence

from hpcli.errors import Unreachable
from hpcli.transport.known_hosts import Place

CONNECT_LIMIT = 10
"""Seconds for the TCP connection and the greeting."""


def refused(place: Place) -> Unreachable:
    return Unreachable(place.subject, f"connection refused by {place.where}", "is sshd running there, on that port?")


def no_answer(place: Place, cause: str = "") -> Unreachable:
    found = cause or f"no answer within {CONNECT_LIMIT} s"
    return Unreachable(place.subject, f"{found} ({place.where})", "is it powered on, and not behind a firewall?")


def no_such_name(place: Place) -> Unreachable:
    found = f"found no address for the name {place.address}"
    return Unreachable(place.subject, found, "check its spelling, DNS, /etc/hosts and HostName in ~/.ssh/config")


def not_let_in(place: Place, user: str, tried: Sequence[str], takes: str = "") -> Unreachable:
    """`tried` names the keys that were offered; `takes` what the host would accept."""
    keys = "; ".join(tried) or "no key at all"
    accepts = f" (it takes: {takes})" if takes else ""
    who = f"{user}@{place.name}" if user else place.name
    return Unreachable(
        place.subject,
        f"it did not let {user or 'us'} in{accepts}; tried {keys}",
        f"put a key of yours on it (ssh-copy-id -p {place.port} {who}), name another with `identity`, "
        "or load it into your agent (ssh-add)",
    )


def cut_off(place: Place, cause: str) -> Unreachable:
    """The host answered and then closed before we were in."""
    found = f"it closed the connection before we were in: {cause}"
    return Unreachable(place.subject, found, "see sshd's log there (journalctl -u ssh)")


def no_way(place: Place, cause: str) -> Unreachable:
    return Unreachable(place.subject, f"no connection: {cause}", f"try by hand: ssh -v {place.name}")


def lost(subject: str, program: str, cause: str = "") -> Unreachable:
    """The connection broke while a program ran."""
    because = f" ({cause})" if cause else ""
    return Unreachable(
        subject,
        f"the connection was lost while {program} ran{because}; it may still run there",
        "look at the machine, then try again",
    )


def no_session(subject: str, cause: str) -> Unreachable:
    """We are in, and yet no program can be started."""
    return Unreachable(subject, f"it opens no session: {cause}", "see MaxSessions in sshd_config, and sshd's log there")
