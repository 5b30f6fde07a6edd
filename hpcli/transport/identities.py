"""Keys by which we log in, as far as their public halves go."""

import base64
from pathlib import Path

from hpcli.transport.known_hosts import fingerprint, short_kind


def public_half(path: Path) -> bytes:
    """What lies beside a private key as `NAME.pub`; empty when nothing does."""
    try:
        return base64.b64decode(path.with_name(f"{path.name}.pub").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return b""


def label(name: str, blob: bytes) -> str:
    """A key as errors name it, in the words of `ssh -v`: where it is from, its kind, its fingerprint."""
    size = int.from_bytes(blob[:4], "big")
    return f"{name} {short_kind(blob[4 : 4 + size].decode(errors='replace'))} {fingerprint(blob)}"
