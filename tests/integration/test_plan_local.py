"""Plan, apply, drift and scale on real Slurm: what changes, what lives on, what is refused, kill -9 in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real_cluster import RealCluster
from tests.standing_cluster import hpcli, standing_cluster

pytestmark = pytest.mark.slurm

SPEC = """
name: it
compute:
  - {{name: gpu, nodes: "{nodes}", cpus: 4, memory: 1G, gpus: {{type: h100, count: {gpus}}}}}   # people's own comment
health: {{interval: 1s}}
slurm_conf: {{{slurm_conf}}}
{more}
"""


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    folder = tmp_path_factory.mktemp("plan")
    with standing_cluster(folder, spec=text_of()) as cluster:
        yield cluster


@pytest.fixture
async def as_new(standing: RealCluster) -> RealCluster:
    """The cluster as it was at first, every job gone."""
    await standing.gateway.cancel([job.id for job in await standing.gateway.jobs() if not job.ended])
    found = hpcli("cluster", "apply", "-f", spec(standing), "--yes", "--wait", "20", "--on-drift", "overwrite")
    assert found.returncode == 0, found.stderr
    return standing


def text_of(nodes: str = "c[1-4]", gpus: int = 2, slurm_conf: str = "", more: str = "") -> str:
    return SPEC.format(nodes=nodes, gpus=gpus, slurm_conf=slurm_conf, more=more)


def spec(cluster: RealCluster, **what: Any) -> str:
    path = cluster.shared / "it.yaml"
    path.write_text(text_of(**what))
    return str(path)


def data(found: "subprocess.CompletedProcess[str]") -> Any:
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)["data"]


def apply(cluster: RealCluster, *options: str, **what: Any) -> "subprocess.CompletedProcess[str]":
    return hpcli("cluster", "apply", "-f", spec(cluster, **what), "--yes", *options)


def slurm_config(cluster: RealCluster) -> str:
    env = {**os.environ, "SLURM_CONF": str(cluster.layout.slurm_conf)}
    return subprocess.run(["scontrol", "show", "config"], env=env, capture_output=True, text=True, check=True).stdout


async def patient(cluster: RealCluster, *options: str) -> str:
    """A job that ends well once it is told to."""
    job_id = await cluster.submit(f"until [ -e {cluster.shared}/go ]; do sleep 0.1; done; echo well", *options)
    await cluster.until_running(job_id)
    return job_id


async def ends_well(cluster: RealCluster, job_id: str) -> None:
    job = await cluster.job(job_id)
    assert (job.state, job.restarts) == ("RUNNING", 0)
    (cluster.shared / "go").touch()
    output = cluster.shared / f"job-{job_id}.out"
    await cluster.until(lambda: output.exists() and output.read_text() == "well\n", f"job {job_id} ends well")
    (cluster.shared / "go").unlink()


async def schedulable(cluster: RealCluster) -> set[str]:
    return {node.name for node in await cluster.gateway.nodes() if node.schedulable}


class TestPlan:
    def test_of_an_unchanged_cluster_says_no_changes(self, as_new: RealCluster) -> None:
        found = hpcli("cluster", "plan", "-f", spec(as_new), "--detailed-exitcode")
        assert (found.returncode, found.stdout) == (0, "cluster it: no changes\n")

    def test_tells_each_change_with_its_disruption_and_touches_nothing(self, as_new: RealCluster) -> None:
        before = {path: path.read_bytes() for path in as_new.layout.etc.iterdir()}
        found = hpcli("cluster", "plan", "-f", spec(as_new, nodes="c[1-6]", slurm_conf="MessageTimeout: 30"), "--json")
        changes = {change["what"]: change for change in data(found)["changes"]}
        assert changes["parameter MessageTimeout"]["disruption"] == "reconfigure"
        assert changes["node c[5-6]"]["disruption"] == "restart daemons"
        assert "only by a restart of all daemons; running jobs live on" in changes["node c[5-6]"]["why"]
        assert changes["partition main: Nodes"]["after"] == "c[1-6]"
        assert {path: path.read_bytes() for path in as_new.layout.etc.iterdir()} == before

    def test_of_a_cluster_that_is_not_there(self, as_new: RealCluster) -> None:
        path = as_new.shared / "other.yaml"
        path.write_text(text_of().replace("name: it", "name: other"))
        found = hpcli("cluster", "plan", "-f", str(path), "--detailed-exitcode")
        assert (found.returncode, "+\tcluster other\t\t4 nodes" in found.stdout) == (2, True)

    def test_a_cluster_built_before_anything_was_written_down(self, as_new: RealCluster) -> None:
        (as_new.layout.home / "applied.json").unlink()
        found = hpcli("cluster", "plan", "-f", spec(as_new, slurm_conf="MessageTimeout: 30"), "--json")
        assert [change["what"] for change in data(found)["changes"]] == ["parameter MessageTimeout"]
        assert "nothing says what was applied last" in data(found)["notes"][0]
        assert apply(as_new).returncode == 0
        assert (as_new.layout.home / "applied.json").stat().st_mode & 0o777 == 0o600


class TestApply:
    async def test_a_parameter_changes_under_a_running_job_and_a_second_time_nothing(self, as_new: RealCluster) -> None:
        job_id = await patient(as_new, "--nodes=2")
        pid = as_new.daemons.pid("slurmctld")
        assert len(data(apply(as_new, "--json", slurm_conf="MessageTimeout: 30"))["changes"]) == 1
        assert "MessageTimeout          = 30 sec" in slurm_config(as_new)
        assert as_new.daemons.pid("slurmctld") == pid, "a reconfigure is enough"
        again = data(apply(as_new, "--json", slurm_conf="MessageTimeout: 30"))
        assert (again["changes"], again["steps"]) == ([], [])
        await ends_well(as_new, job_id)

    async def test_what_needs_a_restart_leaves_jobs_alone_and_copies_the_state(self, as_new: RealCluster) -> None:
        job_id = await patient(as_new)
        data(apply(as_new, "--json", slurm_conf="PriorityType: priority/basic"))
        data(apply(as_new, "--json", slurm_conf="PriorityType: priority/multifactor"))
        copies = list((as_new.layout.home / "state.kept").iterdir())
        assert 1 <= len(copies) <= 3
        assert all((copy / "job_state").exists() for copy in copies)
        await ends_well(as_new, job_id)

    async def test_gpus_are_plugged_in_once_the_jobs_are_gone(self, as_new: RealCluster) -> None:
        job_id = await patient(as_new)
        refused = apply(as_new, gpus=3)
        assert (refused.returncode, f"jobs {job_id} (" in refused.stderr) == (8, True)
        assert "nothing was touched" in refused.stderr
        assert await schedulable(as_new) == {"c1", "c2", "c3", "c4"}
        await as_new.gateway.cancel([job_id])
        data(apply(as_new, "--json", "--wait", "20", gpus=3))
        assert {node.gpus for node in await as_new.gateway.nodes()} == {3}
        assert await schedulable(as_new) == {"c1", "c2", "c3", "c4"}
        job_id = await as_new.submit("true", "--gres=gpu:3")
        await as_new.until(lambda: _ended(as_new, job_id), "a job with all three GPUs ends")
        assert await as_new.kinds("opened") == [], "nothing was taken for a fault"

    async def test_accounting_is_switched_on_and_off(self, as_new: RealCluster) -> None:
        job_id = await patient(as_new)
        found = apply(as_new, "--json", more="accounting: {enabled: true}")
        steps = [taken["step"] for taken in data(found)["steps"]]
        assert steps.index("restart slurmdbd") < steps.index("start slurmctld")
        assert await as_new.gateway.admin_level("root") == "Administrator"
        data(apply(as_new, "--json"))
        assert not as_new.daemons.alive("slurmdbd")
        await ends_well(as_new, job_id)

    def test_needs_yes_where_nobody_can_be_asked(self, as_new: RealCluster) -> None:
        found = hpcli("cluster", "apply", "-f", spec(as_new, nodes="c[1-5]"))
        assert (found.returncode, "expected --yes" in found.stderr) == (8, True)

    def test_of_a_plan_made_before_another_change_is_refused(self, as_new: RealCluster) -> None:
        kept = str(as_new.shared / "plan.json")
        hpcli("cluster", "plan", "-f", spec(as_new, slurm_conf="MessageTimeout: 30"), "-o", kept)
        data(apply(as_new, "--json", slurm_conf="MessageTimeout: 20"))
        found = hpcli("cluster", "apply", "--plan", kept, "--yes")
        assert (found.returncode, "changed since the plan was made: found " in found.stderr) == (8, True)
        assert "MessageTimeout          = 20 sec" in slurm_config(as_new)

    def test_of_a_plan_does_just_that_whatever_the_file_says_by_now(self, as_new: RealCluster) -> None:
        kept = str(as_new.shared / "plan.json")
        hpcli("cluster", "plan", "-f", spec(as_new, slurm_conf="MessageTimeout: 30"), "-o", kept)
        spec(as_new, slurm_conf="MessageTimeout: 40")
        data(hpcli("cluster", "apply", "--plan", kept, "--yes", "--json"))
        assert "MessageTimeout          = 30 sec" in slurm_config(as_new)


async def _ended(cluster: RealCluster, job_id: str) -> bool:
    job = await cluster.job(job_id)
    return job is None or job.state == "COMPLETED"


class TestScale:
    async def test_four_to_six_with_a_running_job(self, as_new: RealCluster) -> None:
        job_id = await patient(as_new, "--nodes=4")
        path = spec(as_new)
        found = data(hpcli("cluster", "scale", "gpu", "+2", "-f", path, "--yes", "--json"))
        assert "make and set up c[5-6]" in [taken["step"] for taken in found["steps"]]
        assert Path(path).read_text() == text_of(nodes="c[1-6]")
        assert await schedulable(as_new) == {f"c{number}" for number in range(1, 7)}
        await ends_well(as_new, job_id)
        on_all = await as_new.submit("srun --mpi=none hostname > /dev/null", "--nodes=6")
        await as_new.until(lambda: _ended(as_new, on_all), "a job runs on all six")

    async def test_down_is_refused_while_a_job_runs_there(self, as_new: RealCluster) -> None:
        data(hpcli("cluster", "scale", "gpu", "5", "-f", spec(as_new), "--yes", "--json"))
        job_id = await patient(as_new, "--nodelist=c5")
        path = spec(as_new, nodes="c[1-5]")
        refused = hpcli("cluster", "scale", "gpu", "4", "-f", path, "--yes")
        assert (refused.returncode, f"jobs {job_id} (" in refused.stderr) == (8, True)
        assert Path(path).read_text() == text_of(nodes="c[1-5]"), "the file is as it was"
        await ends_well(as_new, job_id)
        data(hpcli("cluster", "scale", "gpu", "4", "-f", path, "--yes", "--wait", "20", "--json"))
        assert {node.name for node in await as_new.gateway.nodes()} == {"c1", "c2", "c3", "c4"}
        assert not as_new.layout.node("c5").exists()
        assert not as_new.daemons.alive("slurmd-c5")

    def test_a_dry_run_leaves_file_and_cluster_alone(self, as_new: RealCluster) -> None:
        path = spec(as_new)
        found = hpcli("cluster", "scale", "gpu", "6", "-f", path, "--dry-run")
        assert (found.returncode, "+\tnode c[5-6]" in found.stdout) == (0, True)
        assert Path(path).read_text() == text_of()
        assert hpcli("cluster", "plan", "-f", path).stdout == "cluster it: no changes\n"


class TestRefusedBySlurm:
    async def test_by_the_trial_in_slurmctlds_words_the_old_one_never_out_of_service(self, as_new: RealCluster) -> None:
        job_id = await patient(as_new)
        pid = as_new.daemons.pid("slurmctld")
        found = apply(as_new, slurm_conf="NoSuchThing: 5")
        assert found.returncode == 1
        assert "Parsing error at unrecognized key: NoSuchThing" in found.stderr
        assert "nothing was touched" in found.stderr
        assert as_new.daemons.pid("slurmctld") == pid
        assert hpcli("cluster", "plan", "-f", spec(as_new)).stdout == "cluster it: no changes\n"
        await ends_well(as_new, job_id)

    async def test_what_only_the_real_one_refuses_brings_the_old_one_back(self, as_new: RealCluster) -> None:
        """A trial has no plugins of the site's, so it does not miss this one."""
        job_id = await patient(as_new)
        began = time.monotonic()
        found = apply(as_new, slurm_conf="JobSubmitPlugins: nosuch")
        assert time.monotonic() - began < 30
        assert found.returncode == 1
        assert "failed to initialize job_submit plugin" in found.stderr
        assert "back in service" in found.stderr
        assert "nosuch" not in slurm_config(as_new)
        assert hpcli("cluster", "drift", "it").returncode == 0
        assert hpcli("cluster", "plan", "-f", spec(as_new)).stdout == "cluster it: no changes\n"
        await ends_well(as_new, job_id)


