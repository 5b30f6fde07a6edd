"""Work on one machine over SSH: ask what it is, push the release, write files, run the lifecycle scripts."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcli.domain.blueprint import ConfigFile
from hpcli.errors import HpcliError, NotFound
from hpcli.machines import FoundFile, RemoteTransport
from hpcli.ports import Completed
from hpcli.providers.remote.facts import Facts, parse_facts
from hpcli.providers.remote.found_files import parse_found
from hpcli.providers.remote.release import PACKAGE, Release, pack_files
from hpcli.render.machine import LIFECYCLE

SCRIPTS = PACKAGE / "lifecycle-scripts"
OFFLINE = "/var/lib/hpcli/offline"
LONGEST_BOOTSTRAP = 3600.0
LONGEST_COMMAND = 120.0


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine: `plain` speaks as the administrator, `root` through sudo."""

    name: str
    plain: RemoteTransport
    root: RemoteTransport

    async def facts(self, python: str = "python3") -> Facts:
        """`python` is the one whose version is told. Raises `Unreachable`, or `HpcliError` without a bash there."""
        script = (SCRIPTS / "facts").read_text()
        answer = await self.plain.run(["bash", "-s", "--", python], stdin=script, timeout=LONGEST_COMMAND)
        if answer.code:
            raise self.failed("facts", answer)
        return parse_facts(answer.out)

    async def host_key(self) -> str:
        """Its public SSH host key. Raises `HpcliError` for a machine without an ed25519 one."""
        answer = await self.plain.run(["cat", "/etc/ssh/ssh_host_ed25519_key.pub"])
        words = answer.out.split()
        if answer.code or len(words) < 2:
            raise self.failed("host key", answer, "make one there: ssh-keygen -A")
        return " ".join(words[:2])

    async def authorize(self, verb: str, line: str) -> None:
        """Let a key log in as the administrator, or no longer: `add` or `remove`."""
        script = (SCRIPTS / "authorize").read_text()
        answer = await self.plain.run(["bash", "-s", "--", verb, line], stdin=script)
        if answer.code:
            raise self.failed("authorized_keys", answer)

    async def push(self, release: Release) -> bool:
        """Put the release in place; False when it is there already."""
        have = await self.root.run(["cat", "/opt/hpcli/release"])
        if have.out.strip() == release.id:
            return False
        archive = f"/tmp/hpcli-{release.id}-{secrets.token_hex(4)}.tgz"
        await self.plain.put(release.archive, archive)
        script = (SCRIPTS / "unpack").read_text()
        await self._must(["bash", "-s", "--", archive, release.id], "unpack", stdin=script)
        return True

    async def push_packages(self, packages: Release) -> str:
        """Put packages for a machine without a network in place, once; returns their folder."""
        have = await self.root.run(["cat", f"{OFFLINE}/release"])
        if have.out.strip() == packages.id:
            return OFFLINE
        archive = f"/tmp/hpcli-packages-{secrets.token_hex(4)}.tgz"
        await self.plain.put(packages.archive, archive)
        await self._must([f"{LIFECYCLE}/unpack-packages", archive, packages.id, OFFLINE], "packages")
        return OFFLINE

    async def write(self, files: Sequence[ConfigFile]) -> None:
        """Write files whole or not at all, with owner and mode. Raises `HpcliError`."""
        if not files:
            return
        archive = f"/tmp/hpcli-files-{secrets.token_hex(8)}.tar"
        rows = [(file.path, file.mode, file.owner, file.group, file.text) for file in files]
        await self.plain.put(pack_files(rows), archive)
        try:
            await self._must([f"{LIFECYCLE}/files", "write", archive], "files")
        finally:
            await self.plain.run(["rm", "-f", archive])

    async def read(self, paths: Sequence[str]) -> Mapping[str, FoundFile]:
        answer = await self._must([f"{LIFECYCLE}/files", "read"], "files", stdin="".join(f"{one}\n" for one in paths))
        return parse_found(answer.out)

    async def remove(self, paths: Sequence[str]) -> None:
        await self._must([f"{LIFECYCLE}/files", "remove"], "files", stdin="".join(f"{one}\n" for one in paths))

    async def lifecycle(self, told: Callable[[str], None], offline: str = "") -> float:
        """Run the numbered scripts; `told` gets each step's name as it begins. Returns seconds. Raises `HpcliError`."""
        began = time.monotonic()
        argv = [f"{LIFECYCLE}/run.sh", *(["--offline", offline] if offline else [])]
        answer = await self.root.follow(argv, lambda line: _tell(line, told), timeout=LONGEST_BOOTSTRAP)
        if answer.code:
            raise self.failed("bootstrap", answer, "mend that, then run the same command again: it goes on from here")
        return time.monotonic() - began

    async def script(self, name: str, *args: str, timeout: float = LONGEST_COMMAND) -> str:
        """Run one of our own scripts there and give what it printed. Raises `HpcliError`."""
        answer = await self._must([f"{LIFECYCLE}/{name}", *args], " ".join((name, *args)), timeout=timeout)
        return answer.out

    async def get(self, path: str) -> str | None:
        """A text file that root can read, None when it is not there."""
        try:
            return (await self.root.get(path)).decode()
        except NotFound:
            return None

    def failed(self, what: str, answer: Completed, hint: str = "") -> HpcliError:
        words = (answer.err.strip() or answer.out.strip() or f"ended with {answer.code}").splitlines()
        # Scripts begin with their own name.
        said = words[-1].strip().removeprefix(f"{what.split()[0]}: ")
        return HpcliError(f"host {self.name}", f"{what}: {said}", hint or "mend that there, then run the same again")

    async def _must(
        self, argv: Sequence[str], what: str, *, stdin: str = "", timeout: float = LONGEST_COMMAND
    ) -> Completed:
        answer = await self.root.run(argv, stdin=stdin, timeout=timeout)
        if answer.code:
            raise self.failed(what, answer)
        return answer


def _tell(line: str, told: Callable[[str], None]) -> None:
    words = line.split()
    if len(words) >= 3 and words[0] == "step" and words[2] == "begin":
        told(words[1])


def script_text(name: str) -> str:
    """One of the scripts that become files of a machine's configuration, such as slurm/prolog."""
    return (Path(SCRIPTS) / name).read_text()
