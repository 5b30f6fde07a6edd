"""Recorded output of real Slurm, beside what is to be made of it. A new case needs no code."""

import dataclasses
import json
from datetime import datetime
from pathlib import Path

import pytest

from hpcli.domain.job import Job
from hpcli.domain.node import Node
from hpcli.errors import HpcliError
from hpcli.ports import Completed
from hpcli.slurm.environment import query_environment, scrub_argv
from hpcli.slurm.parse import parse_nodes, parse_states, parse_time
from hpcli.slurm.queue import parse_jobs, queue_format
from hpcli.slurm.refusal import error_of_jobs, refusal, refused_jobs
from hpcli.slurm.show_job import expand_pattern, parse_job_files

CASES = Path(__file__).parent.parent / "cases" / "slurm"
NONCE = "0123456789abcdef"
JOB = Job(id="70", label="62_1", name="sweep", user="ada", partition="main", state="RUNNING", batch_host="c3")


def plain(value: Node | Job) -> dict[str, object]:
    found = dataclasses.asdict(value)
    return {
        key: sorted(v) if isinstance(v, frozenset) else list(v) if isinstance(v, tuple) else v
        for key, v in found.items()
    }


def found_cases(pattern: str) -> list[Path]:
    cases = sorted(CASES.glob(pattern))
    assert cases
    return cases


def case_id(path: Path) -> str:
    return str(path.relative_to(CASES))


@pytest.mark.parametrize("expected", found_cases("*/nodes/*.json"), ids=case_id)
def test_nodes(expected: Path) -> None:
    found = parse_nodes(expected.with_suffix(".txt").read_text())
    assert json.loads(json.dumps([plain(node) for node in found])) == json.loads(expected.read_text())


@pytest.mark.parametrize("expected", found_cases("*/jobs/*.json"), ids=case_id)
def test_jobs(expected: Path) -> None:
    listed, facts = expected.with_suffix(".txt"), expected.with_suffix(".facts.txt")
    found = parse_jobs(listed.read_text(), facts.read_text(), NONCE)
    assert [plain(job) for job in found] == json.loads(expected.read_text())


@pytest.mark.parametrize("expected", found_cases("*/files/*.json"), ids=case_id)
def test_files(expected: Path) -> None:
    jobs = parse_jobs(expected.with_suffix(".queue.txt").read_text(), "", NONCE)
    found = parse_job_files(expected.with_suffix(".txt").read_text(), jobs)
    assert [[f.job.label, f.stdout, f.stderr, f.work_dir] for f in found] == json.loads(expected.read_text())


@pytest.mark.parametrize(
    "case",
    [case for path in found_cases("*/refusals.json") for case in json.loads(path.read_text())],
    ids=lambda case: f"{case['argv'].split()[0]}-{case['err'][:40]}",
)
def test_refusals(case: dict[str, str]) -> None:
    error = shown_error(case)
    assert (error.code, error.subject, error.message) == (case["code"], case["subject"], case["message"])


def shown_error(case: dict[str, str]) -> HpcliError:
    complaints = refused_jobs(case["err"], fine=("Job is pending execution", "No error"))
    if complaints:
        return error_of_jobs(complaints)
    return refusal(case["subject"], Completed(tuple(case["argv"].split()), 1, case.get("out", ""), case["err"]))


def test_local_times_are_read_in_the_local_zone() -> None:
    (node,) = parse_nodes((CASES / "22.05/nodes/local-time.txt").read_text())
    assert node.boot_time == datetime(2026, 11, 23, 12, 59, 40).timestamp()


@pytest.mark.parametrize("text", ["", "None", "Unknown", "N/A", "NONE", "garbage"])
def test_no_time(text: str) -> None:
    assert parse_time(text) == 0.0


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("IDLE", {"IDLE"}),
        ("MIXED+DRAIN*", {"MIXED", "DRAIN", "NOT_RESPONDING"}),
        ("IDLE*+DRAIN", {"IDLE", "DRAIN", "NOT_RESPONDING"}),
        ("IDLE~", {"IDLE", "POWERED_DOWN"}),
        ("ALLOCATED#", {"ALLOCATED", "POWERING_UP"}),
        ("IDLE%", {"IDLE", "POWERING_DOWN"}),
        ("MIXED$", {"MIXED", "MAINTENANCE"}),
        ("DOWN^", {"DOWN", "REBOOT_ISSUED"}),
        ("IDLE@", {"IDLE", "REBOOT_REQUESTED"}),
        ("MIXED-", {"MIXED", "PLANNED"}),
        ("DOWN+DRAIN+NOT_RESPONDING", {"DOWN", "DRAIN", "NOT_RESPONDING"}),
    ],
)
def test_state_marks(text: str, states: set[str]) -> None:
    assert parse_states(text) == states


@pytest.mark.parametrize("text", ["", "\n", "No nodes in the system\n", "NodeName=c1", "NodeName=c1 Arch=x86"])
def test_no_or_cut_output_makes_no_node(text: str) -> None:
    assert parse_nodes(text) == ()


@pytest.mark.parametrize("length", range(0, 2000, 37))
def test_output_cut_anywhere_forges_no_job(length: int) -> None:
    text = (CASES / "22.05/jobs/queue.txt").read_text()
    found = parse_jobs(text[:length], "", NONCE)
    assert found[:-1] == parse_jobs(text, "", NONCE)[: max(len(found) - 1, 0)]


def test_the_nonce_frames_records() -> None:
    assert queue_format("n").startswith("n%i\x1f")
    assert queue_format("n").endswith("n%jn%k")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/r/%j.out", "/r/70.out"),
        ("/r/%5j.out", "/r/00070.out"),
        ("/r/%A_%a-%b.out", "/r/62_1-1.out"),
        ("/r/%x-%u-%N.out", "/r/sweep-ada-c3.out"),
        ("/r/100%%-%q", "/r/100%-%q"),
        ("/r/\\%j", "/r/%j"),
        ("/r/62_4294967294.out", "/r/62_1.out"),
    ],
)
def test_file_name_patterns(pattern: str, path: str) -> None:
    assert expand_pattern(pattern, JOB) == path


def test_an_outer_jobs_variables_are_left_behind() -> None:
    ambient = ["PATH", "SLURM_CONF", "SLURM_JWT", "SLURM_JOB_ID", "SQUEUE_FORMAT", "SBATCH_PARTITION", "PMIX_RANK"]
    leaks = ("PMIX_RANK", "SBATCH_PARTITION", "SLURM_JOB_ID", "SQUEUE_FORMAT")
    assert scrub_argv(ambient) == ("env", *(word for name in leaks for word in ("-u", name)))
    assert scrub_argv(["PATH", "SLURM_CONF"]) == ()


def test_queries_speak_c_and_seconds() -> None:
    env = query_environment({"SLURM_CONF": "/etc/x"})
    assert env == {"SLURM_CONF": "/etc/x", "LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}
