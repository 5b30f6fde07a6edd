"""One contract for every RemoteTransport: this machine, OpenSSH and paramiko against a real sshd."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import paramiko
import pytest
from sshd import USER, Sshd, fingerprint, make_key, missing_programs, running

from hpcli.errors import HpcliError, NotFound, TimedOut, Unreachable, UsageFault
from hpcli.machines import RemoteTransport
from hpcli.ports import Completed
from hpcli.transport import proc
from hpcli.transport.control import default_folder, make_control
from hpcli.transport.known_hosts import Place
from hpcli.transport.openssh import OpenSsh
from hpcli.transport.openssh_faults import explain, words_of
from hpcli.transport.process import LocalTransport
from hpcli.transport.reach import connect
from hpcli.transport.root import SUDO, AsRoot
from hpcli.transport.ssh import ParamikoSsh
from hpcli.transport.target import SshTarget

WAYS = ("openssh", "paramiko")
HOSTILE = (
    "",
    " ",
    "a b",
    "'",
    '"',
    "\\",
    "$HOME",
    "`id`",
    "*",
    "a\nb",
    "\t",
    "ünïcode ☃",
    "-n",
    "--",
    ";&|<>(){}!#~",
    "%s",
)
STUBBORN = "trap '' TERM HUP; echo $$ > {0}; sleep 60 & echo $! >> {0}; wait"


@dataclass(frozen=True)
class Site:
    """Three servers, a key that they let in, and a client's own configuration of them."""

    folder: Path
    outer: Sshd
    middle: Sshd
    inner: Sshd

    @property
    def key(self) -> Path:
        return self.folder / "key"

    @property
    def known(self) -> Path:
        return self.folder / "known_hosts"

    def config(self, known: Path | None = None, key: Path | None = None) -> Path:
        """`outer` is reached at once, `behind` through it, `deep` through both."""
        hosts = [
            f"Host {name}\n HostName 127.0.0.1\n Port {server.port}\n {way}\n"
            for name, server, way in (
                ("outer", self.outer, ""),
                ("behind", self.middle, "ProxyJump outer"),
                ("deep", self.inner, "ProxyJump outer,middle"),
                ("middle", self.middle, ""),
                ("proxied", self.middle, f"ProxyCommand {self.relay} %h %p"),
                ("renamed", self.outer, "HostKeyAlias another-name"),
            )
        ]
        rest = f"Host *\n User {USER}\n IdentityFile {key or self.key}\n IdentitiesOnly yes\n"
        rest += f" UserKnownHostsFile {known or self.known}\n"
        path = self.folder / f"config-{time.monotonic_ns()}"
        included = self.folder / f"{path.name}.hosts"
        included.write_text("".join(hosts))
        path.write_text(f"Include {included}\n{rest}")
        return path

    @property
    def relay(self) -> Path:
        return self.folder / "relay"

    def transport(self, way: str, target: SshTarget) -> RemoteTransport:
        if way == "openssh":
            return OpenSsh(target, folder=self.folder / "run")
        return ParamikoSsh(target)

    def target(self, host: str = "outer", **changed: str | int) -> SshTarget:
        return replace(SshTarget(host, config=str(self.config())), **changed)  # type: ignore[arg-type]


