"""Clusters on machines that go wrong: what is said, what is left, and that the same command then goes on."""

import itertools
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.faults_site import Site, begin, ended, fault, made, until
from tests.docker.faults_watch import Pings, job_on, jobs_state, submit
from tests.e2e.life import Cli, wait
from tests.e2e.worlds import docker

pytestmark = pytest.mark.docker

SLOW = """printf '#!/bin/bash\n[[ -e /slow ]] && touch /reached\nwhile [[ -e /slow ]]; do sleep 0.1; done
exec /usr/bin/dpkg-query "$@"\n' >/usr/local/sbin/dpkg-query
chmod 755 /usr/local/sbin/dpkg-query; touch /slow"""
"""Root's dpkg-query, which the first step calls, waits: a bootstrap that stays half-way as long as a test needs."""


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[tuple[Site, Cli]]:
    """Machines with nothing of ours; c1 has little room for it."""
    options = {"c1": ("--tmpfs", "/var/lib/hpcli:size=400k,mode=755")}
    yield from made(Site(tmp_path, "h-bare", "172.29.90", ("ctl", "c1", "c2"), options=options))


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Cli]]:
    """A cluster of c1 and c2, c3 beside it."""
    wanted = Site(tmp_path_factory.mktemp("standing"), "h-standing", "172.29.93", ("ctl", "c1", "c2", "c3"))
    for site, cli in made(wanted):
        cli("cluster", "up", "-f", site.write(nodes="c[1-2]"))
        yield site, cli


def untouched(site: Site, *machines: str) -> bool:
    return not any(site.traces(machine) for machine in machines)


def test_whatever_is_wrong_with_the_machines_is_told_at_once_and_nothing_touched(bare: tuple[Site, Cli]) -> None:
    site, cli = bare
    known = site.folder / "known_hosts"
    site.sh("ctl", "rm /etc/sudoers.d/*")
    site.sh("c1", "rm /etc/os-release; printf 'ID=fedora\nVERSION_ID=40\n' >/etc/os-release")
    docker("stop", "--time", "1", site.container("c2"))
    error, seconds = fault(cli, "cluster", "up", "-f", site.write(cpus=512))
    for words in (
        "ctl: found no passwordless sudo",
        "c1: found fedora 40",
        "CPUs, expected 512",
        "c2: host 172.29.90.12: no",
    ):
        assert words in error["message"]
    assert "run the same command again" in error["hint"] and seconds < 20
    assert untouched(site, "ctl", "c1")

    before = known.read_text()
    docker("rm", "--force", site.container("c2"))
    site.start_new("c2")
    fresh = site.sh("c2", "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub") if site.host_key("c2") else ""
    changed, _ = fault(cli, "cluster", "up", "-f", site.write(cpus=512))
    old = before.splitlines()[2].split()[2]
    assert (
        "c2: host 172.29.90.12: its host key has changed" in changed["message"]
        and fresh.split()[1] in changed["message"]
    )
    assert site.fingerprint(old) in changed["message"] and "known_hosts:3" in changed["message"]
    assert known.read_text() == before

    known.write_text("".join(before.splitlines(keepends=True)[:2]))
    unknown, _ = fault(cli, "cluster", "up", "-f", site.write(cpus=512))
    assert "its host key is not known" in unknown["message"] and fresh.split()[1] in unknown["message"]
    assert f"ssh-keyscan -t ed25519 -p 22 172.29.90.12 >> {known}" in unknown["hint"]
    assert known.read_text() == "".join(before.splitlines(keepends=True)[:2])
    assert untouched(site, *site.machines)