class TestDrift:
    def test_a_hand_edit_is_found_with_file_and_line(self, as_new: RealCluster) -> None:
        conf = as_new.layout.slurm_conf
        lines = conf.read_text().splitlines()
        number = next(i for i, line in enumerate(lines) if line.startswith("SlurmdTimeout="))
        lines[number] = "SlurmdTimeout=77"
        conf.write_text("\n".join(lines) + "\n")
        found = hpcli("cluster", "drift", "it")
        assert (found.returncode, found.stdout) == (
            1,
            f"localhost:{conf}:{number + 1}: found SlurmdTimeout=77, expected SlurmdTimeout=60\n",
        )
        refused = apply(as_new, slurm_conf="MessageTimeout: 30")
        assert (refused.returncode, f"{conf}:{number + 1}" in refused.stderr) == (8, True)
        kept = apply(as_new, "--on-drift", "keep")
        assert (kept.returncode, "SlurmdTimeout           = 77 sec" in slurm_config(as_new)) == (0, True), kept.stderr
        assert hpcli("cluster", "drift", "it").returncode == 0
        assert "-on" not in hpcli("cluster", "plan", "-f", spec(as_new)).stdout
        assert apply(as_new).returncode == 0
        assert "SlurmdTimeout           = 60 sec" in slurm_config(as_new), "the spec does not have it"

    def test_overwrite_and_a_file_that_is_gone(self, as_new: RealCluster) -> None:
        gate = as_new.layout.etc / "prolog.conf"
        gate.unlink()
        conf = as_new.layout.slurm_conf
        conf.write_text(conf.read_text() + "MaxJobCount=55\n")
        assert len(json.loads(hpcli("cluster", "drift", "it", "--json").stdout)["data"]) == 2
        assert apply(as_new, "--on-drift", "overwrite").returncode == 0
        assert gate.exists()
        assert "MaxJobCount             = 10000" in slurm_config(as_new)


