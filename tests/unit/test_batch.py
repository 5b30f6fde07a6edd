"""Slurm's programs on a login node: what shares a round trip, what runs twice, what leaks."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from hpcli.errors import TimedOut, Unreachable
from hpcli.ports import Completed
from hpcli.slurm.batch import OneRoundTrip, Repeating, is_query
from hpcli.slurm.cli import CliGateway
from hpcli.transport import faults
from hpcli.transport.known_hosts import Place
from hpcli.transport.process import LocalTransport

PLACE = Place("login", "10.0.0.1", 22, "10.0.0.1")
LOST = faults.lost("host login", "sh")
CASES = Path(__file__).parent.parent / "cases" / "slurm" / "22.05" / "jobs"
FAKE_SQUEUE = f"""#!/bin/sh
for arg; do case "$last" in -o) nonce=$(printf %.16s "$arg");; esac; last=$arg; done
[ -z "$nonce" ] && exec cat {CASES}/queue.facts.txt
exec sed "s/0123456789abcdef/$nonce/g" {CASES}/queue.txt
"""


class LoginNode:
    """This machine, with programs of its own, as a login node that counts what comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[tuple[str, ...]] = []
        self.inputs: list[str] = []
        self.faults: list[Exception | None] = []
        self.variables: dict[str, str] = {}

    def program(self, name: str, script: str) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / name).chmod(0o755)

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        self.lines.append(tuple(argv))
        self.inputs.append(stdin)
        fault = self.faults.pop(0) if self.faults else None
        if fault:
            raise fault
        path = {"PATH": f"{self.folder}:{os.environ['PATH']}", **self.variables}
        return await LocalTransport().run(argv, stdin=stdin, env={**path, **(env or {})}, cwd=cwd, timeout=timeout)


@pytest.fixture
def node(tmp_path: Path) -> LoginNode:
    return LoginNode(tmp_path)


async def asked(way: OneRoundTrip, *commands: Sequence[str]) -> list[Completed]:
    return list(await asyncio.gather(*(way.run(argv) for argv in commands)))


class TestOneRoundTrip:
    async def test_queries_of_one_moment_share_it(self, node: LoginNode) -> None:
        node.program("squeue", 'printf "<%s>" "$@"; echo err of $# >&2; exit $#')
        node.program("sinfo", "cat; kill -TERM $$")
        words = ["a b", "", "'", '"', "$HOME", "`id`", "*", "a\nb", "-n", "3", "\\"]
        first, second, third, missing = await asked(
            OneRoundTrip(node), ["squeue", *words], ["squeue"], ["sinfo"], ["nosuch", "--version"]
        )
        assert len(node.lines) == 1
        assert (first.out, first.err, first.code) == ("".join(f"<{word}>" for word in words), "err of 11\n", 11)
        assert (second.out, second.err, second.code) == ("<>", "err of 0\n", 0)
        assert (third.out, third.code) == ("", -15)
        assert (missing.code, "nosuch" in missing.err) == (127, True)

    async def test_a_listing_is_one_and_a_jobs_files_are_one(self, node: LoginNode) -> None:
        (node.folder / "squeue").write_text(FAKE_SQUEUE)
        (node.folder / "squeue").chmod(0o755)
        node.program("scontrol", "echo JobId=1")
        gateway = CliGateway(OneRoundTrip(node), {}, ambient=())
        assert len(await gateway.jobs()) > 20
        assert len(node.lines) == 1
        await gateway.job_files("60")
        assert len(node.lines) == 2

    async def test_later_ones_travel_by_themselves(self, node: LoginNode) -> None:
        node.program("squeue", "echo x")
        way = OneRoundTrip(node)
        assert [(await way.run(["squeue"])).out for _ in range(3)] == ["x\n"] * 3
        assert len(node.lines) == 3

    async def test_environments_keep_apart(self, node: LoginNode) -> None:
        node.program("squeue", "echo $SLURM_CONF")
        way = OneRoundTrip(node)
        found = await asyncio.gather(*(way.run(["squeue"], env={"SLURM_CONF": name}) for name in ("/a", "/b", "/a")))
        assert [one.out for one in found] == ["/a\n", "/b\n", "/a\n"]
        assert len(node.lines) == 2

    async def test_an_answer_cannot_forge_another(self, node: LoginNode) -> None:
        """Whoever prints the mark must have read it: it is in no argument and no environment."""
        node.program("squeue", "cat /proc/*/cmdline /proc/$PPID/environ 2>/dev/null | tr '\\0' '\\n'; cat; echo 0")
        node.program("sinfo", "exit 4")
        first, second = await asked(OneRoundTrip(node), ["squeue"], ["sinfo"])
        mark = node.inputs[0].strip()
        assert len(mark) == 32 and mark not in first.out
        assert not any(mark in word for word in node.lines[0])
        assert second.code == 4

    async def test_a_shell_that_ends_too_early(self, node: LoginNode) -> None:
        node.program("squeue", 'kill -KILL "$PPID"')
        with pytest.raises(Unreachable, match="expected 2"):
            await asked(OneRoundTrip(node), ["squeue"], ["sinfo"])

    async def test_variables_of_a_job_do_not_leak(self, node: LoginNode) -> None:
        node.variables = {"SLURM_JOB_ID": "1", "SBATCH_PARTITION": "x", "SQUEUE_FORMAT": "%i", "PMIX_RANK": "0"}
        node.variables |= {"SLURM_CONF": "/here", "SLURM_JWT": "token", "KEPT": "a\nSLURM_X=1"}
        for name in ("squeue", "sbatch"):
            node.program(name, "env | grep -E '^(SLURM|SBATCH|SQUEUE|PMIX|KEPT)' | sort")
        way = OneRoundTrip(node)
        found = [*await asked(way, ["squeue"], ["squeue"]), await way.run(["squeue"]), await way.run(["sbatch"])]
        assert {one.out for one in found} == {"KEPT=a\nSLURM_CONF=/here\nSLURM_JWT=token\nSLURM_X=1\n"}

    async def test_a_script_travels_on_standard_input(self, node: LoginNode) -> None:
        node.program("sbatch", 'echo "$@"; cat')
        found = await OneRoundTrip(node).run(["sbatch", "-N", "2"], stdin="#!/bin/sh\ntrue\n")
        assert (found.out, found.argv) == ("-N 2\n#!/bin/sh\ntrue\n", ("sbatch", "-N", "2"))


