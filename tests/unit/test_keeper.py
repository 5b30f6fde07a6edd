"""The keeper over its real socket: who is obeyed, what is shared, what comes back, and what a crash leaves."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hpcli.daemons.keeper import listening
from hpcli.domain.keeper_settings import KeeperSettings, read_keeper_settings, write_keeper_settings
from hpcli.errors import HpcliError, NotFound, TimedOut, Unreachable, Unsafe, UsageFault
from hpcli.providers.kept import KeptProvider

NOBODY = 65534


@dataclass
class FakePower:
    """Notes what is asked; a step of a node in `held` lasts until that event, one of a node in `broken` fails."""

    held: dict[str, asyncio.Event] = field(default_factory=dict)
    broken: dict[str, HpcliError] = field(default_factory=dict)
    begun: list[tuple[str, str]] = field(default_factory=list)
    ended: list[tuple[str, str]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def reboot(self, node: str) -> None:
        await self._step("reboot", node)

    async def replace(self, node: str) -> None:
        await self._step("replace", node)

    async def _step(self, step: str, node: str) -> None:
        self.begun.append((step, node))
        self.news.set()
        if node in self.held:
            await self.held[node].wait()
        if node in self.broken:
            raise self.broken[node]
        self.ended.append((step, node))

    async def until_begun(self, count: int) -> None:
        while len(self.begun) < count:
            self.news.clear()
            await self.news.wait()


@pytest.fixture
def settings(tmp_path: Path) -> KeeperSettings:
    return KeeperSettings("k", str(tmp_path / "socket"), (os.getuid(),), ("c1", "c2"), "docker", str(tmp_path))


async def raw(path: str, request: bytes) -> dict[str, object]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    await writer.drain()
    answer = json.loads(await reader.readline())
    writer.close()
    assert isinstance(answer, dict)
    return answer


async def test_reboot_and_replace(settings: KeeperSettings) -> None:
    power = FakePower()
    async with listening(settings, power):
        provider = KeptProvider(settings.socket)
        await provider.reboot("c1")
        await provider.replace("c2")
    assert power.ended == [("reboot", "c1"), ("replace", "c2")]


async def test_the_socket_is_for_owner_and_group_and_goes_with_the_keeper(settings: KeeperSettings) -> None:
    async with listening(settings, FakePower()):
        assert stat.S_IMODE(Path(settings.socket).stat().st_mode) == 0o660
    assert not Path(settings.socket).exists()
    async with listening(replace(settings, socket_mode=0o666), FakePower()):
        assert stat.S_IMODE(Path(settings.socket).stat().st_mode) == 0o666


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a socket away")
async def test_root_gives_the_socket_to_a_group(settings: KeeperSettings) -> None:
    async with listening(replace(settings, socket_gid=NOBODY), FakePower()):
        assert Path(settings.socket).stat().st_gid == NOBODY


@pytest.mark.parametrize(
    "error",
    [
        NotFound("node c1", "gone", "look"),
        TimedOut("container c1", "silent", "see its log"),
        Unsafe("container c1", "a stranger's", ""),
        HpcliError("Docker engine", "disk full", "free some"),
    ],
    ids=lambda error: error.code,
)
async def test_an_error_comes_back_as_what_it_was(settings: KeeperSettings, error: HpcliError) -> None:
    async with listening(settings, FakePower(broken={"c1": error})):
        with pytest.raises(HpcliError) as caught:
            await KeptProvider(settings.socket).reboot("c1")
    assert type(caught.value) is type(error)
    assert (caught.value.subject, caught.value.message, caught.value.hint) == (error.subject, error.message, error.hint)


async def test_a_node_of_no_cluster_is_refused(settings: KeeperSettings, caplog: pytest.LogCaptureFixture) -> None:
    power = FakePower()
    async with listening(settings, power):
        with pytest.raises(NotFound, match="node c9"):
            await KeptProvider(settings.socket).reboot("c9")
    assert not power.begun
    assert "refused uid" in caplog.text


@pytest.mark.parametrize(
    "request_line",
    [b"\n", b"{}\n", b"[1]\n", b'{"step": "destroy", "node": "c1"}\n', b'{"step": "reboot"}\n', b"x" * 9000 + b"\n"],
    ids=["empty", "no-step", "list", "other-step", "no-node", "too-long"],
)
async def test_what_is_no_request_is_refused(settings: KeeperSettings, request_line: bytes) -> None:
    power = FakePower()
    async with listening(settings, power):
        answer = await raw(settings.socket, request_line)
    assert answer["ok"] is False
    assert answer["error"]["code"] == UsageFault.code  # type: ignore[index]
    assert not power.begun


async def test_half_a_request_is_not_waited_for(settings: KeeperSettings) -> None:
    async with listening(settings, FakePower()) as keeper:
        keeper.request_limit = 0.05
        answer = await raw(settings.socket, b'{"step": "reb')
    assert "no whole request" in str(answer["error"])


async def test_the_same_step_twice_is_one_step(settings: KeeperSettings) -> None:
    """As after a restart of the controller, which asks again for what it had begun."""
    power = FakePower(held={"c1": asyncio.Event()}, broken={"c1": NotFound("node c1", "gone")})
    async with listening(settings, power):
        first = asyncio.create_task(KeptProvider(settings.socket).reboot("c1"))
        await power.until_begun(1)
        second = asyncio.create_task(KeptProvider(settings.socket).reboot("c1"))
        await KeptProvider(settings.socket).reboot("c2")
        assert power.begun == [("reboot", "c1"), ("reboot", "c2")]
        power.held["c1"].set()
        for asker in (first, second):
            with pytest.raises(NotFound, match="gone"):
                await asker
    assert power.begun.count(("reboot", "c1")) == 1


async def test_another_step_of_the_node_waits_its_turn(settings: KeeperSettings) -> None:
    power = FakePower(held={"c1": asyncio.Event()})
    async with listening(settings, power):
        reboot = asyncio.create_task(KeptProvider(settings.socket).reboot("c1"))
        await power.until_begun(1)
        swap = asyncio.create_task(KeptProvider(settings.socket).replace("c1"))
        await KeptProvider(settings.socket).reboot("c2")
        assert ("replace", "c1") not in power.begun
        power.held["c1"].set()
        await asyncio.gather(reboot, swap)
    assert [step for step, node in power.ended if node == "c1"] == ["reboot", "replace"]


async def test_an_asker_that_goes_away_stops_nothing(settings: KeeperSettings) -> None:
    power = FakePower(held={"c1": asyncio.Event()})
    async with listening(settings, power):
        asker = asyncio.create_task(KeptProvider(settings.socket).reboot("c1"))
        await power.until_begun(1)
        asker.cancel()
        await asyncio.gather(asker, return_exceptions=True)
        again = asyncio.create_task(KeptProvider(settings.socket).reboot("c1"))
        await KeptProvider(settings.socket).reboot("c2")
        power.held["c1"].set()
        await again
    assert power.ended.count(("reboot", "c1")) == 1
    assert power.begun.count(("reboot", "c1")) == 1


async def test_a_step_without_end_is_given_up(settings: KeeperSettings) -> None:
    power = FakePower(held={"c1": asyncio.Event()})
    async with listening(replace(settings, reboot_timeout=0.05), power):
        with pytest.raises(TimedOut, match="no end of its reboot"):
            await KeptProvider(settings.socket).reboot("c1")
        power.held.clear()
        await KeptProvider(settings.socket).reboot("c1")


async def test_a_keeper_that_ends_says_so(settings: KeeperSettings) -> None:
    power = FakePower(held={"c1": asyncio.Event()})
    async with listening(settings, power):
        asker = asyncio.create_task(KeptProvider(settings.socket).reboot("c1"))
        await power.until_begun(1)
    with pytest.raises(Unreachable, match="half done"):
        await asker


async def test_a_frozen_keeper_is_not_waited_for_ever(settings: KeeperSettings) -> None:
    power = FakePower(held={"c1": asyncio.Event()})
    async with listening(settings, power):
        with pytest.raises(TimedOut, match="node c1"):
            await KeptProvider(settings.socket, limit=0.1).reboot("c1")


async def test_no_keeper(settings: KeeperSettings) -> None:
    with pytest.raises(Unreachable, match=r"found none that answers at .*socket"):
        await KeptProvider(settings.socket, patience=0.2).reboot("c1")


async def test_a_second_keeper_leaves_the_first_alone(settings: KeeperSettings) -> None:
    power = FakePower()
    async with listening(settings, power):
        with pytest.raises(Unsafe, match=f"pid {os.getpid()}"):
            async with listening(settings, FakePower()):
                pass
        await KeptProvider(settings.socket).reboot("c1")
    assert power.ended


async def test_a_socket_path_that_is_too_long(settings: KeeperSettings) -> None:
    with pytest.raises(HpcliError, match="at most 107"):
        async with listening(replace(settings, socket=settings.socket + "x" * 108), FakePower()):
            pass


async def test_no_folder_for_the_socket(settings: KeeperSettings) -> None:
    with pytest.raises(HpcliError, match="No such file"):
        async with listening(replace(settings, socket="/nonexistent/socket"), FakePower()):
            pass


def test_what_it_can_do() -> None:
    assert KeptProvider("/x").capabilities().replace
    found = KeptProvider("/x", can_replace=False).capabilities()
    assert found.reboot and not found.replace
    machine = KeptProvider("/x").machine("c1")
    assert (machine.node, machine.boot_id, machine.instance_id) == ("c1", "", "")


def test_settings_come_back_as_they_were(settings: KeeperSettings, tmp_path: Path) -> None:
    path = tmp_path / "keeper.json"
    write_keeper_settings(path, settings)
    write_keeper_settings(path, settings)
    assert read_keeper_settings(path) == settings
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cluster": "k"}', "not json"])
def test_settings_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keeper.json"
    path.write_text(text)
    with pytest.raises(HpcliError, match="not usable"):
        read_keeper_settings(path)


ASK = """
import asyncio, os, sys
from hpcli.errors import HpcliError
from hpcli.providers.kept import KeptProvider

