"""How the gateway calls Slurm's programs: how often, with what, and what it waits for."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from hpcli.errors import SlurmRefused, Unreachable, UsageFault
from hpcli.ports import Completed
from hpcli.slurm.cli import CliGateway

CASES = Path(__file__).parent.parent / "cases" / "slurm" / "22.05"
NONCE = "0123456789abcdef"
REQUEUED = 1795442678.0
"""When job 67 of the recorded queue was requeued."""


class Programs:
    """A transport that repeats recorded output and remembers what it was asked."""

    def __init__(self, answers: Mapping[str, Completed] | None = None) -> None:
        self.answers = answers or {}
        self.calls: list[tuple[str, ...]] = []
        self.envs: list[Mapping[str, str]] = []
        self.timeouts: list[float] = []

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        self.calls.append(tuple(argv))
        self.envs.append(env or {})
        self.timeouts.append(timeout)
        return self.answers.get(argv[0]) or Completed(tuple(argv), 0, recorded(argv), "")


def recorded(argv: Sequence[str]) -> str:
    if argv[0] == "squeue":
        return (CASES / "jobs" / ("queue.txt" if "-o" in argv else "queue.facts.txt")).read_text()
    return (CASES / "nodes" / "cluster.txt").read_text() if "show" in argv else ""


def said(code: int, out: str, err: str = "") -> Completed:
    return Completed((), code, out, err)


def gateway(
    programs: Programs, now: float = REQUEUED + 100, slept: list[float] | None = None, requeue_rest: float = 1.0
) -> CliGateway:
    async def sleep(seconds: float) -> None:
        if slept is not None:
            slept.append(seconds)

    env = {"SLURM_CONF": "/etc/slurm/x.conf"}
    return CliGateway(
        programs, env, ambient=(), nonce=lambda: NONCE, now=lambda: now, sleep=sleep, requeue_rest=requeue_rest
    )


async def test_queries_cost_the_same_however_large_the_cluster() -> None:
    programs = Programs()
    assert len(await gateway(programs).nodes()) == 6
    assert len(programs.calls) == 1
    assert len(await gateway(programs).jobs()) > 20
    assert len(programs.calls) == 3


async def test_queries_name_the_cluster_and_speak_c() -> None:
    programs = Programs()
    await gateway(programs).nodes()
    assert programs.envs == [{"SLURM_CONF": "/etc/slurm/x.conf", "LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}]


async def test_commands_on_many_are_one_call() -> None:
    programs = Programs()
    slurm = gateway(programs)
    await slurm.update_nodes("c[1-4000]", "drain", "hpcli:1:x")
    await slurm.requeue(["1", "2_3"])
    await slurm.cancel(["1", "2_3"])
    assert programs.calls == [
        ("scontrol", "update", "nodename=c[1-4000]", "state=drain", "reason=hpcli:1:x"),
        ("scontrol", "requeue", "1,2_3"),
        ("scancel", "-v", "1", "2_3"),
    ]


@pytest.mark.parametrize(
    ("later", "wait"), [(0.0, 1.02), (0.3, 0.72), (1.01, 0.01), (1.5, 0.0), (60.0, 0.0), (-5.0, 1.02)]
)
async def test_release_lets_the_second_of_the_requeue_pass(later: float, wait: float) -> None:
    slept: list[float] = []
    await gateway(Programs(), REQUEUED + later, slept).release(["67"])
    assert slept == [pytest.approx(wait, abs=1e-4)]


@pytest.mark.parametrize(("later", "wait"), [(0.0, 3.02), (2.5, 0.52), (3.1, 0.0)])
async def test_release_rests_as_long_as_prologs_of_an_allocation_need(later: float, wait: float) -> None:
    slept: list[float] = []
    await gateway(Programs(), REQUEUED + later, slept, requeue_rest=3.0).release(["67"])
    assert slept == [pytest.approx(wait, abs=1e-4)]


async def test_release_lifts_slurms_own_hold_and_no_persons() -> None:
    held = f"{NONCE}" + "\x1f".join(("8", "8", "u", "a", "main", "PENDING", "launch failed requeued held"))
    held += "\x1f" + "\x1f".join(("", "1", "n/a", "1", "N/A", "0:00", "1:00")) + f"{NONCE}j{NONCE}(null)\n"
    programs = Programs(
        {
            "squeue": said(
                0, held + held.replace("8\x1f8", "9\x1f9").replace("launch failed requeued held", "JobHeldAdmin")
            )
        }
    )
    await gateway(programs).release(["8", "9"])
    assert programs.calls[-2:] == [
        ("scontrol", "update", "jobid=8,9", "StartTime=now"),
        ("scontrol", "release", "8"),
    ]


@pytest.mark.parametrize(
    ("out", "job"), [("12\n", "12"), ("hello\n12;cluster\n", "12"), ("12\n\n", "12"), ("13;a b\n", "13")]
)
async def test_the_job_id_is_on_sbatchs_last_line(out: str, job: str) -> None:
    assert await gateway(Programs({"sbatch": said(0, out)})).submit(["x.sh"]) == job


@pytest.mark.parametrize("out", ["", "hello\n", "-1\n", "12x\n"])
async def test_anything_else_is_no_job_id(out: str) -> None:
    with pytest.raises(SlurmRefused, match="expected a job id"):
        await gateway(Programs({"sbatch": said(0, out)})).submit(["x.sh"])


async def test_waiting_for_a_job_has_no_limit_and_its_failure_is_no_refusal() -> None:
    programs = Programs({"sbatch": said(3, "12\n")})
    assert await gateway(programs).submit(["--wait", "x.sh"]) == "12"
    assert programs.timeouts == [float("inf")]


async def test_a_job_gets_neither_our_locale_nor_our_time_format() -> None:
    programs = Programs({"sbatch": said(0, "12\n")})
    await gateway(programs).submit(["x.sh"])
    assert programs.envs == [{"SLURM_CONF": "/etc/slurm/x.conf"}]


@pytest.mark.parametrize("job", ["-u", "root", "1;2", "", "1 2", "1,2", "--me"])
async def test_what_is_no_job_id_never_reaches_slurm(job: str) -> None:
    programs = Programs()
    for act in (gateway(programs).cancel, gateway(programs).requeue, gateway(programs).release):
        with pytest.raises(UsageFault):
            await act([job])
    assert programs.calls == []


async def test_admin_level() -> None:
    assert await gateway(Programs({"sacctmgr": said(0, "Operator\n")})).admin_level("ada") == "Operator"
    none = said(
        1,
        "",
        "You are not running a supported accounting_storage plugin\nOnly 'accounting_storage/slurmdbd' is supported.\n",
    )
    assert await gateway(Programs({"sacctmgr": none})).admin_level("ada") == ""
    with pytest.raises(Unreachable):
        deaf = said(1, "", "sacctmgr: error: slurm_persist_conn_open_without_init: Connection refused\n")
        await gateway(Programs({"sacctmgr": deaf})).admin_level("ada")


@pytest.mark.parametrize(("out", "version"), [("slurm-wlm 22.05.8\n", (22, 5)), ("slurm 24.11.5-1\n", (24, 11))])
async def test_version(out: str, version: tuple[int, int]) -> None:
    assert await gateway(Programs({"scontrol": said(0, out)})).version() == version