def test_a_bootstrap_that_was_broken_off_is_finished_by_the_same_command(bare: tuple[Site, Cli]) -> None:
    """By a full disk, by kill -9 of hpcli, by the network; each on what the one before has left."""
    site, cli = bare
    spec = site.write()
    site.sh("c1", "dd if=/dev/zero of=/var/lib/hpcli/FULL bs=1k count=1000 status=none", fine=True)
    error, _ = fault(cli, "cluster", "up", "-f", spec)
    assert "host c1" in error["subject"] and "No space left on device" in error["message"]
    assert "/etc/hpcli" not in site.traces("c1")
    site.sh("c1", "rm /var/lib/hpcli/FULL")

    site.sh("c2", f"rm -rf /var/lib/hpcli/steps; {SLOW}")
    killed = begin(cli, "cluster", "up", "-f", spec)
    until("the bootstrap is under way", lambda: site.sh("c2", "ls /reached", fine=True))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()

    site.sh("c2", "rm /reached")
    again = begin(cli, "cluster", "up", "-f", spec)
    until("it is under way again", lambda: site.sh("c2", "pgrep --count --full [r]un.sh", fine=True) >= "2")
    docker("network", "disconnect", site.name, site.container("c2"))
    began = time.monotonic()
    code, answer = ended(again)
    took = time.monotonic() - began
    print(f"  {took:.1f} s from the cut to {answer['errors'][0]['message']}")
    assert code == 4 and "c2" in answer["errors"][0]["subject"] and took < 45
    docker("network", "connect", "--ip", site.address("c2"), site.name, site.container("c2"))
    site.sh("c2", "rm /slow")
    assert cli("cluster", "up", "-f", spec)["nodes"] == 2
    assert cli("cluster", "plan", "-f", spec)["changes"] == []

    docker("stop", "--time", "1", site.container("c2"))
    error, seconds = fault(cli, "cluster", "down", site.name, "--yes", code=4)
    assert "c2" in error["subject"] and "run the same again" in error["hint"] and seconds < 30
    assert site.gone_from("ctl") and site.gone_from("c1")
    docker("start", site.container("c2"))
    until("c2 answers", lambda: site.sh("c2", "pgrep sshd", fine=True))
    cli("cluster", "down", site.name, "--yes")
    assert site.gone_from("c2") and not (cli.home / "hpcli" / "clusters" / site.name).exists()


def test_a_configuration_that_slurmctld_refuses_never_comes_into_service(standing: tuple[Site, Cli]) -> None:
    site, cli = standing
    before = site.sh("ctl", "cat /etc/slurm/slurm.conf")
    with Pings(site) as pings:
        for line, words in (
            ("{SelectType: select/nonsense}", "Can't find plugin for select/nonsense"),
            ("{Nonsense: 1}", "Nonsense"),
        ):
            error, _ = fault(cli, "cluster", "apply", "-f", site.write(f"slurm_conf: {line}\n", "c[1-2]"), "--yes")
            assert (
                error["subject"] == "slurmctld" and words in error["message"] and "nothing was touched" in error["hint"]
            )
    print(f"  {pings}")
    assert not pings.down and pings.up > 10
    assert site.sh("ctl", "cat /etc/slurm/slurm.conf") == before


def test_one_that_passes_the_trial_and_fails_for_real_is_taken_back(standing: tuple[Site, Cli]) -> None:
    """The trial runs no submit plugins: the real slurmctld is the first to look for this one."""
    site, cli = standing
    job = submit(site, "c1")
    before = site.sh("ctl", "cat /etc/slurm/slurm.conf")
    with Pings(site) as pings:
        bad = site.write("slurm_conf: {JobSubmitPlugins: nonsense}\n", "c[1-2]")
        error, _ = fault(cli, "cluster", "apply", "-f", bad, "--yes")
    print(f"  {pings}")
    assert "job_submit" in error["message"] and "old configuration is back in service" in error["hint"]
    assert pings.gap < 30 and site.sh("ctl", "cat /etc/slurm/slurm.conf") == before
    assert jobs_state(site, job).startswith("RUNNING 0")
    assert cli("cluster", "plan", "-f", site.write(nodes="c[1-2]"))["changes"] == []
    site.sh("ctl", f"scancel {job}")