RELAY = """\
#!{python}
import socket, sys, threading, os
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def back():
    while chunk := peer.recv(65536):
        os.write(1, chunk)
    os._exit(0)
threading.Thread(target=back, daemon=True).start()
while chunk := os.read(0, 65536):
    peer.sendall(chunk)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    missing = missing_programs()
    if missing:
        pytest.skip(f"skipped: not installed: {' '.join(missing)}")
    folder = tmp_path_factory.mktemp("ssh")
    public = make_key(folder / "key")
    found = Site(folder, *(Sshd(folder / name, public) for name in ("outer", "middle", "inner")))
    found.relay.write_text(RELAY.format(python=sys.executable))
    found.relay.chmod(0o755)
    (folder / "run").mkdir(mode=0o700)
    alias = found.outer.known_line.replace(found.outer.name, "another-name")
    known = "\n".join([found.outer.known_line, found.middle.known_line, found.inner.known_line, alias]) + "\n"
    found.known.write_text(known)
    own = Path("~/.ssh/known_hosts").expanduser()
    before = own.read_bytes() if own.exists() else None
    with running(found.outer, found.middle, found.inner):
        yield found
    assert found.known.read_text() == known, "a host key was added"
    assert (own.read_bytes() if own.exists() else None) == before, "a host key was added"


@pytest.fixture
async def machine(request: pytest.FixtureRequest) -> AsyncIterator[RemoteTransport]:
    if request.param == "local":
        yield LocalTransport()
        return
    site = request.getfixturevalue("site")
    found = site.transport(request.param, site.target())
    yield found
    await found.close()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def until(true: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)
    assert true(), what


def pids(file: Path) -> set[int]:
    return {int(word) for word in file.read_text().split()} if file.exists() else set()


def gone(file: Path, count: int = 2) -> bool:
    found = pids(file)
    return len(found) == count and not any(proc.look_up(pid) for pid in found)


@pytest.mark.parametrize("machine", ["local", *WAYS], indirect=True)
class TestEveryTransport:
    async def test_nothing_is_parsed_by_a_shell(self, machine: RemoteTransport) -> None:
        found = await machine.run(["printf", r"%s\0", *HOSTILE])
        assert found.out.split("\0")[:-1] == list(HOSTILE)
        assert found.argv == ("printf", r"%s\0", *HOSTILE)

    async def test_a_program_is_not_the_shells_own(self, machine: RemoteTransport) -> None:
        assert (await machine.run(["echo", r"a\tb", "-e"])).out == "a\\tb -e\n"

    @pytest.mark.parametrize("code", [0, 1, 2, 125, 126, 127, 128, 254, 255])
    async def test_exit_codes(self, machine: RemoteTransport, code: int) -> None:
        found = await machine.run(["sh", "-c", f"echo out; echo err >&2; exit {code}"])
        assert (found.code, found.out, found.err) == (code, "out\n", "err\n")

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
    async def test_a_signal_is_a_negative_code(self, machine: RemoteTransport, number: signal.Signals) -> None:
        assert (await machine.run(["sh", "-c", f"kill -{int(number)} $$"])).code == -number

    async def test_no_such_program(self, machine: RemoteTransport) -> None:
        with pytest.raises(NotFound, match="no such program"):
            await machine.run(["/no/such/program", "x"])
        with pytest.raises(NotFound, match="no such program"):
            await machine.run(["no-such-program"], env={"A": "b"}, cwd="/")

    async def test_input_environment_and_folder(self, machine: RemoteTransport, tmp_path: Path) -> None:
        folder = tmp_path / "a 'folder' $HOME"
        folder.mkdir()
        script = 'cat; printf "%s|%s|" "$ONE" "$TWO"; pwd'
        env = {"ONE": "a 'b' $c\n=d", "TWO": ""}
        found = await machine.run(["sh", "-c", script], stdin="ünï\n", env=env, cwd=str(folder))
        assert found.out == f"ünï\n{env['ONE']}||{folder}\n"

    async def test_a_folder_that_is_not_there(self, machine: RemoteTransport) -> None:
        with pytest.raises(NotFound, match="no such folder"):
            await machine.run(["true"], cwd="/no/such/folder")

    async def test_no_input_is_an_end_of_input(self, machine: RemoteTransport) -> None:
        assert (await machine.run(["cat"], timeout=20)).out == ""

    async def test_a_program_that_does_not_read_its_input(self, machine: RemoteTransport) -> None:
        assert (await machine.run(["true"], stdin="x" * 5_000_000)).code == 0

    async def test_big_output_on_both_streams(self, machine: RemoteTransport) -> None:
        script = "head -c 5000000 /dev/zero | tr '\\0' x; head -c 5000000 /dev/zero | tr '\\0' y >&2"
        found = await machine.run(["sh", "-c", script])
        assert (found.out, found.err) == ("x" * 5_000_000, "y" * 5_000_000)

    async def test_bytes_that_are_no_text(self, machine: RemoteTransport) -> None:
        assert (await machine.run(["printf", r"a\377b"])).out == "a\ufffdb"

    async def test_a_time_limit_ends_the_whole_family(self, machine: RemoteTransport, tmp_path: Path) -> None:
        file = tmp_path / "pids"
        began = time.monotonic()
        with pytest.raises(TimedOut, match=r"no answer within 0\.5 s"):
            await machine.run(["sh", "-c", STUBBORN.format(file)], timeout=0.5)
        assert time.monotonic() - began < 8
        await until(lambda: gone(file), "it still runs")

    async def test_whoever_is_cancelled_leaves_no_program_behind(
        self, machine: RemoteTransport, tmp_path: Path
    ) -> None:
        file = tmp_path / "pids"
        work = asyncio.create_task(machine.run(["sh", "-c", STUBBORN.format(file)]))
        await until(lambda: len(pids(file)) == 2, "it did not start")
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await until(lambda: gone(file), "it still runs")

    async def test_follow_tells_lines_before_the_end(self, machine: RemoteTransport, tmp_path: Path) -> None:
        told: list[str] = []
        gate = tmp_path / "gate"
        script = f"read word; echo first $word; while ! [ -e {gate} ]; do sleep 0.01; done; echo; printf last; exit 3"
        work = asyncio.create_task(machine.follow(["sh", "-c", script], told.append, stdin="ünï\n", timeout=20))
        await until(lambda: told == ["first ünï"], "not told in time")
        assert not work.done()
        gate.touch()
        found = await work
        assert told == ["first ünï", "", "last"]
        assert (found.code, found.out) == (3, "first ünï\n\nlast")

    async def test_hold_gives_the_first_line_and_closes_the_input(
        self, machine: RemoteTransport, tmp_path: Path
    ) -> None:
        file, ended = tmp_path / "pids", tmp_path / "ended"
        script = f"echo $$ > {file}; echo ready; echo more; cat; echo bye > {ended}"
        async with machine.hold(["sh", "-c", script]) as line:
            assert line == "ready"
            assert not gone(file, 1)
        assert ended.read_text() == "bye\n"

    async def test_hold_ends_what_does_not_end_by_itself(self, machine: RemoteTransport, tmp_path: Path) -> None:
        file = tmp_path / "pids"
        async with machine.hold(["sh", "-c", f"echo ready; {STUBBORN.format(file)}"]):
            await until(lambda: len(pids(file)) == 2, "it did not start")
        await until(lambda: gone(file), "it still runs")

    async def test_hold_of_a_program_that_ends_at_once(self, machine: RemoteTransport) -> None:
        with pytest.raises(HpcliError, match="somebody else has it"):
            async with machine.hold(["sh", "-c", "echo somebody else has it >&2; exit 3"]):
                pass

    async def test_a_fault_inside_hold_ends_the_program(self, machine: RemoteTransport, tmp_path: Path) -> None:
        file = tmp_path / "pids"
        with pytest.raises(ZeroDivisionError):
            async with machine.hold(["sh", "-c", f"echo $$ > {file}; echo ready; cat"]):
                raise ZeroDivisionError
        await until(lambda: gone(file, 1), "it still runs")

    async def test_files_go_and_come_back_whole(self, machine: RemoteTransport, tmp_path: Path) -> None:
        content = bytes(range(256)) * 80_000
        path = tmp_path / "a 'file' $HOME"
        await machine.put(content, str(path), 0o640)
        assert path.read_bytes() == content
        assert path.stat().st_mode & 0o7777 == 0o640
        assert await machine.get(str(path)) == content
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]

    async def test_put_replaces_and_is_private_by_default(self, machine: RemoteTransport, tmp_path: Path) -> None:
        path = tmp_path / "secret"
        path.write_text("old")
        path.chmod(0o666)
        await machine.put(b"", str(path))
        assert (path.read_bytes(), path.stat().st_mode & 0o7777) == (b"", 0o600)

    async def test_put_into_a_folder_that_is_not_there(self, machine: RemoteTransport, tmp_path: Path) -> None:
        with pytest.raises(HpcliError, match="No such file"):
            await machine.put(b"x", f"{tmp_path}/none/file")

    async def test_put_never_takes_a_folders_place(self, machine: RemoteTransport, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        with pytest.raises(HpcliError, match=r"folder: found .*directory"):
            await machine.put(b"x", f"{tmp_path}/folder")
        assert [entry.name for entry in tmp_path.rglob("*")] == ["folder"]

    async def test_get_of_nothing(self, machine: RemoteTransport, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="no such file"):
            await machine.get(f"{tmp_path}/none")
        with pytest.raises(HpcliError, match="directory"):
            await machine.get(str(tmp_path))

    async def test_a_full_disk_leaves_nothing_and_keeps_the_old_file(
        self, machine: RemoteTransport, tmp_path: Path
    ) -> None:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=False, capture_output=True, text=True
        )
        if mounted.returncode:
            pytest.skip(f"skipped: a small file system cannot be mounted here: {mounted.stderr.strip()}")
        try:
            await machine.put(b"old", f"{tmp_path}/file")
            with pytest.raises(HpcliError, match=r"file: found .*[Nn]o space left on device"):
                await machine.put(b"x" * 5_000_000, f"{tmp_path}/file")
            assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("file", b"old")]
        finally:
            subprocess.run(["umount", tmp_path], check=True)


HOLDER = """\
import asyncio, sys
from hpcli.transport.{module} import {name} as Way
from hpcli.transport.target import SshTarget
from pathlib import Path