# Modules that are imported late would be out of reach afterwards.
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
try:
    asyncio.run(KeptProvider(sys.argv[1]).reboot("c1"))
except HpcliError as error:
    print(error.code, error)
else:
    print("done")
"""

SERVE = """
import asyncio, sys
from pathlib import Path
from hpcli.daemons.keeper import serve
from hpcli.domain.keeper_settings import read_keeper_settings

class SlowPower:
    async def reboot(self, node):
        print("begun", flush=True)
        await asyncio.sleep(3600)
    replace = reboot

asyncio.run(serve(read_keeper_settings(Path(sys.argv[1])), SlowPower()))
"""


async def ask_as(uid: int, socket: str) -> str:
    argv = [sys.executable, "-c", ASK, socket, str(uid)]
    child = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    return out.decode().strip()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
async def test_the_kernel_says_who_asks(settings: KeeperSettings, caplog: pytest.LogCaptureFixture) -> None:
    """File modes let everybody connect, so that nothing but the check of the asker's uid refuses."""
    power = FakePower()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        socket = f"{folder}/socket"
        async with listening(replace(settings, socket=socket, socket_mode=0o666, allowed_uids=(NOBODY - 1,)), power):
            assert "unreachable keeper: found uid 65534 asking" in await ask_as(NOBODY, socket)
            assert not power.begun
            assert "refused uid 65534" in caplog.text
            assert await ask_as(NOBODY - 1, socket) == "done"
            assert await ask_as(0, socket) == "done"