class TestTwoAtOnce:
    async def test_the_second_is_refused_and_the_first_goes_on(self, as_new: RealCluster) -> None:
        job_id = await patient(as_new, "--nodelist=c4")
        with start_apply(as_new, nodes="c[1-3]") as first:
            read_until(first, "drain and wait until empty c4")
            second = apply(as_new, nodes="c[1-5]")
            assert (second.returncode, "found an apply under way (pid " in second.stderr) == (8, True)
            await ends_well(as_new, job_id)
            assert first.wait(30) == 0
        assert {node.name for node in await as_new.gateway.nodes()} == {"c1", "c2", "c3"}


COURSE = (
    "make and set up c[4-6]",
    "drain and wait until empty c1",
    "write the files",
    "copy slurmctld's state",
    "restart slurmd on c[3-6]",
    "take out c1",
)
"""Where it hurts most; tests/scenario kills between any two things that an apply does."""


class TestKilled:
    """kill -9 of an apply that takes c1 out and adds c4 to c6, as one of its steps begins."""

    @pytest.mark.parametrize("step", COURSE)
    async def test_the_next_apply_finishes_it_and_jobs_never_notice(self, as_new: RealCluster, step: str) -> None:
        data(apply(as_new, "--json", "--wait", "20", nodes="c[1-3]"))
        job_id = await patient(as_new, "--nodelist=c3")
        with start_apply(as_new, nodes="c[2-6]") as child:
            read_until(child, step)
            os.kill(child.pid, signal.SIGKILL)
        found = apply(as_new, "--json", "--wait", "20", nodes="c[2-6]")
        assert found.returncode == 0, found.stderr
        assert await schedulable(as_new) == {"c2", "c3", "c4", "c5", "c6"}
        assert not (as_new.layout.home / "pending.json").exists()
        assert not as_new.layout.node("c1").exists()
        plan = hpcli("cluster", "plan", "-f", spec(as_new, nodes="c[2-6]"))
        assert plan.stdout == "cluster it: no changes\n"
        await ends_well(as_new, job_id)
        assert hpcli("cluster", "status", "it").returncode == 0


def start_apply(cluster: RealCluster, **what: Any) -> "subprocess.Popen[str]":
    argv = [
        sys.executable,
        "-m",
        "hpcli",
        "cluster",
        "apply",
        "-v",
        "-f",
        spec(cluster, **what),
        "--yes",
        "--wait",
        "30",
    ]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def read_until(child: "subprocess.Popen[str]", step: str) -> list[str]:
    """Its steps up to this one; with -v each is said as it begins."""
    assert child.stderr
    said: list[str] = []
    for line in child.stderr:
        said.append(line.strip())
        if said[-1] == step:
            return said
    pytest.fail(f"it never came to {step!r}: {said}")
