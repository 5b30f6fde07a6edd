"""The images, and what the lifecycle scripts make of containers: on preloaded ones, on bare ones, and under faults."""

import base64
import subprocess
import time
from collections.abc import Iterator

import pytest
from conftest import install
from lab import (
    LIFECYCLE,
    ROOT,
    SERIES,
    Container,
    Lab,
    address_of,
    call,
    containers,
    image,
    must,
    network,
    pack,
    push,
    text,
    until,
)

pytestmark = pytest.mark.docker

CPU_SECONDS = 1.5
"""What run.sh may cost on a preloaded machine: 16 of them share 2 cores."""


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("stage", ["machine", "slurm", "stock"])
def test_an_image_holds_nothing_that_tells_machines_apart(engine: None, series: str, stage: str) -> None:
    own = "/etc/ssh/ssh_host_* /etc/munge/munge.key /var/lib/hpcli/instance_id /usr/sbin/policy-rc.d /var/lib/m*/mysql"
    script = f"for f in {own}; do test ! -e $f || echo $f; done; cat /etc/machine-id"
    assert must("docker", "run", "--rm", image(series, stage), "bash", "-c", script) == ""


def test_an_image_is_not_built_twice(engine: None) -> None:
    before = must("docker", "image", "inspect", "--format", "{{.Id}}", image("22.05"))
    assert must("docker", "image", "inspect", "--format", "{{.Id}}", image("22.05")) == before


def test_a_series_that_is_none_is_refused() -> None:
    done = call(str(ROOT / "docker-slurm" / "build.sh"), "23.02")
    assert (done.returncode, done.stderr) == (1, "build: found the series 23.02, expected 22.05, 24.11 or 26.05\n")


def test_a_machine_lets_its_administrator_in_and_has_its_own_identity(net: str, tmp_path) -> None:
    must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key"))
    public = (tmp_path / "key.pub").read_text()
    option = ("--env", f"HPCLI_AUTHORIZED_KEY={public}")
    with containers(image("22.05", "machine"), ["m1", "m2"], net, *option) as machines:
        keys = [
            until(lambda one=one: one.call("cat", "/etc/ssh/ssh_host_ed25519_key.pub").stdout)
            for one in machines.values()
        ]
        assert keys[0].split()[1] != keys[1].split()[1]
        ids = {one.run("cat", "/etc/machine-id") for one in machines.values()}
        assert len(ids) == 2
        (tmp_path / "known").write_text(f"{machines['m1'].address} {keys[0]}")
        options = ("-o", f"UserKnownHostsFile={tmp_path / 'known'}", "-o", "BatchMode=yes", "-i", str(tmp_path / "key"))
        argv = ("ssh", "-F", "none", *options, f"admin@{machines['m1'].address}", "sudo -n id -u; hostname -s")
        assert until(lambda: (done := call(*argv)).returncode == 0 and done.stdout) == "0\nm1\n"


def test_the_scripts_make_a_cluster(standing: Lab) -> None:
    login = standing.machines["login"]
    until(lambda: login.sh("sinfo -h -o '%D %T'").strip() == "2 idle")
    hosts = login.sh("cd /tmp; srun -N2 --gres=gpu:1 hostname", user="alice").split()
    assert sorted(hosts) == ["c1", "c2"]
    assert login.sh("getent hosts elsewhere").split()[0] == "192.0.2.7"
    until(lambda: "alice|physics|COMPLETED" in login.sh("sacct -aXnPo user,account,state"))


def test_a_second_run_finds_everything_the_same_and_is_cheap(standing: Lab) -> None:
    for machine in standing.machines.values():
        assert set(machine.bootstrap().values()) == {"same"}
        done = machine.call("bash", "-c", f"TIMEFORMAT='%U %S'; time {LIFECYCLE}/run.sh --again >/dev/null")
        seconds = sum(map(float, done.stderr.split()[-2:]))
        assert done.returncode == 0 and seconds < CPU_SECONDS, done.stderr


def test_accounts_are_added_once(standing: Lab) -> None:
    controller = standing.machines["ctl"]
    before = controller.sh("sacctmgr -nP list assoc; sacctmgr -nP list txn format=action,where")
    controller.lifecycle("accounts")
    assert controller.sh("sacctmgr -nP list assoc; sacctmgr -nP list txn format=action,where") == before
    assert "lab|physics|alice" in before


