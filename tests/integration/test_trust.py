"""Whom controller and agents believe: every way of lying to them, on a real munge and a real controller."""

import asyncio
import contextlib
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hpcli import app
from hpcli.domain.report import MAX_REPORT, NodeReport, to_dict
from tests.real_cluster import RealCluster
from tests.standing_cluster import standing_cluster

pytestmark = pytest.mark.slurm

STRANGER = 65_534
NAMELESS = 54_321


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    with standing_cluster(tmp_path_factory.mktemp("trust")) as standing:
        if os.getuid() == 0:
            # Elsewhere munge's socket is everybody's; the folders of a local cluster keep others away from it.
            standing.layout.runtime.parent.chmod(0o711)
            standing.layout.runtime.chmod(0o711)
        yield standing


@contextlib.asynccontextmanager
async def wire(
    cluster: RealCluster, source: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection to the controller: all that a liar has."""
    port = cluster.record.ports.controller
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


async def signed(cluster: RealCluster, message: object, uid: int | None = None) -> bytes:
    """A credential as munged gives it to this user, or to another one."""
    socket = str(cluster.layout.munge_socket)
    if uid is None:
        return await app.credentials(socket).encode(json.dumps(message).encode())
    if os.getuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("skipped: only root can sign as another user; see tests/unit/test_desk.py for the same rule")
    argv = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "munge", "-S", socket]
    answer = await app.local_transport().run(argv, stdin=json.dumps(message))
    assert answer.code == 0, answer.err
    return answer.out.strip().encode()


def report(node: str = "c1", seq: int | None = None, **other: object) -> dict[str, object]:
    number = int(time.time() * 1_000_000_000) if seq is None else seq
    honest = to_dict(NodeReport(node, "forged-boot", "forged-machine", number, time.time(), complete=True))
    return {"kind": "report", "protocol": 1, "reports": [{**honest, **other}]}


async def refusals(cluster: RealCluster) -> list[str]:
    return [str(body["refused"]) for body in await cluster.kinds("audit")]


async def until_refused(cluster: RealCluster, *words: str, since: int = 0) -> None:
    async def written() -> bool:
        return any(all(word in text for word in words) for text in (await refusals(cluster))[since:])

    await cluster.until(written, f"audited: {words}", 15)


async def believed(cluster: RealCluster, node: str) -> str:
    """The boot id in the newest report that the controller believes."""
    return str((await cluster.ask("status"))["nodes"][node]["boot_id"])


@pytest.mark.parametrize(
    ("source", "body"),
    [
        ("127.0.1.1", b""),
        ("127.0.1.2", b"MUNGE:garbage:"),
        ("127.0.1.3", b"\x00\xff\xfe" * 50),
        ("127.0.1.4", b"MUNGE:" + b"A" * 500_000 + b":"),
        ("127.0.1.5", json.dumps(report()).encode()),
    ],
    ids=["empty", "not-a-credential", "binary", "half-a-megabyte", "unsigned"],
)
async def test_what_nobody_signed_is_refused(cluster: RealCluster, source: str, body: bytes) -> None:
    async with wire(cluster, source) as (_reader, writer):
        writer.write(frame(body))
        await until_refused(cluster, "credential", source)
    assert await believed(cluster, "c1") != "forged-boot"


async def test_a_credential_counts_once(cluster: RealCluster) -> None:
    newest = (await cluster.ask("status"))["nodes"]["c2"]["seq"]
    # One above the agent's last, so that the agent itself is believed again after its next.
    credential = await signed(cluster, report(node="c2", seq=newest + 2))
    async with wire(cluster, "127.0.2.1") as (_reader, writer):
        writer.write(frame(credential))
        await cluster.until(lambda: believed_is(cluster, "c2", "forged-boot"), "an honest signature counts")
        writer.write(frame(credential))
        await until_refused(cluster, "replayed", "127.0.2.1")


async def believed_is(cluster: RealCluster, node: str, boot: str) -> bool:
    return await believed(cluster, node) == boot


async def test_a_report_signed_by_another_user_is_refused(cluster: RealCluster) -> None:
    async with wire(cluster) as (_reader, writer):
        writer.write(frame(await signed(cluster, report(), STRANGER)))
        await until_refused(cluster, f"report from uid {STRANGER}")
    assert await believed(cluster, "c1") != "forged-boot"


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "a node of another cluster": ({"node": "n1"}, "'n1', which is no node"),
    "a path for a name": ({"node": "../../etc"}, "'../../etc', which is no node"),
    "an old number": ({"seq": 7}, "report 7 of c1 is not newer"),
    "a number below all": ({"seq": -1}, "expected a sequence number"),
    "a number above all": ({"seq": 1 << 63}, "expected a sequence number"),
    "infinity": ({"seq": float("inf")}, "expected a sequence number"),
    "no number": ({"seq": "9"}, "expected a sequence number"),
    "results that are none": ({"results": ["gpu"]}, "not a node report"),
    "a remedy nobody knows": (
        {"incidents": [{"cause": "x", "message": "", "remedy": "explode", "evidence": []}]},
        "'explode' is not a valid Remedy",
    ),
}


@pytest.mark.parametrize(("lie", "refusal"), LIES.values(), ids=LIES)
async def test_a_lie_with_the_right_signature_is_refused(
    cluster: RealCluster, lie: dict[str, Any], refusal: str
) -> None:
    async with wire(cluster) as (_reader, writer):
        writer.write(frame(await signed(cluster, report(**lie))))
        await until_refused(cluster, refusal)
    assert await believed(cluster, "c1") != "forged-boot"


@pytest.mark.parametrize(
    "message",
    [[], "report", 1, {"kind": "report", "reports": {}}, {"kind": "report"}, {"kind": "ask", "what": ["status"]}],
    ids=str,
)
async def test_a_signed_message_of_the_wrong_shape_does_no_harm(cluster: RealCluster, message: object) -> None:
    async with wire(cluster, "127.0.3.1") as (_reader, writer):
        writer.write(frame(await signed(cluster, message)))
        writer.write(frame(await signed(cluster, {"kind": "ask", "what": "status"})))
        await writer.drain()
        assert await cluster.ask("status")


async def test_json_that_is_nested_without_end_is_refused(cluster: RealCluster) -> None:
    credential = await app.credentials(str(cluster.layout.munge_socket)).encode(b"[" * 200_000)
    async with wire(cluster, "127.0.3.2") as (_reader, writer):
        writer.write(frame(credential))
        await until_refused(cluster, "found no JSON", "127.0.3.2")


async def test_two_mebibytes_are_refused_and_the_connection_closed(cluster: RealCluster) -> None:
    async with wire(cluster, "127.0.4.1") as (reader, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(frame(b"M" * (2 << 20)))
            await writer.drain()
            assert await asyncio.wait_for(reader.read(), 5) == b""
        await until_refused(cluster, f"found {2 << 20} bytes, expected at most {MAX_REPORT}", "127.0.4.1")
    assert "2097152 bytes" in controller_log(cluster)
    assert await cluster.ask("status")


async def test_a_frame_that_is_cut_off_ends_quietly(cluster: RealCluster) -> None:
    whole = frame(await signed(cluster, report(node="c3")))
    for cut in (1, 3, 4, 5, len(whole) - 1):
        async with wire(cluster) as (reader, writer):
            writer.write(whole[:cut])
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 5) == b""
    assert await believed(cluster, "c3") != "forged-boot"
    assert "Traceback" not in controller_log(cluster)


async def test_peers_that_fall_silent_in_mid_header_block_nobody(cluster: RealCluster) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(50):
            _reader, writer = await stack.enter_async_context(wire(cluster))
            writer.write(b"\x00\x00")
            await writer.drain()
        began = time.monotonic()
        assert await cluster.ask("status")
        assert time.monotonic() - began < 2


async def test_a_thousand_bad_frames_do_not_fill_the_journal(cluster: RealCluster) -> None:
    before = len(await refusals(cluster))
    log_before = len(controller_log(cluster))
    await asyncio.gather(*(flood(cluster, "127.0.5.1", 100) for _ in range(10)))
    written = (await refusals(cluster))[before:]
    assert any("more from 127.0.5.1" in text for text in written)
    assert len(written) < 100
    assert len(controller_log(cluster)) - log_before < 50_000
    assert await cluster.ask("status")


async def flood(cluster: RealCluster, source: str, count: int) -> None:
    async with wire(cluster, source) as (reader, writer):
        for number in range(count):
            writer.write(frame(b"MUNGE:garbage %d:" % number))
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 60) == b""


@pytest.mark.parametrize("uid", [STRANGER, NAMELESS])
@pytest.mark.parametrize("what", ["reset", "pause", "resume"])
async def test_acting_takes_an_administrator(cluster: RealCluster, what: str, uid: int) -> None:
    reply = await question(cluster, {"kind": "ask", "what": what, "reason": "mine now"}, uid)
    assert (reply["ok"], reply["code"]) == (False, "unsafe")
    assert "expected root, SlurmUser or a Slurm operator" in reply["message"]
    await until_refused(cluster, f"{what} by uid {uid}")
    assert not (await cluster.ask("status"))["paused"]


async def test_anybody_may_read(cluster: RealCluster) -> None:
    reply = await question(cluster, {"kind": "ask", "what": "status"}, STRANGER)
    assert set(reply["result"]["nodes"]) == {"c1", "c2", "c3"}


async def question(cluster: RealCluster, message: Mapping[str, object], uid: int) -> dict[str, Any]:
    async with wire(cluster) as (reader, writer):
        writer.write(frame(await signed(cluster, message, uid)))
        length = int.from_bytes(await asyncio.wait_for(reader.readexactly(4), 10), "big")
        claim = await app.credentials(str(cluster.layout.munge_socket)).decode(await reader.readexactly(length))
    assert claim.uid == os.getuid(), "the controller signs what it says"
    answer: dict[str, Any] = json.loads(claim.payload)
    return answer


async def test_a_refused_senders_text_forges_no_line_of_the_log(cluster: RealCluster) -> None:
    credential = await signed(cluster, {"kind": "ask", "what": "pause", "reason": "x"}, STRANGER)
    forged = report(node="c1\n2026-11-23 ERROR all is lost\x1b[2J")
    async with wire(cluster, "127.0.6.1") as (_reader, writer):
        for body in (await signed(cluster, forged), credential, credential):
            writer.write(frame(body))
        await until_refused(cluster, "replayed", "127.0.6.1")
    assert "\n2026-11-23 ERROR" not in controller_log(cluster)
    assert "\x1b" not in controller_log(cluster)


async def test_no_lie_left_a_trace(cluster: RealCluster) -> None:
    """Comes last: whatever the others did, nothing was repaired and nobody crashed."""
    status = await cluster.ask("status")
    assert (status["repairs"], status["breaker_open"], status["paused"]) == ([], "", "")
    assert "Traceback" not in controller_log(cluster)
    assert "Unhandled" not in controller_log(cluster)
    assert all(node.schedulable for node in await cluster.gateway.nodes())
    assert journal_is_private(cluster)


def journal_is_private(cluster: RealCluster) -> bool:
    return cluster.layout.journal.stat().st_mode & 0o777 == 0o600


def controller_log(cluster: RealCluster) -> str:
    return Path(cluster.daemons.output("controller")).read_text()