async def test_a_keeper_killed_in_mid_step(settings: KeeperSettings, tmp_path: Path) -> None:
    """Its asker learns of it, and the next keeper takes the place of what is left."""
    write_keeper_settings(tmp_path / "keeper.json", settings)
    argv = [sys.executable, "-c", SERVE, str(tmp_path / "keeper.json")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        try:
            asker = asyncio.create_task(_ask_until_there(settings.socket))
            assert child.stdout
            assert await asyncio.to_thread(child.stdout.readline) == "begun\n"
            child.kill()
            with pytest.raises(Unreachable, match="half done"):
                await asker
        finally:
            child.kill()
    assert Path(settings.socket).exists()
    power = FakePower()
    async with listening(settings, power):
        await KeptProvider(settings.socket).reboot("c1")
    assert power.ended == [("reboot", "c1")]


async def test_sigterm_ends_it_and_leaves_nothing(settings: KeeperSettings, tmp_path: Path) -> None:
    write_keeper_settings(tmp_path / "keeper.json", settings)
    argv = [sys.executable, "-c", SERVE, str(tmp_path / "keeper.json")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        try:
            asker = asyncio.create_task(_ask_until_there(settings.socket))
            assert child.stdout
            await asyncio.to_thread(child.stdout.readline)
            child.send_signal(signal.SIGTERM)
            with pytest.raises(Unreachable):
                await asker
            assert await asyncio.to_thread(child.wait, 10) == 0
        finally:
            child.kill()
    assert not Path(settings.socket).exists()


async def _ask_until_there(path: str) -> None:
    while True:
        try:
            return await KeptProvider(path).reboot("c1")
        except Unreachable as error:
            if "found none that answers" not in error.message:
                raise
            await asyncio.sleep(0.02)