def test_an_apply_killed_anywhere_is_finished_by_the_next(standing: tuple[Site, Cli]) -> None:
    site, cli = standing
    job = submit(site, "c1")
    born = job_on(site)
    goals = itertools.cycle([("{MessageTimeout: 41}", "c[1-3]"), ("{MessageTimeout: 42}", "c[1-2]")])
    spec, killed = "", 0
    for delay in itertools.cycle((0.9, 1.3, 1.7, 2.0, 2.2, 2.5, 2.8, 3.2, 3.8)):
        if not spec:
            line, nodes = next(goals)
            spec = site.write(f"slurm_conf: {line}\n", nodes)
        apply = begin(cli, "cluster", "apply", "-f", spec, "--yes")
        try:
            # A point in time is what is wanted here: whatever the apply is doing then.
            apply.communicate(timeout=delay)
            assert apply.returncode == 0
            spec = ""
        except subprocess.TimeoutExpired:
            apply.kill()
            apply.communicate()
            killed += 1
        if killed == 9:
            break
    cli("cluster", "apply", "-f", spec, "--yes")
    print(f"  {killed} kills; job {job}: {jobs_state(site, job)}")
    assert cli("cluster", "plan", "-f", spec)["changes"] == [] and cli("cluster", "drift", "-f", spec) == []
    assert jobs_state(site, job).startswith("RUNNING 0") and job_on(site) == born
    cli("cluster", "apply", "-f", site.write(nodes="c[1-2]"), "--yes")
    site.sh("ctl", f"scancel {job}")


def test_of_two_applies_one_works_and_a_saved_plan_grows_stale(standing: tuple[Site, Cli]) -> None:
    site, cli = standing
    saved = site.folder / "plan.json"
    cli("cluster", "plan", "-f", site.write("slurm_conf: {MessageTimeout: 51}\n", "c[1-2]"), "-o", str(saved))
    assert saved.stat().st_mode & 0o777 == 0o600
    spec = site.write("slurm_conf: {MessageTimeout: 52}\n", "c[1-2]")
    first = begin(cli, "cluster", "apply", "-f", spec, "--yes")
    until("it holds the lock", lambda: site.sh("ctl", "pgrep --full [l]ifecycle/lock", fine=True), 30)
    error, _ = fault(cli, "cluster", "apply", "-f", spec, "--yes", code=8)
    assert f"pid {first.pid}" in error["message"] and "wait for the other apply" in error["hint"]
    assert ended(first)[0] == 0
    error, _ = fault(cli, "cluster", "apply", "--plan", str(saved), "--yes", code=8)
    assert "changed since the plan was made" in error["message"] and "make a new plan" in error["hint"]


def test_machines_that_start_again_come_back_by_themselves(standing: tuple[Site, Cli]) -> None:
    """An unexpected start under a job costs its run and sets the node down (ReturnToService=1): as Slurm has it."""
    site, cli = standing
    job = submit(site, "c1")
    restarted(site, "c1")
    began = time.monotonic()
    wait("Slurm has noticed", lambda: jobs_state(site, job).split()[1] == "1", 60)
    print(f"  node's machine killed under a job: requeued after {time.monotonic() - began:.1f} s")
    assert "unexpectedly rebooted" in site.sh("ctl", "sinfo --list-reasons --noheader --format=%80E")
    site.sh("ctl", "scontrol update NodeName=c1 State=RESUME; scancel " + job)
    wait("whole again", lambda: whole(site, cli), 60)

    job = submit(site, "c1")
    born = job_on(site)
    docker("restart", "--time", "30", site.container("ctl"))
    began = time.monotonic()
    wait("whole again", lambda: whole(site, cli), 60)
    print(f"  controller's machine restarted: whole after {time.monotonic() - began:.1f} s")
    assert jobs_state(site, job).startswith("RUNNING 0") and job_on(site) == born

    before = slurmd_start(site, "c2")
    restarted(site, "c2")
    began = time.monotonic()
    wait("its slurmd is back", lambda: slurmd_start(site, "c2") != before, 60)
    site.sh("ctl", "scontrol update NodeName=c2 State=RESUME", fine=True)
    wait("whole again", lambda: whole(site, cli), 60)
    print(f"  idle node's machine killed: whole after {time.monotonic() - began:.1f} s")
    site.sh("ctl", f"scancel {job}")


def restarted(site: Site, machine: str) -> None:
    """As by a power cut."""
    docker("kill", site.container(machine))
    docker("start", site.container(machine))


def slurmd_start(site: Site, node: str) -> str:
    return site.sh("ctl", f"scontrol show node {node} | grep -o 'SlurmdStartTime=[^ ]*'", fine=True)


def whole(site: Site, cli: Cli) -> bool:
    found = cli("cluster", "status", site.name, code=None)["data"]
    return not (found["errors"] or found["dead"] or found["silent"] or found["out_of_service"])
