"""A cluster that somebody else built: adopted, watched, healed, and left as it was, for every series of Slurm."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import SERIES
from stock import CONF, MACHINES, NODES, Stock, Tree, stock_cluster

from tests.e2e.life import wait

pytestmark = pytest.mark.docker

NAME = "site"
HOOKS = ("Prolog", "SchedulerParameters", "RebootProgram")
OWN_PROLOG = "Prolog=/etc/slurm/site-prolog"
WATCHED_SECONDS = 20.0
RUN = "/home/alice/run"
JOB = f"""#!/bin/bash
#SBATCH --nodes=2 --gres=gpu:1 --requeue --open-mode=append --output={RUN}/out
srun --kill-on-bad-exit=1 {RUN}/rank && cat {RUN}/part.? >{RUN}/result
"""
RANK = f"""#!/bin/bash
# Adds up its steps, each kept before the next one begins; goes on from there. Ends with the step that {RUN}/last names.
own={RUN}/part.$SLURM_PROCID step=0 sum=0
[[ ! -s $own ]] || read -r step sum <"$own"
while (( step < $(cat {RUN}/last 2>/dev/null || echo 1000000) )); do
    sum=$(( sum + ++step * (SLURM_PROCID + 1) ))
    echo "$step $sum" >"$own.new" && mv "$own.new" "$own"
    echo "${{SLURM_RESTART_COUNT:-0}} $step $SLURMD_NODENAME" >>"$own.steps"
    sleep 0.2
