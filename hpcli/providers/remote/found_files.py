"""What `lifecycle/files read` prints, as files found on a machine."""

import base64
import binascii
import hashlib
from collections.abc import Mapping

from hpcli.errors import HpcliError
from hpcli.machines import FoundFile


def parse_found(text: str) -> Mapping[str, FoundFile]:
    """Parse lines of path, octal mode, owner, group and base64, split by tabs. Raises `HpcliError`."""
    found: dict[str, FoundFile] = {}
    for line in text.splitlines():
        fields = line.split("\t")
        try:
            path, mode, owner, group, encoded = fields
            content = base64.b64decode(encoded, validate=True)
            found[path] = FoundFile(
                hashlib.sha256(content).hexdigest(), int(mode, 8), owner, group, content.decode(errors="replace")
            )
        except (ValueError, binascii.Error):
            raise HpcliError("files", f"found the line {line[:80]!r}, expected five fields split by tabs") from None
    return found
