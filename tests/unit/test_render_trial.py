"""A trial: a real slurmctld takes what is right and names what is wrong, and talks to nothing of the cluster."""

import dataclasses
import getpass
import shutil
import socket
from collections.abc import Mapping

import pytest
from slurm_trial import PATH, Said, installed_version, listen_here, short_folder, write
from spec_site import EXAMPLES, SITES, machines_site

from hpcli.errors import HpcliError
from hpcli.render.slurm import render_slurm
from hpcli.render.trial import trial_files
from hpcli.spec.load import parse_spec

INSTALLED = installed_version() if shutil.which("slurmctld", path=PATH) else None
MACHINES = next(example for example in EXAMPLES if example.name == "machines")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def short_host_name() -> str:
    return socket.gethostname().split(".")[0]


def lines_of(slurm_conf: str) -> set[str]:
    files = trial_files({"slurm.conf": slurm_conf}, "/t", 7000, "here", "127.0.0.1")
    return set(files["slurm.conf"].splitlines()[1:])


NOTHING = lines_of("")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("NodeName=c[1-2] NodeAddr=10.0.0.[1-2] Port=6818 CPUs=2", "NodeName=c[1-2] CPUs=2 NodeAddr=127.0.0.1 Port=1"),
        ("nodename = c1 nodeaddr = db port=1-2 CPUs=2", "nodename = c1 CPUs=2 NodeAddr=127.0.0.1 Port=1"),
        ("NodeName=c1 \\\n  NodeAddr=10.0.0.1", "NodeName=c1 NodeAddr=127.0.0.1 Port=1"),
        ("NodeName=DEFAULT Port=17 CPUs=2", "NodeName=DEFAULT CPUs=2"),
        ("PartitionName=a Nodes=c1", "PartitionName=a Nodes=c1"),
        ("SlurmctldDebug=quiet", "SlurmctldDebug=info"),
        ("SlurmctldDebug=loud", "SlurmctldDebug=loud"),
        ("MessageTimeout=30 SlurmctldPort=6817", "MessageTimeout=30"),
        ("MessageTimeout=30 # Prolog=/x", "MessageTimeout=30"),
        ("PriorityWeightTRES=CPU=1,GRES/gpu=2,Mem=3", "PriorityWeightTRES=CPU=1,Mem=3"),
        ("Nonsense=1 and more", "Nonsense=1 and more"),
    ],
)
def test_what_stays(given, kept):
    assert lines_of(given) - NOTHING == {kept}


@pytest.mark.parametrize(
    "given",
    [
        "Prolog=/etc/slurm/prolog",
        "epilog = /etc/slurm/epilog",
        "RebootProgram=/x",
        'HealthCheckProgram="/x y"',
        "AccountingStorageEnforce=limits",
        "AccountingStorageType=accounting_storage/slurmdbd",
        "AccountingStoreFlags=job_comment",
        "AccountingStorageTRES=gres/gpu",
        "JobCompType=jobcomp/filetxt",
        "SlurmctldHost=other(10.0.0.1)",
        "SlurmctldPort=6817 StateSaveLocation=/var",
        "MailProg=/usr/bin/mail",
        "PriorityWeightTRES=gres/gpu=2",
    ],
)
def test_what_goes(given):
    assert lines_of(given) == NOTHING


def test_another_file_could_bring_anything():
    with pytest.raises(HpcliError, match=r"found 'Include /etc/more\.conf', expected no other files"):
        lines_of("Include /etc/more.conf")


def test_the_database_password_is_not_in_a_trial():
    files = MACHINES.render()
    assert "StoragePass" in files["slurmdbd.conf"]
    made = trial_files(files, "/t", 7000, "here", "127.0.0.1")
    assert set(made) == set(files) - {"slurmdbd.conf"}
    assert not any("pass" in text.lower() for text in made.values())


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_no_address_or_folder_of_the_cluster_is_left(example):
    spec = example.spec()
    site = SITES[example.site](spec, example.version)
    made = trial_files(example.render(), "/t", 7000, "here", "127.0.0.1")["slurm.conf"]
    addresses = {node.address for node in site.nodes.values()} | {site.controller.address} - {"127.0.0.1"}
    words = {word for word in made.replace("=", " ").split() if "[" not in word}
    assert not {address for address in addresses if address[0].isdigit() and address != "127.0.0.1"} & words
    assert not any(path in made for path in (site.state, site.slurmctld_log, site.slurmctld_pid, site.prolog))


TREE = """topology: {plugin: tree, switches: [{name: a, nodes: "c[1-2]"}, {name: b, nodes: "c[3-4]"},
{name: s, switches: "a,b"}]}"""


def tried(text: str, more: Mapping[str, str]) -> Said:
    """Render a spec for the installed Slurm as for real machines, without cgroups; add lines to its files; try them."""
    spec = parse_spec(f"name: t\ncompute: [{{name: n, count: 4, cpus: 2}}]\n{text}", "cluster.yaml")
    site = dataclasses.replace(machines_site(spec, installed_version()), user=getpass.getuser(), cgroup=False)
    files = render_slurm(spec, site)
    spoilt = {name: text + more.get(name, "") for name, text in files.items()}
    with short_folder() as folder:
        write(trial_files(spoilt, str(folder), free_port(), short_host_name(), "127.0.0.1"), folder)
        return listen_here(folder)


@pytest.mark.slurm
@pytest.mark.skipif(INSTALLED is None, reason="skipped: no slurmctld")
class TestRealSlurmctld:
    def test_what_is_right_comes_up(self):
        said = tried(f"{TREE}\nslurm_conf: {{MessageTimeout: 30, SlurmctldDebug: error}}", {})
        assert said.up, said.text

    @pytest.mark.parametrize("example", [one for one in EXAMPLES if one.version == INSTALLED], ids=str)
    def test_every_example_comes_up(self, example):
        spec = example.spec()
        site = dataclasses.replace(SITES[example.site](spec, example.version), user=getpass.getuser())
        with short_folder() as folder:
            made = trial_files(render_slurm(spec, site), str(folder), free_port(), short_host_name(), "127.0.0.1")
            write(made, folder)
            said = listen_here(folder)
        assert said.up, said.text
        assert said.complaints == []

    @pytest.mark.parametrize(
        ("text", "more", "words"),
        [
            ("slurm_conf: {MesageTimeout: 30}", {}, "MesageTimeout"),
            ("slurm_conf: {SelectType: select/guess}", {}, "select/guess"),
            ("slurm_conf: {SchedulerType: sched/none}", {}, "sched/none"),
            ("slurm_conf: {MessageTimeout: soon}", {}, "MessageTimeout"),
            ("", {"slurm.conf": "PartitionName=more Nodes=c[1-9]\n"}, "c5"),
            ("", {"slurm.conf": "NodeName=c2 CPUs=1\n"}, "Duplicated NodeName c2"),
            ("", {"slurm.conf": "TopologyPlugin=topology/cube\n"}, "topology/cube"),
            (TREE, {"topology.conf": "SwitchName=a Nodes=c[3-4]\n"}, "Switch (a) has already been defined"),
            (TREE, {"topology.conf": "SwitchName=x Switches=q\n"}, "Switch configuration x has invalid child (q)"),
        ],
    )
    def test_what_is_wrong_is_named(self, text, more, words):
        said = tried(text, more)
        assert not said.up
        assert any(words in line for line in said.complaints), said.text