def test_a_job_outlives_slurmd(standing: Lab) -> None:
    login, node = standing.machines["login"], standing.machines["c1"]
    job = login.sh("cd /tmp; sbatch --parsable -w c1 -o /dev/null --wrap 'sleep 600'", user="alice").strip()
    until(lambda: login.sh(f"squeue -h -j {job} -o %T").strip() == "RUNNING")
    old = node.lifecycle("service", "status", "slurmd").split()[2]
    node.lifecycle("service", "restart", "slurmd")
    assert node.lifecycle("service", "status", "slurmd").split()[2] != old
    until(lambda: login.sh("sinfo -h -n c1 -o %T").strip() in ("mixed", "allocated"))
    assert login.sh(f"squeue -h -j {job} -o %T").strip() == "RUNNING"
    assert node.sh("pgrep -fc '[s]leep 600'").strip() == "1"
    login.run("scancel", job)
    until(lambda: login.sh(f"squeue -h -j {job} -o %T 2>/dev/null || true").strip() == "")


def test_the_gate_has_its_folder_and_closes(standing: Lab) -> None:
    login, node = standing.machines["login"], standing.machines["c1"]
    node.sh("echo 'fail xid79' >/run/hpcli/c1/verdict")
    job = login.sh("cd /tmp; sbatch --parsable -w c1 -o /dev/null --wrap true", user="alice").strip()
    until(lambda: "drain" in login.sh("sinfo -h -n c1 -o %T"))
    login.run("scancel", job)
    node.sh("rm /run/hpcli/c1/verdict")
    standing.machines["ctl"].run("scontrol", "update", "nodename=c1", "state=resume")
    until(lambda: login.sh("sinfo -h -n c1 -o %T").strip() == "idle")


def test_a_kept_service_is_started_again_and_stops_for_good(standing: Lab) -> None:
    node = standing.machines["c1"]
    sleeper = "pgrep -f '^/bin/sleep 1000000'"
    first = node.sh(sleeper)
    node.sh(f"kill -9 {first}")
    assert until(lambda: node.call("bash", "-c", sleeper).stdout) != first
    node.lifecycle("service", "stop", "hpcli-agent")
    assert node.call("bash", "-c", sleeper).stdout == ""
    assert node.call(f"{LIFECYCLE}/service", "status", "hpcli-agent").returncode == 1
    node.lifecycle("service", "start", "hpcli-agent")
    assert node.lifecycle("service", "status", "hpcli-agent").startswith("hpcli-agent running ")


def test_a_pid_that_somebody_else_got_is_not_killed(standing: Lab) -> None:
    node = standing.machines["c2"]
    node.lifecycle("service", "stop", "hpcli-agent")
    other = node.sh("setsid sleep 7777 >/dev/null 2>&1 </dev/null & echo $!").strip()
    node.sh(f"echo {other} 12345 >/run/hpcli/services/hpcli-agent")
    node.lifecycle("service", "stop", "hpcli-agent")
    node.sh(f"kill -0 {other} && kill {other}")
    node.lifecycle("service", "start", "hpcli-agent")


def test_a_service_that_cannot_start_says_why(standing: Lab) -> None:
    controller = standing.machines["ctl"]
    controller.lifecycle("service", "stop", "slurmctld")
    controller.sh("cp /etc/slurm/slurm.conf /tmp/good; echo NoSuchParameter=1 >>/etc/slurm/slurm.conf")
    done = controller.call(f"{LIFECYCLE}/service", "start", "slurmctld")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    controller.sh("cp /tmp/good /etc/slurm/slurm.conf")
    controller.lifecycle("service", "start", "slurmctld")
    assert done.stderr.startswith("service slurmctld: ended at its start: ")
    assert "NoSuchParameter" in done.stderr


def test_slurmctld_reads_its_configuration_again(standing: Lab) -> None:
    controller = standing.machines["ctl"]
    controller.sh("sed -i '/^MessageTimeout/d' /etc/slurm/slurm.conf; echo MessageTimeout=77 >>/etc/slurm/slurm.conf")
    controller.lifecycle("service", "reload", "slurmctld")
    until(lambda: "= 77 sec" in controller.sh("scontrol show config | grep MessageTimeout"))
    assert controller.lifecycle("service", "status", "slurmctld").startswith("slurmctld running ")
    controller.lifecycle("service", "restart", "slurmctld")