done
"""
CHANGES = {
    "a file that is new": "touch '/etc/new one' ;; rm '/etc/new one'",
    "a folder that is new": "mkdir /opt/hpcli ;; rmdir /opt/hpcli",
    "content": "sed -i s/root:x/root:y/ /etc/group ;; sed -i s/root:y/root:x/ /etc/group",
    "mode": "chmod 700 /opt ;; chmod 755 /opt",
    "owner": "chown alice /etc/motd ;; chown root /etc/motd",
    "a link's target": "ln -sfT /nowhere /etc/mtab ;; ln -sfT /proc/mounts /etc/mtab",
    "a cache of Python": "touch /usr/lib/python3/x.pyc ;; rm /usr/lib/python3/x.pyc",
}


@dataclass(frozen=True)
class Person:
    """Types commands on a laptop, in a home of the test's own."""

    home: Path

    def __call__(self, *words: str, code: int = 0, limit: float = 600) -> str:
        """What a command says, talk and results."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "HPCLI", "XDG"))}
        done = subprocess.run(
            [sys.executable, "-m", "hpcli", *words],
            env={**clean, "HOME": str(self.home), "XDG_STATE_HOME": str(self.home / "state"), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
        assert done.returncode == code, f"hpcli {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if "--json" in words else done.stdout + done.stderr

    def ask(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))["data"]


@dataclass(frozen=True)
class Tale:
    """One site and who adopts it; `seconds` of each chapter."""

    stock: Stock
    person: Person
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def spec(self) -> Path:
        return self.person.home / "cluster.yaml"

    @contextmanager
    def chapter(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 1)
        print(f"  {self.stock.series} {name}: {self.seconds[name]} s", flush=True)

    def on_spec(self, *words: str, code: int = 0) -> str:
        return self.person("cluster", *words, "-f", str(self.spec), code=code)

    def change_spec(self, change: Callable[[dict[str, Any]], None]) -> None:
        spec = yaml.safe_load(self.spec.read_text())
        change(spec)
        self.spec.write_text(yaml.safe_dump(spec))

    def steps(self, node: str) -> list[Mapping[str, Any]]:
        rows: list[Mapping[str, Any]] = self.person.ask("recovery", "history", node, "-C", NAME)
        return rows


@pytest.fixture(scope="module", params=SERIES)
def tale(engine: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tale]:
    folder = tmp_path_factory.mktemp("stock")
    home = tmp_path_factory.mktemp("laptop")
    began = time.monotonic()
    with stock_cluster(folder, request.param) as stock:
        print(f"\n  {request.param} stands: {time.monotonic() - began:.1f} s", flush=True)
        yield Tale(stock, Person(home))


def test_every_kind_of_change_is_seen(tale: Tale) -> None:
    """What the byte-identical end rests on."""
    seen = {}
    for name, script in CHANGES.items():
        do, undo = script.split(" ;; ")
        before = tale.stock.tree_of("c4")
        tale.stock.sh("c4", do)
        seen[name] = tale.stock.tree_of("c4").against(before).count("\n") + 1
        tale.stock.sh("c4", undo)
        assert tale.stock.tree_of("c4").against(before) == ""
    assert seen == dict.fromkeys(CHANGES, 1)


def test_a_cluster_is_adopted_healed_and_left_as_it_was(tale: Tale) -> None:
    before = tale.stock.tree()
    adopt(tale)
    with tale.chapter("a dry run"):
        assert lines_of(tale.on_spec("install-agents", "--dry-run")).keys() == set(HOOKS)
        assert tale.stock.tree().against(before) == ""
    install(tale)
    job = submit(tale)
    observed = watch(tale, job)
    acted = heal(tale, job)
    same_decisions(observed, acted)
    if tale.stock.series == "22.05":
        thaw(tale)
    leave(tale, before)


def adopt(tale: Tale) -> None:
    stock = tale.stock
    reach = ("--ssh", f"admin@{stock.address('login')}", "--identity", str(stock.identity))
    with tale.chapter("adopt"):
        tale.person("cluster", "adopt", NAME, *reach, "--known-hosts", str(stock.known_hosts), "-o", str(tale.spec))

    def complete(spec: dict[str, Any]) -> None:
        assert (spec["provider"], spec["recovery"]["mode"]) == ("adopted", "observe")
        assert spec["adopted"]["chain_prolog"] == ["/etc/slurm/site-prolog"]
        # Names of this site mean nothing where the person sits.
        spec["hosts"]["addresses"] = {name: stock.address(name) for name in MACHINES if name != "database"}
        spec["health"] = {"interval": "1s"}
        spec["recovery"] |= {"start_interval": "0s", "reboot_interval": "0s", "replace_interval": "0s"}

    tale.change_spec(complete)


def lines_of(said: str) -> dict[str, str]:
    """The lines that the site is told to write, by what they set."""
    found = (re.match(r"\W*((\w+)=\S+)\s*$", line) for line in said.splitlines())
    return {one[2]: one[1] for one in found if one and one[2] in HOOKS}


def install(tale: Tale) -> None:
    """The site writes the three lines itself; its own Prolog goes on."""
    stock = tale.stock
    with tale.chapter("install-agents"):
        lines = lines_of(tale.on_spec("install-agents", "--yes"))
    assert lines == {
        "Prolog": "Prolog=/etc/hpcli/prolog",
        "SchedulerParameters": "SchedulerParameters=bf_interval=20,nohold_on_prolog_fail",
        "RebootProgram": "RebootProgram=/opt/hpcli/lifecycle/reboot",
    }
    assert OWN_PROLOG in stock.sh("controller", f"cat {CONF}")
    stock.edit(put=list(lines.values()))
    stock.reconfigure()
    with tale.chapter("install-agents again"):
        assert lines_of(tale.on_spec("install-agents", "--yes")) == {}
    wait("all agents report", lambda: all_report(tale))
    stock.sh("login", "cd; srun -N4 true", user="alice")
    for node in NODES:
        assert f"on {node}" in stock.sh(node, "tail -n 1 /var/log/slurm/site-prolog.log"), node


def all_report(tale: Tale) -> bool:
    told = subprocess.run(
        ["docker", "exec", tale.stock.container("controller"), "hpcli", "ask", "status"],
        capture_output=True,
        text=True,
        check=False,
    )
    return told.returncode == 0 and set(json.loads(told.stdout)["result"]["nodes"]) == set(NODES)


# ---- the job


def submit(tale: Tale) -> str:
    """Two ranks on two nodes, at least ten steps done."""
    stock = tale.stock
    stock.sh("login", f"mkdir {RUN}; cat >{RUN}/rank; chmod 755 {RUN}/rank", user="alice", stdin=RANK)
    stock.sh("login", f"cat >{RUN}/job", user="alice", stdin=JOB)
    job = stock.ssh("login", "alice", f"sbatch --parsable {RUN}/job").stdout.strip()
    assert job.isdigit()
    wait("the job is at step 10", lambda: steps_done(tale) >= 10)
    return job


def steps_done(tale: Tale) -> int:
    said = tale.stock.sh("login", f"cat {RUN}/part.? 2>/dev/null || :")
    parts = [int(line.split()[0]) for line in said.splitlines() if line]
    return min(parts) if len(parts) == 2 else 0


def job_now(tale: Tale, job: str) -> dict[str, str]:
    words = tale.stock.sh("login", f"scontrol show job -o {job}").split()
    return dict(word.split("=", 1) for word in words if "=" in word)


def slurm_now(tale: Tale, job: str) -> Sequence[str]:
    """All that a repair would change."""
    now = job_now(tale, job)
    nodes = [tale.stock.node(node) for node in NODES]
    return [now["JobState"], now["Restarts"], now["NodeList"], *(f"{one['State']} {one['Reason']}" for one in nodes)]


# ---- observed, then acted upon


def watch(tale: Tale, job: str) -> list[Mapping[str, Any]]:
    """A fault that is only observed: journaled, and nothing in Slurm has changed."""
    stock = tale.stock
    stock.sh("c2", "rm /dev/nvidia1")
    quiet = slurm_now(tale, job)
    assert quiet[:3] == ["RUNNING", "0", "c[1-2]"]
    began = time.monotonic()
    with tale.chapter("observed"):
        wait("it says what it would do", lambda: [one for one in tale.steps("c2") if one["what"] == "would drain"])
    while time.monotonic() - began < WATCHED_SECONDS:
        assert slurm_now(tale, job) == quiet
        time.sleep(0.5)
    (repair,) = tale.person.ask("recovery", "status", "-C", NAME)["repairs"]
    assert (repair["node"], repair["cause"], repair["outcome"]) == ("c2", "gpu.count", "observed"), repair
    # The gate is open too.
    assert stock.sh("login", "cd; srun -w c2 -N1 hostname", user="alice") == "c2\n"
    observed = tale.steps("c2")
    stock.sh("c2", "install -m 666 /dev/null /dev/nvidia1")
    wait("it is over", lambda: [one for one in tale.steps("c2") if one["what"] == "over, nothing was done"])
    assert slurm_now(tale, job) == quiet
    return observed


def heal(tale: Tale, job: str) -> list[Mapping[str, Any]]:
    """The same fault, acted upon; the steps of its repair."""
    stock, told = tale.stock, len(tale.steps("c2"))
    tale.change_spec(lambda spec: spec["recovery"].update(mode="act"))
    with tale.chapter("apply"):
        tale.on_spec("apply", "--yes")
    assert slurm_now(tale, job)[:2] == ["RUNNING", "0"]
    reached, boot = steps_done(tale), stock.node("c2")["BootTime"]
    with tale.chapter("fault to running again"):
        stock.sh("c2", "rm /dev/nvidia1")
        wait("c2 is drained by hpcli", lambda: stock.node("c2")["Reason"].startswith("hpcli:"), 30)
        wait("the job runs again", lambda: runs_elsewhere(tale, job), 120)
    with tale.chapter("and returned"):
        wait("c2 is back", lambda: [one for one in tale.steps("c2")[told:] if one["what"] == "returned"], 180)
    assert stock.node("c2")["BootTime"] != boot
    wait("c2 takes jobs", lambda: stock.node("c2")["State"] == "IDLE")
    finish(tale, job, reached)
    assert stock.sh("login", "cd; srun -w c2 --gres=gpu:2 hostname", user="alice") == "c2\n"
    return tale.steps("c2")[told:]


def thaw(tale: Tale) -> None:
    """Slurm cannot reboot a node whose slurmd is frozen, and 22.05 lifts the drain in the end: its agent reboots it."""
    stock = tale.stock
    with tale.chapter("frozen slurmd to returned"):
        stock.sh("c4", "kill -STOP $(cat /run/slurm/slurmd.pid)")
        wait("c4 is back", lambda: [one for one in tale.steps("c4") if one["what"] == "returned"], 120)
    said = [one["what"] for one in tale.steps("c4")]
    assert said[0] == "found slurmd.alive" and said.index("reboot done") < said.index("rebooted"), said
    wait("c4 takes jobs", lambda: stock.node("c4")["State"] == "IDLE")


def runs_elsewhere(tale: Tale, job: str) -> bool:
    now = job_now(tale, job)
    return now["JobState"] == "RUNNING" and now["Restarts"] == "1" and "c2" not in now["NodeList"]


def finish(tale: Tale, job: str, reached: int) -> None:
    """Every step was done once or, at the cut, twice; the second attempt began where the first one was."""
    last = steps_done(tale) + 20
    tale.stock.sh("login", f"echo {last} >{RUN}/last", user="alice")
    wait("the job completes", lambda: job_now(tale, job)["JobState"] == "COMPLETED")
    total = last * (last + 1) // 2
    assert tale.stock.sh("login", f"cat {RUN}/result") == f"{last} {total}\n{last} {2 * total}\n"
    for rank in (0, 1):
        rows = [line.split() for line in tale.stock.sh("login", f"cat {RUN}/part.{rank}.steps").splitlines()]
        again = [int(step) for attempt, step, _ in rows if attempt == "1"]
        assert reached < again[0] <= max(int(step) for attempt, step, _ in rows if attempt == "0") + 1
        assert [*again] == [*range(again[0], last + 1)]


def same_decisions(observed: list[Mapping[str, Any]], acted: list[Mapping[str, Any]]) -> None:
    """Cause, message, and the steps in their order as far as the reboot; whether that cures it, nobody knew."""
    (opened,) = [one for one in observed if one["what"].startswith("observed ")]
    begun = acted[0]
    assert begun["what"].removeprefix("found ") == opened["what"].removeprefix("observed ")
    assert begun["why"] == opened["why"]
    plan = [one for one in observed if one["what"].startswith("would ")][-1]
    planned = [plan["what"].removeprefix("would "), *plan["why"].partition("; then at most: ")[2].split(", ")]
    done = [one["what"].removesuffix(" done") for one in acted if one["what"].endswith(" done")]
    foreseen = planned[: planned.index("reboot") + 1]
    assert foreseen[0] == "drain" and any(step.startswith("requeue job") for step in foreseen), planned
    assert [step for step in done if step in foreseen] == foreseen, (planned, done)


# ---- the way back


def leave(tale: Tale, before: Tree) -> None:
    stock = tale.stock
    refused = tale.person("cluster", "uninstall", NAME, "--yes", code=8)
    assert "/etc/hpcli/prolog" in refused, refused
    assert stock.sh("c1", "ls /usr/local/bin/hpcli") != ""
    stock.edit(put=[OWN_PROLOG], remove=["RebootProgram"])
    stock.reconfigure()
    with tale.chapter("uninstall"):
        tale.person("cluster", "uninstall", NAME, "--dry-run")
        assert stock.sh("c1", "ls /usr/local/bin/hpcli") != ""
        tale.person("cluster", "uninstall", NAME, "--yes")
    after = stock.tree()
    assert after.without(CONF).against(before.without(CONF)) == ""
    assert after.edited(before) == [
        "-SchedulerParameters=bf_interval=20",
        "+SchedulerParameters=bf_interval=20,nohold_on_prolog_fail",
    ]
    for machine in MACHINES:
        left = stock.sh(machine, "ps -eo args= | grep '/opt/h[p]cli' || :; ls -d /run/hpcli 2>/dev/null || :")
        assert left == "", f"{machine}: {left}"
    assert sorted(stock.sh("login", "cd; srun -N4 hostname", user="alice").split()) == list(NODES)
