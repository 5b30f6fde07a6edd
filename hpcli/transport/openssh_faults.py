"""What `ssh` says when it cannot get in, read into our own errors."""

import re
from dataclasses import dataclass, replace

from hpcli.errors import Unreachable
from hpcli.transport import faults
from hpcli.transport.known_hosts import (
    SSH_PORT,
    HostKey,
    Place,
    changed_key,
    fingerprint,
    lookup_name,
    read_known,
    unknown_key,
)

UNKNOWN = re.compile(r"No (\S+) host key is known for (\S+) and you have requested strict checking")
CHANGED = re.compile(r"Host key for (\S+) has changed and you have requested strict checking")
SENT = re.compile(r"The fingerprint for the (\S+) key sent by the remote host is\s+(SHA256:[A-Za-z0-9+/]+)")
OFFENDING = re.compile(r"Offending \S+ key in (.+):(\d+)")
SHOWN = re.compile(r"Server host key: (\S+) (SHA256:[A-Za-z0-9+/]+)")
DENIED = re.compile(r"Permission denied \(([^)]*)\)|Too many authentication failures|No more authentication methods")
OFFERED = re.compile(r"Offering public key: (.+)")
TAKEN = re.compile(r"Server accepts key: (.+)")
UNREADABLE = re.compile(r'Load key "(.+?)": (.+)')
CONNECT = re.compile(r"connect to host (\S+) port (\d+):")
CUT = re.compile(r"kex_exchange_identification|Connection (?:reset|closed) by|during banner exchange")
LINE_HEAD = re.compile(r"^(?:ssh: |debug1: )?")


@dataclass(frozen=True, slots=True)
class Words:
    """What ssh said, at first and when asked again to say more."""

    said: str
    more: str = ""

    @property
    def last(self) -> str:
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        return LINE_HEAD.sub("", lines[-1]) if lines else "ssh said nothing"


def needs_more(said: str) -> bool:
    """Whether keys are in question, or a jump host that keeps silent at first: then ssh is asked again."""
    # A host that lets us wait would do so once more.
    return "timed out" not in said.lower() and any(sign.search(said) for sign in (UNKNOWN, DENIED, CUT))


def words_of(said: str, more: str) -> Words:
    plain = [line for line in more.splitlines() if not line.startswith(("debug1:", "OpenSSH_"))]
    return Words("\n".join([*plain, said]), more)


def read_place(name: str, facts: str) -> tuple[Place, str]:
    """Of what `ssh -G` prints: where the host really is, and who we would be there."""
    known = dict(line.split(" ", 1) for line in facts.splitlines() if " " in line)
    address, port = known.get("hostname", name), int(known.get("port", SSH_PORT))
    file = known.get("userknownhostsfile", "~/.ssh/known_hosts").split(" ")[0]
    lookup = lookup_name(address, port, known.get("hostkeyalias", ""))
    return Place(name, address, port, lookup, file), known.get("user", "")


def explain(words: Words, place: Place, user: str) -> Unreachable:
    """The first that fits, host keys before all."""
    said = words.said
    if CHANGED.search(said):
        return _changed(words, place)
    if found := UNKNOWN.search(said):
        return _unknown(words, _where(found[2], place), found[1])
    if denied := DENIED.search(said):
        return faults.not_let_in(place, user, _tried(words), denied[1] or "")
    if "Could not resolve hostname" in said:
        named = re.search(r"resolve hostname (\S+?):", said)
        return faults.no_such_name(replace(place, address=named[1]) if named else place)
    if tried := CONNECT.search(said):
        place = replace(place, address=tried[1], port=int(tried[2]))
    if "Connection refused" in said:
        return faults.refused(place)
    if unreachable := re.search(r"No route to host|Network is unreachable", said):
        return faults.no_answer(place, unreachable[0].lower())
    if "timed out" in said.lower():
        return faults.no_answer(place)
    if CUT.search(said):
        return faults.cut_off(place, words.last)
    return faults.no_way(place, words.last)


def _where(lookup: str, place: Place) -> Place:
    """The host that ssh speaks of: ours, or a jump host on the way."""
    if lookup == place.lookup:
        return place
    bracketed = re.fullmatch(r"\[(.+)\]:(\d+)", lookup)
    address, port = (bracketed[1], int(bracketed[2])) if bracketed else (lookup, SSH_PORT)
    return Place(address, address, port, lookup)


def _unknown(words: Words, place: Place, short: str) -> Unreachable:
    # A jump host on the way shows its key first: the last one shown is the one refused.
    shown = [HostKey(kind, mark) for kind, mark in SHOWN.findall(words.more)]
    return unknown_key(place, shown[-1] if shown else HostKey(short, "(no fingerprint seen)"))


def _changed(words: Words, place: Place) -> Unreachable:
    about = CHANGED.search(words.said)
    sent, offending = SENT.search(words.said), OFFENDING.search(words.said)
    shown = HostKey(sent[1], sent[2]) if sent else HostKey("host", "(no fingerprint seen)")
    file, line = (offending[1], int(offending[2])) if offending else (place.file, 0)
    old = next((fingerprint(known.blob) for known in read_known([file]) if known.line == line), "")
    return changed_key(_where(about[1], place) if about else place, shown, old, f"{file}:{line}")


def _tried(words: Words) -> tuple[str, ...]:
    taken = {key.strip() for key in TAKEN.findall(words.more)}
    tried = []
    for offered in dict.fromkeys(key.strip() for key in OFFERED.findall(words.more)):
        needs = " (the host takes it, but it needs its passphrase: ssh-add)" if offered in taken else ""
        tried.append(offered.removesuffix(" explicit") + needs)
    return (*tried, *(f"{path} ({why})" for path, why in dict.fromkeys(UNREADABLE.findall(words.more))))