def test_a_throw_away_slurmctld_judges_and_leaves_nothing(standing: Lab) -> None:
    controller = standing.machines["ctl"]
    running = controller.lifecycle("service", "status", "slurmctld")
    trial = (
        "rm -rf /var/lib/hpcli/trial; mkdir -p /var/lib/hpcli/trial; cd /var/lib/hpcli/trial; "
        "cp /etc/slurm/cgroup.conf .; "
        "sed -e 's,/var/lib/slurm/slurmctld,/var/lib/hpcli/trial/state,; s,/run/slurm,/var/lib/hpcli/trial,; "
        "s,/var/log/slurm,/var/lib/hpcli/trial,; /^Accounting/d; /^Prolog/d; /^Epilog/d' "
        "/etc/slurm/slurm.conf >slurm.conf; echo SlurmctldPort=16817 >>slurm.conf; "
    )
    controller.sh(f"{trial} {LIFECYCLE}/try-slurm /var/lib/hpcli/trial")
    bad = controller.call(
        "bash", "-c", f"{trial} echo SelectType=select/nonsense >>slurm.conf; {LIFECYCLE}/try-slurm $PWD"
    )
    assert bad.returncode == 1 and "select" in bad.stdout
    assert controller.call("test", "-e", "/var/lib/hpcli/trial").returncode == 1
    assert controller.call("pgrep", "-f", "hpcli/trial").stdout == ""
    assert controller.lifecycle("service", "status", "slurmctld") == running


def test_state_is_kept_three_times_and_restored(standing: Lab) -> None:
    controller = standing.machines["ctl"]
    controller.lifecycle("service", "stop", "slurmctld")
    controller.sh("echo first >/var/lib/slurm/slurmctld/mark")
    copies = [controller.lifecycle("state", "keep").strip()]
    controller.sh("echo second >/var/lib/slurm/slurmctld/mark")
    controller.lifecycle("state", "restore", copies[0])
    assert controller.sh("cat /var/lib/slurm/slurmctld/mark") == "first\n"
    copies += [controller.lifecycle("state", "keep").strip() for _ in range(3)]
    assert controller.sh("ls -d /var/lib/slurm/slurmctld.keep-*").split() == copies[1:]
    controller.lifecycle("service", "start", "slurmctld")
    done = controller.call(f"{LIFECYCLE}/state", "restore", copies[1])
    assert (done.returncode, done.stderr) == (1, "state: found slurmctld running, expected it to be stopped\n")


def test_one_apply_at_a_time(standing: Lab) -> None:
    controller = standing.machines["ctl"]
    argv = ("docker", "exec", "-i", controller.name, f"{LIFECYCLE}/lock", "ann since noon")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdin
        assert holder.stdout.readline() == b"locked\n"
        second = controller.call(f"{LIFECYCLE}/lock", "bob")
        assert (second.returncode, second.stdout, second.stderr) == (3, "", "lock: held by ann since noon\n")
        holder.stdin.close()
        assert holder.wait(10) == 0
    assert controller.call(f"{LIFECYCLE}/lock", "bob").returncode == 0


def test_what_was_written_is_read_back(standing: Lab) -> None:
    node = standing.machines["c1"]
    hostile = "tab\there, no newline at the end: $HOME `id` '\"\\ \u00e9"
    node.write({"/etc/slurm/prolog.d/50-it's": text(hostile, 0o750, "slurm")})
    listed = node.run(f"{LIFECYCLE}/files", "read", stdin=b"/etc/slurm/prolog.d/50-it's\n/nowhere\n/etc\n")
    path, mode, owner, group, encoded = listed.rstrip("\n").split("\t")
    assert (path, mode, owner, group) == ("/etc/slurm/prolog.d/50-it's", "750", "slurm", "slurm")
    assert base64.b64decode(encoded).decode() == hostile
    node.run(f"{LIFECYCLE}/files", "remove", stdin=b"/etc/slurm/prolog.d/50-it's\n")
    assert node.run(f"{LIFECYCLE}/files", "read", stdin=b"/etc/slurm/prolog.d/50-it's\n") == ""


