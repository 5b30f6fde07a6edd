"""The cluster's own SSH key pair."""

from dataclasses import dataclass
from pathlib import Path

from hpcli.errors import HpcliError
from hpcli.ports import Transport

NAME = "id_ed25519"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """`private` is a file of mode 0600; `public` is the line for authorized_keys."""

    private: Path
    public: str


async def key_pair(transport: Transport, home: Path, cluster: str) -> KeyPair:
    """The pair in the cluster's folder; made if it is not there. Raises `HpcliError`."""
    private = home / NAME
    if not private.exists():
        await _make(transport, private, f"hpcli-{cluster}")
    done = await transport.run(["ssh-keygen", "-y", "-P", "", "-f", str(private)])
    if done.code:
        raise _useless(private, done.err)
    return KeyPair(private, f"{' '.join(done.out.split()[:2])} hpcli-{cluster}")


async def _make(transport: Transport, private: Path, comment: str) -> None:
    """Under another name first: a key that is there is whole."""
    private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = private.with_name(f"{NAME}.new")
    fresh.unlink(missing_ok=True)
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(fresh)]
    done = await transport.run(argv)
    if done.code:
        raise _useless(fresh, done.err)
    Path(f"{fresh}.pub").rename(f"{private}.pub")
    fresh.rename(private)


def _useless(private: Path, err: str) -> HpcliError:
    said = err.strip().splitlines()
    return HpcliError(
        f"key {private}",
        f"found that ssh-keygen refuses it: {said[-1] if said else 'without a word'}",
        "remove it, and the cluster's containers get a new one when they are made anew",
    )