async def main():
    options = dict(folder=Path(sys.argv[2])) if {folder} else dict()
    machine = Way(SshTarget("outer", config=sys.argv[1]), **options)
    async with machine.hold(["sh", "-c", "echo $$ > " + sys.argv[3] + "; echo ready; cat"]) as line:
        print(line, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


class TestOverSsh:
    """What only a way over SSH can meet."""

    async def test_parallel_programs_share_one_connection(self, site: Site, way: str) -> None:
        machine, before = site.transport(way, site.target()), site.outer.logins()
        try:
            work = (machine.run(["sh", "-c", f"sleep 0.1; echo {number}"]) for number in range(30))
            assert [found.out for found in await asyncio.gather(*work)] == [f"{number}\n" for number in range(30)]
            assert site.outer.logins() == before + 1
        finally:
            await machine.close()

    async def test_what_is_held_ends_when_we_are_killed(self, site: Site, way: str, tmp_path: Path) -> None:
        file = tmp_path / "pid"
        names = {"openssh": ("openssh", "OpenSsh", True), "paramiko": ("ssh", "ParamikoSsh", False)}
        script = HOLDER.format(**dict(zip(("module", "name", "folder"), names[way], strict=True)))
        argv = [sys.executable, "-c", script, str(site.config()), str(site.folder / "run"), str(file)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as holder:
            assert holder.stdout
            assert await asyncio.to_thread(holder.stdout.readline) == b"ready\n"
            assert not gone(file, 1)
            holder.kill()
        await until(lambda: gone(file, 1), "it still runs")

    @pytest.mark.parametrize(("host", "server"), [("behind", "middle"), ("deep", "inner"), ("proxied", "middle")])
    async def test_jump_hosts_and_proxies(self, site: Site, way: str, host: str, server: str, tmp_path: Path) -> None:
        machine, last = site.transport(way, site.target(host)), getattr(site, server)
        before = last.logins()
        try:
            await machine.put(b"x" * 1_000_000, f"{tmp_path}/file")
            assert await machine.get(f"{tmp_path}/file") == b"x" * 1_000_000
            assert last.logins() == before + 1
        finally:
            await machine.close()

    async def test_the_first_programs_at_once_all_run_behind_the_jump_host(self, site: Site, way: str) -> None:
        machine = site.transport(way, site.target("deep"))
        work = (machine.run(["sh", "-c", "echo ${SSH_CONNECTION##* }"]) for _ in range(8))
        assert {found.out.strip() for found in await asyncio.gather(*work)} == {str(site.inner.port)}
        await machine.close()

    async def test_a_host_may_have_another_name_for_its_key(self, site: Site, way: str) -> None:
        machine = site.transport(way, site.target("renamed"))
        assert (await machine.run(["echo", "in"])).out == "in\n"
        await machine.close()

    async def test_the_target_overrules_the_configuration(self, site: Site, way: str) -> None:
        known = site.folder / "own known hosts"
        known.write_text(f"# comment\n{site.inner.known_line}\n")
        config = site.config(known=Path("/dev/null"), key=Path("/dev/null"))
        target = SshTarget("outer", USER, site.inner.port, str(site.key), str(known), str(config))
        machine, before = site.transport(way, target), site.inner.logins()
        assert (await machine.run(["echo", "in"])).out == "in\n"
        assert site.inner.logins() == before + 1
        await machine.close()

    async def test_an_unknown_host_key_is_never_accepted(self, site: Site, way: str) -> None:
        known = site.folder / "known_to_nobody"
        known.write_text(site.outer.known_line.replace(site.outer.name, "elsewhere") + "\n")
        before = known.read_text()
        machine = site.transport(way, SshTarget("outer", config=str(site.config(known=known))))
        with pytest.raises(Unreachable, match="host key is not known") as caught:
            await machine.run(["true"])
        assert caught.value.subject == "host outer"
        assert f"found ED25519 {fingerprint(site.outer.host_key)}" in caught.value.message
        assert f"ssh-keyscan -t ed25519 -p {site.outer.port} 127.0.0.1 >> {known}" in caught.value.hint
        assert known.read_text() == before
        await machine.close()

    async def test_the_hint_of_an_unknown_key_works(self, site: Site, way: str) -> None:
        known = site.folder / f"known_by_scan_{way}"
        machine = site.transport(way, SshTarget("outer", config=str(site.config(known=known))))
        with pytest.raises(Unreachable) as caught:
            await machine.run(["true"])
        scan = caught.value.hint[caught.value.hint.index("ssh-keyscan") : caught.value.hint.index("   (or")]
        subprocess.run(["sh", "-c", scan], check=True, stderr=subprocess.DEVNULL)
        assert (await machine.run(["echo", "in"])).out == "in\n"
        await machine.close()

    async def test_an_unknown_key_of_a_jump_host(self, site: Site, way: str) -> None:
        known = site.folder / "known_last"
        known.write_text(f"{site.middle.known_line}\n")
        machine = site.transport(way, SshTarget("behind", config=str(site.config(known=known))))
        with pytest.raises(Unreachable, match="host key is not known") as caught:
            await machine.run(["true"])
        assert fingerprint(site.outer.host_key) in caught.value.message
        assert known.read_text() == f"{site.middle.known_line}\n"

    async def test_a_changed_host_key(self, site: Site, way: str) -> None:
        make_key(site.folder / "older")
        known = site.folder / "known_before"
        kind, blob = (site.folder / "older.pub").read_text().split()[:2]
        known.write_text(f"# the machine as it was\n{site.outer.name} {kind} {blob}\n")
        machine = site.transport(way, SshTarget("outer", config=str(site.config(known=known))))
        with pytest.raises(Unreachable, match="host key has changed") as caught:
            await machine.run(["true"])
        assert caught.value.subject == "host outer"
        assert f"found ED25519 {fingerprint(site.outer.host_key)}" in caught.value.message
        assert f"expected {fingerprint(site.folder / 'older')} of {known}:2" in caught.value.message
        assert f"ssh-keygen -R '{site.outer.name}' -f {known}" in caught.value.hint

    async def test_a_hashed_known_hosts_file(self, site: Site, way: str) -> None:
        known = site.folder / f"hashed_{way}"
        known.write_text(site.known.read_text())
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
        assert site.outer.name not in known.read_text()
        machine = site.transport(way, SshTarget("outer", config=str(site.config(known=known))))
        assert (await machine.run(["echo", "in"])).out == "in\n"
        await machine.close()

    async def test_a_host_shows_the_kind_of_key_that_we_know(self, site: Site, way: str) -> None:
        known = site.folder / "known_ecdsa"
        kind, blob = (site.outer.folder / "other_host_key.pub").read_text().split()[:2]
        known.write_text(f"{site.outer.name} {kind} {blob}\n")
        machine = site.transport(way, SshTarget("outer", config=str(site.config(known=known))))
        assert (await machine.run(["echo", "in"])).out == "in\n"
        await machine.close()

    async def test_a_revoked_host_key(self, site: Site, way: str) -> None:
        known = site.folder / "revoked"
        revoked = site.outer.known_line.replace(site.outer.name, "@revoked *")
        known.write_text(f"{revoked}\n{site.outer.known_line}\n")
        machine = site.transport(way, SshTarget("outer", config=str(site.config(known=known))))
        with pytest.raises(Unreachable):
            await machine.run(["true"])

    async def test_a_key_that_the_host_does_not_know(self, site: Site, way: str) -> None:
        make_key(site.folder / "wrong")
        config = site.config(key=site.folder / "no_key")
        machine = site.transport(way, SshTarget("outer", identity=str(site.folder / "wrong"), config=str(config)))
        with pytest.raises(Unreachable, match=f"did not let {USER} in") as caught:
            await machine.run(["true"])
        tried = f"tried {site.folder}/wrong ED25519 {fingerprint(site.folder / 'wrong')}"
        assert tried in caught.value.message
        assert "it takes: publickey" in caught.value.message

    async def test_a_key_with_a_passphrase_comes_from_the_agent(
        self, site: Site, way: str, agent: "Agent", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = site.folder / f"guarded_{way}"
        public = make_key(key, passphrase="open sesame")
        with (site.outer.folder / "authorized_keys").open("a") as file:
            file.write(f"{public}\n")
        machine = site.transport(way, SshTarget("outer", config=str(site.config(key=key))))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        with pytest.raises(Unreachable, match=r"passphrase.*ssh-add"):
            await machine.run(["true"])
        agent.add(key, "open sesame")
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
        assert (await machine.run(["echo", "in"])).out == "in\n"
        await machine.close()

    async def test_nobody_listens(self, way: str, site: Site) -> None:
        target = SshTarget("outer", port=1, config=str(site.config()))
        with pytest.raises(Unreachable, match=r"host outer: connection refused by 127\.0\.0\.1 port 1"):
            await site.transport(way, target).run(["true"])

    async def test_no_such_name(self, way: str, site: Site) -> None:
        target = SshTarget("no-such-host.invalid", config=str(site.config()))
        with pytest.raises(Unreachable, match=r"no address for the name no-such-host\.invalid"):
            await site.transport(way, target).run(["true"])

    async def test_who_answers_is_no_ssh_server(self, way: str, site: Site) -> None:
        async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            target = SshTarget("outer", port=server.sockets[0].getsockname()[1], config=str(site.config()))
            with pytest.raises(Unreachable, match="closed the connection before we were in"):
                await site.transport(way, target).run(["true"])

    async def test_files_that_were_named_must_exist(self, way: str, site: Site) -> None:
        with pytest.raises(NotFound, match=r"/no/key: found no such file"):
            await site.transport(way, site.target(identity="/no/key")).run(["true"])
        with pytest.raises(NotFound, match=r"/no/config: found no such file"):
            await site.transport(way, SshTarget("outer", config="/no/config")).run(["true"])

    async def test_what_cannot_cross(self, way: str, site: Site) -> None:
        machine = site.transport(way, site.target())
        with pytest.raises(UsageFault, match="NUL byte"):
            await machine.run(["echo", "a\0b"])
        with pytest.raises(UsageFault, match="expected at most"):
            await machine.run(["echo", "x" * 130_000])
        assert len((await machine.run(["echo", "x" * 100_000])).out) == 100_001
        await machine.close()

    async def test_the_machine_dies_while_a_program_runs_and_comes_back(
        self, site: Site, way: str, tmp_path: Path
    ) -> None:
        server = Sshd(site.folder / f"mortal_{way}", (site.folder / "key.pub").read_text().strip())
        known = site.folder / f"known_mortal_{way}"
        known.write_text(f"{server.known_line}\n")
        target = SshTarget("outer", port=server.port, known_hosts=str(known), config=str(site.config()))
        machine, file = site.transport(way, target), tmp_path / "pid"
        with running(server):
            work = asyncio.create_task(machine.run(["sh", "-c", f"echo $$ > {file}; exec sleep 60"]))
            await until(lambda: len(pids(file)) == 1, "it did not start")
            server.stop()
            with pytest.raises(Unreachable, match=r"connection was lost while sh ran.*may still run there") as caught:
                async with asyncio.timeout(15):
                    await work
            assert caught.value.subject == "host outer"
            proc.end(pids(file), 0.0)
            with pytest.raises(Unreachable, match="connection refused"):
                await machine.run(["true"])
            server.start()
            assert (await machine.run(["echo", "back"])).out == "back\n"
            await machine.close()

    async def test_closed_is_not_for_ever(self, site: Site, way: str) -> None:
        machine = site.transport(way, site.target())
        await machine.close()
        assert (await machine.run(["echo", "1"])).out == "1\n"
        before = site.outer.logins()
        await machine.close()
        assert (await machine.run(["echo", "2"])).out == "2\n"
        assert site.outer.logins() == before + 1
        await machine.close()

    def test_a_host_name_is_never_an_option(self, way: str) -> None:
        for name in ("-oProxyCommand=id", "a b", "a;id", "$(id)", "", "a'b"):
            with pytest.raises(UsageFault):
                SshTarget(name)
        with pytest.raises(UsageFault):
            SshTarget("a", user="-l")

    async def test_no_configuration_makes_us_trust(self, site: Site, way: str) -> None:
        known = site.folder / f"known_lax_{way}"
        known.write_text("")
        lax = site.folder / f"lax_{way}"
        trusting = "Host *\n StrictHostKeyChecking no\n UpdateHostKeys yes\n RemoteCommand id\n RequestTTY force\n"
        lax.write_text(f"{trusting}{site.config(known=known).read_text()}")
        for host in ("outer", "behind"):
            with pytest.raises(Unreachable, match="host key is not known"):
                await site.transport(way, SshTarget(host, config=str(lax))).run(["true"])
        assert known.read_text() == ""
        known.write_text(site.known.read_text())
        machine = site.transport(way, SshTarget("outer", config=str(lax)))
        assert (await machine.run(["echo", "in"])).out == "in\n"
        assert known.read_text() == site.known.read_text()
        await machine.close()

    async def test_a_put_that_is_cut_off_leaves_nothing(self, site: Site, way: str, tmp_path: Path) -> None:
        machine = site.transport(way, site.target())
        await machine.put(b"old", f"{tmp_path}/file")
        work = asyncio.create_task(machine.put(b"x" * 200_000_000, f"{tmp_path}/file"))
        await until(lambda: len(list(tmp_path.iterdir())) == 2, "it did not begin")
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await until(lambda: [entry.name for entry in tmp_path.iterdir()] == ["file"], "something is left")
        assert (tmp_path / "file").read_bytes() == b"old"
        await machine.close()

    async def test_a_jump_host_that_is_down(self, site: Site, way: str) -> None:
        config = site.folder / f"down_{way}"
        config.write_text("Host behind\n ProxyJump down\nHost down\n Port 1\nHost *\n HostName 127.0.0.1\n")
        with pytest.raises(Unreachable, match=r"connection refused by 127\.0\.0\.1 port 1"):
            await site.transport(way, SshTarget("behind", config=str(config))).run(["true"])


class Agent:
    """An ssh-agent of our own."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "agent"
        self.askpass = folder / "askpass"
        self.process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", str(self.socket)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while not self.socket.exists():
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)

    def add(self, key: Path, passphrase: str) -> None:
        self.askpass.write_text(f"#!/bin/sh\necho '{passphrase}'\n")
        self.askpass.chmod(0o700)
        env = {"SSH_AUTH_SOCK": str(self.socket), "SSH_ASKPASS": str(self.askpass), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(["ssh-add", "-q", str(key)], check=True, env=os.environ | env, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    found = Agent(tmp_path_factory.mktemp("a"))
    yield found
    found.stop()


class Door(paramiko.ServerInterface):
    """A server that asks two questions and lets in whoever knows the answers."""

    def __init__(self) -> None:
        self.token, self.told = "", threading.Event()

    def get_allowed_auths(self, username: str) -> str:
        return "keyboard-interactive"

    def check_auth_interactive(self, username: str, submethods: str) -> paramiko.InteractiveQuery:
        return paramiko.InteractiveQuery("", "", ("Password: ", False), ("Colour: ", True))

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        return paramiko.AUTH_SUCCESSFUL if responses == ["sesame", "blue"] else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        words = command.split()
        self.token = words[words.index(b"hpcli") + 1].decode()
        self.told.set()
        return True


@contextmanager
def door(site: Site) -> Iterator[SshTarget]:
    """A server with sshd's host key that knows nothing but questions."""
    key = paramiko.Ed25519Key.from_private_key_file(str(site.outer.host_key))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        known = site.folder / "known_door"
        known.write_text(site.outer.known_line.replace(str(site.outer.port), str(port)) + "\n")

        def serve() -> None:
            ours, _ = listening.accept()
            transport = paramiko.Transport(ours)
            transport.add_server_key(key)
            server = Door()
            transport.start_server(server=server)
            channel = transport.accept(10)
            if channel and server.told.wait(10):
                channel.send_stderr(f"{server.token} begin 1\n{server.token} end 0\n".encode())
                channel.send_exit_status(0)
                channel.shutdown_write()
            transport.join(10)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield SshTarget("outer", port=port, known_hosts=str(known), config=str(site.config(key=site.folder / "none")))
        thread.join(30)


async def test_jump_hosts_in_a_circle(site: Site) -> None:
    config = site.folder / "circle"
    config.write_text("Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    with pytest.raises(UsageFault, match="in a circle"):
        await ParamikoSsh(SshTarget("a", config=str(config))).run(["true"])


class TestQuestions:
    """Keyboard-interactive: what the machine asks reaches a person, or is an error."""

    async def test_answers_let_us_in(self, site: Site) -> None:
        asked: list[tuple[str, bool]] = []
        answers = {"Password: ": "sesame", "Colour: ": "blue"}

        def ask(prompt: str, echo: bool) -> str:
            asked.append((prompt, echo))
            return answers[prompt]

        with door(site) as target:
            machine = ParamikoSsh(target, ask=ask)
            assert (await machine.run(["true"])).code == 0
            await machine.close()
        assert asked == [("Password: ", False), ("Colour: ", True)]

    async def test_wrong_answers_do_not(self, site: Site) -> None:
        with door(site) as target, pytest.raises(Unreachable, match="did not let") as caught:
            await ParamikoSsh(target, ask=lambda _prompt, _echo: "wrong").run(["true"])
        assert "wrong" not in str(caught.value) + caught.value.hint

    @pytest.mark.parametrize("way", WAYS)
    async def test_nobody_to_ask(self, site: Site, way: str) -> None:
        with pytest.raises(Unreachable, match=r"did not let .* \(it takes: keyboard-interactive\)"):
            if way == "openssh":
                # It connects twice: once to get in, once to say why not.
                with door(site) as target:
                    connecting = OpenSsh(target, folder=site.folder / "run")
                    said = await connecting._try_to_open(connecting._control, asking=False)
                raise explain(words_of(said or "", ""), Place("outer", "127.0.0.1", 22, "outer"), USER)
            with door(site) as target:
                await ParamikoSsh(target).run(["true"])


class Sudo(LocalTransport):
    """This machine as somebody sees it who is not root, with a sudo that says `refusal` or obeys."""

    def __init__(self, refusal: str = "", uid: int = 1000) -> None:
        self.refusal, self.uid, self.asked = refusal, uid, list[tuple[str, ...]]()

    def _words(self, argv: Sequence[str]) -> list[str]:
        self.asked.append(tuple(argv))
        if list(argv) == ["id", "-u"]:
            return ["echo", str(self.uid)]
        if tuple(argv[:3]) != SUDO:
            return list(argv)
        return ["sh", "-c", 'echo "$1" >&2; exit 1', "sh", self.refusal] if self.refusal else list(argv[3:])

    async def run(self, argv: Sequence[str], **options: object) -> Completed:
        return await super().run(self._words(argv), **options)  # type: ignore[arg-type]

    async def follow(self, argv: Sequence[str], told: Callable[[str], None], **options: object) -> Completed:
        return await super().follow(self._words(argv), told, **options)  # type: ignore[arg-type]

    def hold(self, argv: Sequence[str]) -> AbstractAsyncContextManager[str]:
        return super().hold(self._words(argv))


REFUSALS = (
    # sudo 1.9.13, 1.9.16 and 1.9.17: whoever may run nothing, or only something else, is asked for a password first.
    "sudo: a password is required",
    "sudo: sorry, you must have a tty to run sudo",
    'sudo: The "no new privileges" flag is set, which prevents sudo from running as root.\n'
    "sudo: If sudo is running in a container, you may need to adjust the container configuration to disable the flag.",
)


class TestAsRoot:
    """Root's rights through sudo, on whatever transport."""

    async def test_everything_goes_through_sudo_and_the_uid_is_asked_once(self, tmp_path: Path) -> None:
        inner, told = Sudo(), list[str]()
        root = AsRoot(inner)
        found = await root.run(["sh", "-c", 'echo "$A"; pwd'], env={"A": "b 'c'"}, cwd=str(tmp_path))
        assert (found.out, found.argv[0]) == (f"b 'c'\n{tmp_path}\n", "sh")
        await root.follow(["echo", "line"], told.append)
        async with root.hold(["echo", "held"]) as line:
            assert (told, line) == (["line"], "held")
        assert inner.asked[0] == ("id", "-u")
        assert all(argv[:3] == SUDO for argv in inner.asked[1:])

    async def test_who_is_root_already_needs_no_sudo(self) -> None:
        inner = Sudo("sudo: a password is required", uid=0)
        assert (await AsRoot(inner).run(["echo", "x"])).out == "x\n"
        assert inner.asked == [("id", "-u"), ("echo", "x")]

    async def test_files(self, tmp_path: Path) -> None:
        root, content, path = AsRoot(Sudo()), bytes(range(256)) * 10, f"{tmp_path}/a 'file'"
        await root.put(content, path, 0o640)
        assert await root.get(path) == content
        assert Path(path).stat().st_mode & 0o7777 == 0o640
        assert len(list(tmp_path.iterdir())) == 1
        with pytest.raises(NotFound, match="no such file"):
            await root.get(f"{tmp_path}/none")
        with pytest.raises(HpcliError, match="No such file"):
            await root.put(content, f"{tmp_path}/none/file")
        with pytest.raises(NotFound, match="no such folder"):
            await root.run(["true"], cwd="/no/folder")

    @pytest.mark.parametrize("refusal", REFUSALS)
    async def test_a_sudo_that_refuses(self, refusal: str) -> None:
        root = AsRoot(Sudo(refusal), "host c1")
        for work in (root.run(["true"]), root.follow(["true"], print), root.get("/etc/shadow"), root.put(b"", "/x")):
            with pytest.raises(HpcliError, match="expected passwordless sudo for") as caught:
                await work
            assert caught.value.subject == "host c1: sudo"
            assert "NOPASSWD" in caught.value.hint
        with pytest.raises(HpcliError, match="host c1: sudo"):
            async with root.hold(["true"]):
                pass


class TestConnect:
    """Which way is taken."""

    def test_ssh_where_there_is_one_else_paramiko(self, tmp_path: Path) -> None:
        here = {"PATH": os.environ["PATH"]}
        assert isinstance(connect(SshTarget("c1"), environment=here), OpenSsh)
        assert isinstance(connect(SshTarget("c1"), environment=here, lasting=True), ParamikoSsh)
        assert isinstance(connect(SshTarget("c1"), environment={"PATH": str(tmp_path)}), ParamikoSsh)
        assert isinstance(connect(SshTarget("c1"), environment=here | {"HPCLI_SSH": "paramiko"}), ParamikoSsh)
        forced = {"PATH": str(tmp_path), "HPCLI_SSH": "openssh"}
        assert isinstance(connect(SshTarget("c1"), environment=forced), OpenSsh)
        with pytest.raises(UsageFault, match="expected one of: openssh, paramiko"):
            connect(SshTarget("c1"), environment={"HPCLI_SSH": "telnet"})

    def test_which_and_why_is_logged(self, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
        with caplog.at_level("DEBUG", "hpcli"):
            connect(SshTarget("c1"), environment={"PATH": str(tmp_path)})
        assert caplog.messages == ["host c1: by paramiko, since there is no ssh program on PATH"]

    def test_paramiko_is_not_loaded_before_it_is_needed(self) -> None:
        program = "import sys, hpcli.transport.reach; sys.exit('paramiko' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

    def test_a_folder_for_sockets_that_is_not_ours_alone(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        folder.mkdir()
        folder.chmod(0o755)
        with pytest.raises(HpcliError, match="mode 0700"):
            make_control(folder, SshTarget("c1"))
        (tmp_path / "private").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(tmp_path / "private")
        with pytest.raises(HpcliError, match="mode 0700"):
            make_control(tmp_path / "link", SshTarget("c1"))

    def test_socket_paths_stay_short(self) -> None:
        assert str(default_folder("/run/user/1000")) == "/run/user/1000/hpcli-ssh"
        for runtime in ("", "/x" * 40):
            assert str(default_folder(runtime, 1000)) == "/tmp/hpcli-1000"