def test_a_restarted_machine_comes_back_by_itself(standing: Lab) -> None:
    login, node = standing.machines["login"], standing.machines["c2"]
    boot, instance = (node.run("cat", path) for path in ("/run/hpcli/boot_id", "/var/lib/hpcli/instance_id"))
    node.call(f"{LIFECYCLE}/reboot")
    until(lambda: (now := node.call("cat", "/run/hpcli/boot_id")).returncode == 0 and now.stdout != boot)
    assert node.run("cat", "/var/lib/hpcli/instance_id") == instance
    until(lambda: node.call(f"{LIFECYCLE}/service", "status", "all").returncode == 0)
    node.sh("test -e /dev/nvidia1; getent hosts elsewhere")
    # slurmd said that its machine started: slurmctld takes it back when told.
    until(lambda: login.sh("sinfo -h -n c2 -o %T").strip() in ("down", "idle"))
    standing.machines["ctl"].call("scontrol", "update", "nodename=c2", "state=resume")
    until(lambda: login.sh("sinfo -h -n c2 -o %T").strip() == "idle")


def test_a_retired_machine_has_nothing_of_ours(standing: Lab) -> None:
    node = standing.machines["c2"]
    node.lifecycle("retire")
    for path in ("/opt/hpcli", "/etc/hpcli", "/etc/slurm/slurm.conf", "/usr/local/bin/hpcli", "/var/lib/slurm/slurmd"):
        assert node.call("test", "-e", path).returncode == 1, path
    assert "elsewhere" not in node.run("cat", "/etc/hosts")
    assert node.call("pgrep", "-x", "slurmd").stdout == ""
    # And can be set up again.
    assert "failed" not in install(standing, "c2").values()


@pytest.fixture
def bare(net: str) -> Iterator[Lab]:
    with containers(image("22.05", "machine"), ["c1"], net) as machines:
        push(machines["c1"])
        yield Lab("22.05", machines)


def failure(machine: Container, *argv: str) -> str:
    done = machine.call(f"{LIFECYCLE}/run.sh", *argv)
    assert done.returncode == 1, done.stdout
    assert " failed " in done.stdout.splitlines()[-1]
    return done.stderr.splitlines()[-1]


def test_a_bare_machine_goes_on_after_every_fault(net: str) -> None:
    """No network, packages offline but incomplete, a lock held, killed in the middle: the next run finishes the job."""
    with containers(image("22.05", "machine"), ["c1"], net) as machines:
        node, lab = machines["c1"], Lab("22.05", machines)
        push(node)
        node.write(lab.files("c1"))
        assert node.sh("stat -c '%a %U' /etc/munge/munge.key") == "600 root\n"
        must("docker", "network", "disconnect", net, node.name)
        node.sh(f"HPCLI_PAUSE=0 {LIFECYCLE}/run.sh >/tmp/out 2>&1 || true")
        said = node.run("tail", "-n", "1", "/tmp/out")
        assert (
            said.startswith("lifecycle: common/10-packages: ") and "(log: /var/log/hpcli/lifecycle/common-10-" in said
        )
        must("docker", "network", "connect", net, node.name)
        _hold_apt_lock(node)
        _kill_in_the_middle(node)
        done = node.call(f"{LIFECYCLE}/run.sh")
        assert done.returncode == 0, done.stderr
        assert "the run before this one ended in common/10-packages" in done.stderr
        assert node.sh("stat -c '%a %U' /etc/munge/munge.key") == "600 munge\n"
        assert node.call("pgrep", "-x", "munged|slurmd").stdout == ""
        assert node.call("test", "-e", "/usr/sbin/policy-rc.d").returncode == 1
        node.lifecycle("service", "start", "munge")
        node.sh("munge -n | unmunge >/dev/null; hpcli --version")


def _hold_apt_lock(node: Container) -> None:
    """Another apt at work for two seconds is waited for."""
    node.sh(
        "mkdir -p /var/lib/apt/lists; setsid flock /var/lib/dpkg/lock-frontend sleep 2 >/dev/null 2>&1 </dev/null &"
    )


def _kill_in_the_middle(node: Container) -> None:
    """Power cut: everything of the run is gone at once, dpkg too."""
    node.sh(f"setsid {LIFECYCLE}/run.sh >/tmp/out 2>&1 </dev/null &")
    until(lambda: node.call("pgrep", "-x", "dpkg").stdout, limit=120)
    must("docker", "restart", "--time", "0", node.name)


