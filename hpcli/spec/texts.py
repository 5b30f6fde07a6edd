"""Texts that end up in files, tables and command lines of machines: nothing in them ends a value or a line."""

import base64
import binascii
import re
from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator

from hpcli.spec.values import matching, refuse, text_schema

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?"
_HOST_NAME = r"[A-Za-z](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?"
_LOGIN = r"[a-z_][a-z0-9_-]{0,31}"
_ACCOUNT = r"[a-z0-9_][a-z0-9_.-]{0,62}"
_DATABASE_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}"
_LINE = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\"'\\]{0,255}"
_FILE = r"[^\x00-\x1f\x7f-\x9f]{1,4096}"
_FOLDER = r"/|(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9_.+@=-]+)+"
_NFS = r"(?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9][A-Za-z0-9.-]{0,252}):/[A-Za-z0-9_./+@=-]*"
_OPTIONS = r"(?:[A-Za-z0-9_.=:/@+-]+(?:,[A-Za-z0-9_.=:/@+-]+)*)?"
_URL = r"(?:https?|ftp|file)://[A-Za-z0-9_./~%+=&?:@\[\]-]+"
_IMAGE = r"[a-z0-9][A-Za-z0-9_./:@-]{0,254}"
_DOCKER_MEMORY = r"[1-9][0-9]{0,12}[bkmgBKMG]?"
_KEY_TYPE = r"ssh-ed25519|ssh-rsa|ecdsa-sha2-[a-z0-9-]+|sk-(?:ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com"
_KEY = rf"({_KEY_TYPE}) ([A-Za-z0-9+/]+=*)(?: [^\x00-\x1f\x7f-\x9f\u2028\u2029]*)?"

KEY_FORM = 'a public SSH key on one line, such as "ssh-ed25519 AAAAC3… alice"'
URL_FORM = "a URL such as http://mirror.example.org/debian"


def is_host(value: str) -> bool:
    """Whether it is a host name, or an IPv4 or IPv6 address."""
    if re.fullmatch(_HOST, value):
        return True
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def _host(value: str) -> str:
    if not is_host(value):
        raise refuse("a host name or an IP address")
    return value


def _url(value: str) -> str:
    if re.search(r"//[^/]*@", value):
        raise refuse(f"{URL_FORM}, without a user or password in it", found="a URL with a user in it")
    return matching(_URL, URL_FORM)(value)


def _public_key(value: str) -> str:
    """The text of anything that is no public key may be a secret one: it is not repeated."""
    text = value.strip()
    if "PRIVATE KEY-" in text:
        raise refuse("a public key: the content of the .pub file beside it", found="a private key")
    found = re.fullmatch(_KEY, text)
    if found is None or not _holds(found[2], found[1]):
        raise refuse(KEY_FORM, found=f"a text of {len(value)} characters")
    return text


def _holds(body: str, kind: str) -> bool:
    """Whether the key itself says what it is: 4 bytes of length, then the type (RFC 4253, 6.6)."""
    try:
        raw = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return False
    length = len(kind)
    return raw[:4] == length.to_bytes(4, "big") and raw[4 : 4 + length] == kind.encode() and len(raw) > 4 + length


Host = Annotated[str, AfterValidator(_host)]
HostName = Annotated[
    str,
    AfterValidator(
        matching(_HOST_NAME, "a host name, a letter first", frozenset({"default", "all", "localhost"})),
    ),
    text_schema(_HOST_NAME),
]
LoginName = Annotated[
    str,
    AfterValidator(matching(_LOGIN, "1 to 32 of a-z, 0-9, _ and -, a letter or _ first")),
    text_schema(_LOGIN),
]
AccountName = Annotated[
    str,
    AfterValidator(matching(_ACCOUNT, "1 to 63 of a-z, 0-9, _, . and - (Slurm keeps accounts in lower case)")),
    text_schema(_ACCOUNT),
]
DatabaseWord = Annotated[
    str,
    AfterValidator(matching(_DATABASE_WORD, "1 to 64 letters, digits, _, ., @ and -")),
    text_schema(_DATABASE_WORD),
]
Line = Annotated[str, AfterValidator(matching(_LINE, "at most 255 characters without quotes and backslashes"))]
FilePath = Annotated[str, AfterValidator(matching(_FILE, "the path of a file"))]
Folder = Annotated[
    str,
    AfterValidator(matching(_FOLDER, "an absolute path of letters, digits and _ . + @ = - without . and ..")),
]
NfsSource = Annotated[str, AfterValidator(matching(_NFS, "server:/export")), text_schema(_NFS)]
MountOptions = Annotated[
    str, AfterValidator(matching(_OPTIONS, "mount options, comma-separated, without blanks")), text_schema(_OPTIONS)
]
Url = Annotated[str, AfterValidator(_url)]
PublicKey = Annotated[str, AfterValidator(_public_key)]
ImageName = Annotated[str, AfterValidator(matching(_IMAGE, "the name of an image")), text_schema(_IMAGE)]
DockerMemory = Annotated[
    str, AfterValidator(matching(_DOCKER_MEMORY, "memory such as 512m or 4g")), text_schema(_DOCKER_MEMORY)
]
