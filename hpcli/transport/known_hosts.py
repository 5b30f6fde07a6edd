"""Host keys: what the known_hosts files say of a host, and what we say of a key that they do not vouch for.

The format is sshd(8)'s, "SSH_KNOWN_HOSTS FILE FORMAT". Files are only ever read.
"""

import base64
import binascii
import fnmatch
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcli.errors import Unreachable

SSH_PORT = 22
SHORT = {"ssh-ed25519": "ED25519", "ssh-rsa": "RSA", "ssh-dss": "DSA"}


@dataclass(frozen=True, slots=True)
class KnownKey:
    """One line: `marker` is "", "@revoked" or "@cert-authority"; `blob` is the public key."""

    file: str
    line: int
    marker: str
    hosts: str
    kind: str
    blob: bytes

    def names(self, lookup: str) -> bool:
        """Whether the line is about this host, called `name` or `[name]:port`."""
        if self.hosts.startswith("|1|"):
            return _hashed(self.hosts, lookup)
        patterns = [pattern.lower() for pattern in self.hosts.split(",")]
        if any(pattern[0] == "!" and _matches(pattern[1:], lookup) for pattern in patterns if pattern):
            return False
        return any(_matches(pattern, lookup) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class HostKey:
    """The key that a host has shown."""

    kind: str
    fingerprint: str

    @property
    def short(self) -> str:
        return short_kind(self.kind)


@dataclass(frozen=True, slots=True)
class Place:
    """A host as the errors name it: `name` is what we were asked for, `lookup` its name in known_hosts."""

    name: str
    address: str
    port: int
    lookup: str
    file: str = "~/.ssh/known_hosts"

    @property
    def subject(self) -> str:
        return f"host {self.name}"

    @property
    def where(self) -> str:
        return f"{self.address} port {self.port}"


def lookup_name(address: str, port: int, alias: str = "") -> str:
    if alias:
        return alias.lower()
    return address.lower() if port == SSH_PORT else f"[{address.lower()}]:{port}"


def read_known(files: Iterable[str]) -> tuple[KnownKey, ...]:
    """Every readable line of every file that exists."""
    found: list[KnownKey] = []
    for file in files:
        try:
            text = Path(file).expanduser().read_text(errors="replace")
        except OSError:
            continue
        parsed = (_parse(file, number, line) for number, line in enumerate(text.splitlines(), 1))
        found += [known for known in parsed if known]
    return tuple(found)


def _parse(file: str, number: int, line: str) -> KnownKey | None:
    words = line.split()
    marker = words.pop(0) if words and words[0].startswith("@") else ""
    if len(words) < 3 or words[0].startswith("#"):
        return None
    try:
        blob = base64.b64decode(words[2], validate=True)
    except binascii.Error:
        return None
    return KnownKey(file, number, marker, words[0], words[1], blob)


def _matches(pattern: str, lookup: str) -> bool:
    # Brackets stand for themselves in this format, only * and ? are special.
    return fnmatch.fnmatchcase(lookup, pattern.replace("[", "[[]"))


def _hashed(entry: str, lookup: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in entry.split("|")[2:4])
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hmac.new(salt, lookup.encode(), hashlib.sha1).digest(), digest)


def known_kinds(known: Sequence[KnownKey], lookup: str) -> tuple[str, ...]:
    """The kinds of key that the files hold for a host: these are to be asked for first."""
    return tuple(dict.fromkeys(one.kind for one in known if not one.marker and one.names(lookup)))


def check(known: Sequence[KnownKey], place: Place, kind: str, blob: bytes) -> None:
    """Raises `Unreachable` unless the files vouch for exactly this key."""
    about = [one for one in known if one.names(place.lookup)]
    shown = HostKey(kind, fingerprint(blob))
    if any(one.marker == "@revoked" and one.blob == blob for one in about):
        raise Unreachable(place.subject, f"its {shown.short} key {shown.fingerprint} is marked as revoked", "")
    same_kind = [one for one in about if not one.marker and one.kind == kind]
    if any(one.blob == blob for one in same_kind):
        return
    if same_kind:
        old = same_kind[0]
        raise changed_key(place, shown, fingerprint(old.blob), f"{old.file}:{old.line}")
    raise unknown_key(place, shown)


def fingerprint(blob: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def short_kind(kind: str) -> str:
    """As ssh and ssh-keyscan call it: `ssh-ed25519` is ED25519."""
    return SHORT.get(kind, "ECDSA" if kind.startswith("ecdsa") else kind)


def unknown_key(place: Place, shown: HostKey) -> Unreachable:
    """Nobody has vouched for this host yet."""
    scan = f"ssh-keyscan -t {shown.short.lower()} -p {place.port} {place.address} >> {place.file}"
    # ssh by itself would write it down in the user's own file, which is not looked at where another is named.
    own = str(place.file).endswith("/.ssh/known_hosts")
    once = f"ssh {place.name}" if own else f"ssh -o UserKnownHostsFile={place.file} {place.name}"
    return Unreachable(
        place.subject,
        f"its host key is not known: found {shown.short} {shown.fingerprint}, expected it in {place.file}",
        f"compare the fingerprint with the machine's own (there: ssh-keygen -lf /etc/ssh/ssh_host_"
        f"{shown.short.lower()}_key.pub), then: {scan}   (or, also behind a jump host: {once}, once)",
    )


def changed_key(place: Place, shown: HostKey, old: str, where: str) -> Unreachable:
    """Another key than the known one: the connection is refused, whatever the reason."""
    file = where.rsplit(":", 1)[0]
    return Unreachable(
        place.subject,
        f"its host key has changed: found {shown.short} {shown.fingerprint}, expected {old or 'the one'} of {where}; "
        "somebody may be listening in, or the machine was installed anew",
        f"only if you know why it changed: ssh-keygen -R '{place.lookup}' -f {file}   then accept the new key",
    )
