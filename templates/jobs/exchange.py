"""Exchange between the ranks over TCP: rank 0 sums in rank order, so every run gets the same bits.

Rank 0 listens on its node's own address and publishes port and token in the run's folder, under the
job's id and restart count: after a requeue nobody meets the rendezvous of the attempt before.
Both ends prove with an HMAC that they know the token; it never crosses the network.
"""

import hmac
import json
import os
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from checkpoints import write_atomically
from numpy.typing import NDArray

# A stranger may not hold up rank 0; a rank is patient, so it cannot leave just as it is let in.
ADMIT_SECONDS = 1.0
JOIN_SECONDS = 5.0
RETRY_SECONDS = 0.02
NONCE = 16
LENGTH = struct.Struct("!Q")

Vector = NDArray[np.float64]


class PeerError(OSError):
    """A rank died, fell silent, or never came."""


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """Where rank 0 of one attempt listens, and the secret of that attempt."""

    host: str
    port: int
    token: str

    def proof(self, nonce: bytes, text: str) -> bytes:
        return hmac.digest(self.token.encode(), nonce + text.encode(), "sha256")


class RendezvousFile:
    """The file by which the ranks of one attempt find each other (0600)."""

    def __init__(self, run: Path, job: str, attempt: int) -> None:
        self._path = run / f"rendezvous-{job}-{attempt}.json"
        self._all = run.glob

    def publish(self, rendezvous: Rendezvous) -> None:
        """Write ours and remove those of earlier attempts, which tells their ranks that they are superseded."""
        for stale in self._all("rendezvous-*"):
            stale.unlink(missing_ok=True)
        content = {"host": rendezvous.host, "port": rendezvous.port, "token": rendezvous.token}
        write_atomically(self._path, json.dumps(content).encode(), 0o600)

    def read(self) -> Rendezvous | None:
        """`None`: not there, or not ours to read."""
        try:
            content = json.loads(self._path.read_bytes())
            return Rendezvous(content["host"], content["port"], content["token"])
        except (OSError, ValueError, KeyError):
            return None

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


class Exchange:
    """The connected ranks: on rank 0 one stream per peer, in rank order; elsewhere the one to rank 0."""

    def __init__(self, streams: list[socket.socket], rank: int, timeout: float) -> None:
        self._streams = streams
        self._rank = rank
        for stream in streams:
            stream.settimeout(timeout)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def sum(self, own: Vector) -> Vector:
        """Add up one vector of every rank, in rank order. Raises `PeerError`."""
        if self._rank:
            self._send(0, own.tobytes())
            return np.frombuffer(self._receive(0))
        total = own
        for index in range(len(self._streams)):
            total = total + np.frombuffer(self._receive(index))
        self._send_all(total.tobytes())
        return total

    def broadcast(self, content: bytes) -> bytes:
        """Give rank 0's bytes to everybody. Raises `PeerError`."""
        if self._rank:
            return self._receive(0)
        self._send_all(content)
        return content

    def close(self) -> None:
        for stream in self._streams:
            stream.close()

    def _send_all(self, content: bytes) -> None:
        for index in range(len(self._streams)):
            self._send(index, content)

    def _send(self, index: int, content: bytes) -> None:
        try:
            self._streams[index].sendall(LENGTH.pack(len(content)) + content)
        except OSError as fault:
            raise PeerError(f"{self._peer(index)}: found {fault}, expected it to take {len(content)} bytes") from fault

    def _receive(self, index: int) -> bytes:
        try:
            (length,) = LENGTH.unpack(_exactly(self._streams[index], LENGTH.size))
            return _exactly(self._streams[index], length)
        except OSError as fault:
            raise PeerError(f"{self._peer(index)}: found {fault}, expected its data") from fault

    def _peer(self, index: int) -> str:
        return f"rank {0 if self._rank else index + 1}"


def listen(file: RendezvousFile, address: str, world: int, timeout: float) -> Exchange:
    """Wait as rank 0 for all peers. Raises `PeerError` when one has not come within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    peers: dict[int, socket.socket] = {}
    with socket.create_server((address, 0), backlog=world) as server:
        rendezvous = Rendezvous(address, server.getsockname()[1], os.urandom(32).hex())
        file.publish(rendezvous)
        while len(peers) < world - 1:
            server.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                stream, _ = server.accept()
            except TimeoutError:
                missing = sorted(set(range(1, world)) - peers.keys())
                raise PeerError(f"ranks {missing}: not there after {timeout:g} s") from None
            rank = _admit(stream, rendezvous, set(range(1, world)) - peers.keys())
            if rank:
                peers[rank] = stream
    return Exchange([peers[rank] for rank in sorted(peers)], 0, timeout)


def _admit(stream: socket.socket, rendezvous: Rendezvous, expected: set[int]) -> int:
    """The rank that proved to know the token, 0 for anybody else."""
    nonce = os.urandom(NONCE)
    stream.settimeout(ADMIT_SECONDS)
    try:
        stream.sendall(nonce)
        hello = _exactly(stream, NONCE + LENGTH.size + 32)
        (rank,) = LENGTH.unpack(hello[NONCE : NONCE + LENGTH.size])
        if rank in expected and hmac.compare_digest(hello[-32:], rendezvous.proof(nonce, f"rank {rank}")):
            stream.sendall(rendezvous.proof(hello[:NONCE], "rank 0"))
            return int(rank)
    except OSError:
        pass
    stream.close()
    return 0


def connect(file: RendezvousFile, rank: int, timeout: float) -> Exchange:
    """Find rank 0 and join it. Raises `PeerError` when it has not answered within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        rendezvous = file.read()
        stream = _join(rendezvous, rank) if rendezvous else None
        if stream:
            return Exchange([stream], rank, timeout)
        time.sleep(RETRY_SECONDS)
    raise PeerError(f"rank 0: no answer within {timeout:g} s")


def _join(rendezvous: Rendezvous, rank: int) -> socket.socket | None:
    try:
        stream = socket.create_connection((rendezvous.host, rendezvous.port), timeout=JOIN_SECONDS)
    except OSError:
        return None
    try:
        nonce, own = _exactly(stream, NONCE), os.urandom(NONCE)
        stream.sendall(own + LENGTH.pack(rank) + rendezvous.proof(nonce, f"rank {rank}"))
        if hmac.compare_digest(_exactly(stream, 32), rendezvous.proof(own, "rank 0")):
            return stream
    except OSError:
        pass
    stream.close()
    return None


def _exactly(stream: socket.socket, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        part = stream.recv(min(size - len(content), 1 << 20))
        if not part:
            raise PeerError("the connection closed")
        content += part
    return bytes(content)