class TestBrokenWays:
    @pytest.mark.parametrize("fault", [LOST, faults.cut_off(PLACE, "Connection reset by peer")])
    async def test_queries_are_put_once_more(self, node: LoginNode, fault: Exception) -> None:
        node.program("squeue", "echo x")
        node.faults = [fault]
        found = await asked(OneRoundTrip(node), ["squeue"], ["squeue", "-a"])
        assert [one.out for one in found] == ["x\n", "x\n"]
        assert len(node.lines) == 2

    async def test_and_not_for_ever(self, node: LoginNode) -> None:
        node.faults = [LOST, LOST]
        with pytest.raises(Unreachable, match=r"the connection was lost while squeue ran$"):
            await asked(OneRoundTrip(node), ["squeue"], ["sinfo"])

    @pytest.mark.parametrize(
        "fault",
        [
            faults.refused(PLACE),
            faults.no_answer(PLACE),
            faults.not_let_in(PLACE, "ada", ()),
            TimedOut("host login: sh", "no answer within 60 s"),
        ],
    )
    async def test_what_would_be_so_again_is_not_tried_again(self, node: LoginNode, fault: Exception) -> None:
        node.faults = [fault]
        with pytest.raises((Unreachable, TimedOut)):
            await OneRoundTrip(node).run(["squeue"])
        assert len(node.lines) == 1

    @pytest.mark.parametrize(
        ("argv", "hint"),
        [
            (["sbatch", "--parsable", "x"], "before you submit it again"),
            (["scancel", "-v", "1"], "does no harm"),
            (["scontrol", "requeue", "1"], "hpcli queue"),
            (["scontrol", "update", "nodename=c1", "state=drain"], "hpcli nodes"),
        ],
    )
    async def test_what_changes_something_never_runs_twice(
        self, node: LoginNode, argv: Sequence[str], hint: str
    ) -> None:
        node.faults = [LOST]
        with pytest.raises(Unreachable, match=f"while {argv[0]} ran; whether it took effect is not known") as refused:
            await OneRoundTrip(node).run(argv)
        assert len(node.lines) == 1
        assert hint in refused.value.hint

    async def test_a_program_that_takes_too_long_is_named(self, node: LoginNode) -> None:
        node.faults = [TimedOut("host login: sh", "no answer within 60 s"), TimedOut("host login: sh", "none")]
        with pytest.raises(TimedOut, match="host login: squeue: no answer"):
            await OneRoundTrip(node).run(["squeue"])
        with pytest.raises(TimedOut, match="not known"):
            await OneRoundTrip(node).run(["sbatch"])

    async def test_repeating(self, node: LoginNode) -> None:
        node.faults = [LOST]
        assert (await Repeating(node).run(["cat"], stdin="x")).out == "x"


@pytest.mark.parametrize(
    ("line", "query"),
    [
        ("squeue -h -r -a", True),
        ("scontrol -a show node -d -o", True),
        ("scontrol --version", True),
        ("scontrol ping", True),
        ("sacctmgr -n -P show user name=ada", True),
        ("sinfo -a", True),
        ("sbatch --parsable x.sh", False),
        ("sbatch --version", True),
        ("scancel -v 1", False),
        ("scontrol update nodename=c1 state=drain", False),
        ("scontrol requeue 1", False),
        ("scontrol release 1", False),
        ("scontrol notify 1 show", False),
        ("sacctmgr -i add user show", False),
        ("env -u X squeue", False),
    ],
)
def test_what_is_a_query(line: str, query: bool) -> None:
    assert is_query(line.split()) is query