def test_a_name_or_number_that_is_taken_is_an_error_before_anything_changes(net: str) -> None:
    with containers(image("22.05"), ["c1"], net) as machines:
        node, lab = machines["c1"], Lab("22.05", machines)
        push(node)
        node.write(lab.files("c1"))
        node.run("useradd", "--uid", "5001", "mallory")
        last = failure(node)
        assert last.startswith("lifecycle: common/30-users: user alice: found its number 5001 taken by mallory here,")
        assert node.call("getent", "group", "lab").stdout == ""
        node.run("usermod", "--uid", "6001", "mallory")
        done = node.bootstrap()
        assert (done["common/10-packages"], done["common/30-users"]) == ("same", "ok")


def test_another_slurm_than_wanted_is_refused(net: str) -> None:
    with containers(image("22.05"), ["c1"], net) as machines:
        lab = Lab("24.11", machines)
        push(machines["c1"])
        machines["c1"].write(lab.files("c1"))
        words = "found Slurm 22.05.8 in the packages of Debian GNU/Linux 12 (bookworm), expected 24.11"
        assert words in failure(machines["c1"])


def test_a_full_disk_changes_no_file_and_says_so(net: str) -> None:
    with containers(image("22.05"), ["c1"], net, "--tmpfs", "/etc/slurm:size=64k") as machines:
        node, lab = machines["c1"], Lab("22.05", machines)
        push(node)
        node.write(lab.files("c1"))
        before = node.sh("cat /etc/slurm/* /etc/hpcli/node.conf | sha256sum; ls -A /etc/slurm")
        members = {
            "manifest.tsv": b"/etc/hpcli/node.conf\t644\troot\troot\t0\n/etc/slurm/slurm.conf\t644\troot\troot\t1\n",
            "0": b"changed\n",
            "1": b"x" * 100_000,
        }
        node.put("/tmp/sent", pack({"files.tar": pack(members)}))
        done = node.call(f"{LIFECYCLE}/files", "write", "/tmp/sent/files.tar")
        assert (done.returncode, done.stderr) == (1, "files: /etc/slurm/slurm.conf: No space left on device\n")
        assert node.sh("cat /etc/slurm/* /etc/hpcli/node.conf | sha256sum; ls -A /etc/slurm") == before


def test_a_machine_without_a_network_is_set_up_from_a_folder(engine: None, net: str, tmp_path) -> None:
    """A connected machine of the same release collects; one that has no network at all is made from that."""
    with containers(
        image("22.05", "machine"), ["collector"], net, "--volume", f"{tmp_path}:/media/packages"
    ) as machines:
        push(machines["collector"])
        machines["collector"].lifecycle("collect", "/media/packages", "/opt/hpcli/code/requirements.txt")
    with (
        network(f"{net}-off") as off,
        containers(image("22.05", "machine"), ["c1"], off, "--volume", f"{tmp_path}:/media/packages:ro") as machines,
    ):
        node = machines["c1"]
        must("docker", "network", "disconnect", off, node.name)
        push(node)
        node.write(Lab("22.05", machines).files("c1"))
        began = time.monotonic()
        assert set(node.bootstrap("--offline", "/media/packages").values()) == {"ok"}
        print(f"bare and offline: {time.monotonic() - began:.1f} s")
        node.sh("hpcli --version; test ! -e /usr/sbin/slurmctld")


def test_three_bare_machines_become_a_cluster(net: str) -> None:
    with containers(image("24.11", "machine"), ["ctl", "login", "c1"], net) as machines:
        lab = Lab("24.11", machines)
        for name in machines:
            began = time.monotonic()
            assert "failed" not in install(lab, name).values()
            print(f"bare {name}: {time.monotonic() - began:.1f} s")
        for service in ("munge", "mariadb", "slurmdbd"):
            machines["ctl"].lifecycle("service", "start", service)
        machines["ctl"].lifecycle("accounts")
        for machine in machines.values():
            machine.lifecycle("service", "start", "all")
        until(lambda: machines["login"].sh("sinfo -h -o '%D %T'").strip() == "1 idle")
        assert address_of(machines["c1"].name) == machines["c1"].address
        assert machines["login"].sh("cd /tmp; srun hostname", user="alice") == "c1\n"
