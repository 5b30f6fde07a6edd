"""hpcli cluster adopt, with a real shell, over programs that repeat what real ones once said."""

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml

from hpcli.domain.adoption_text import Reach
from hpcli.errors import HpcliError, NotFound, Unreachable
from hpcli.services.adopt import Adoption, Wanted, adopt, look
from hpcli.spec.load import load_spec
from hpcli.transport.process import LocalTransport

Run = Callable[..., "subprocess.CompletedProcess[str]"]
CASES = Path(__file__).parents[1] / "cases" / "adopt"

SCONTROL = """#!/bin/sh
[ -e {folder}/down ] && {{ echo 'slurm_load_ctl_conf error: Unable to contact slurm controller' >&2; exit 1; }}
echo "$SLURM_CONF" >{folder}/conf; echo call >>{folder}/calls
case "$*" in
    *config*) cat {folder}/config.txt ;;
    *node*) cat {folder}/nodes.txt ;;
esac
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a scontrol in bin, what it says, and a Prolog."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "scontrol"
    program.write_text(SCONTROL.format(folder=tmp_path))
    program.chmod(0o755)
    (tmp_path / "config.txt").write_text((CASES / "24.11" / "stock.config.txt").read_text())
    (tmp_path / "nodes.txt").write_text((CASES / "24.11" / "stock.nodes.txt").read_text())
    return tmp_path


def on(site: Path) -> dict[str, str]:
    return {"PATH": f"{site / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(Path.cwd())}


def says(site: Path, changes: Mapping[str, str]) -> None:
    for name in ("config.txt", "nodes.txt"):
        text = (site / name).read_text()
        for old, new in changes.items():
            text = text.replace(old, new)
        (site / name).write_text(text)


async def read(site: Path, **wanted: object) -> Adoption:
    return await adopt(LocalTransport(), Wanted(programs=str(site / "bin"), **wanted))  # type: ignore[arg-type]


async def test_all_is_read_in_one_round_trip(site: Path) -> None:
    runs: list[tuple[str, ...]] = []

    class Counted(LocalTransport):
        async def run(self, argv: object, **rest: object) -> object:  # type: ignore[override]
            runs.append(tuple(argv))  # type: ignore[arg-type]
            return await super().run(argv, **rest)  # type: ignore[arg-type]

    seen = await look(Counted(), "/other/slurm.conf", str(site / "bin"))
    assert len(runs) == 1
    assert seen.program == str(site / "bin" / "scontrol")
    assert seen.host == os.uname().nodename.partition(".")[0]
    assert seen.config.text("ClusterName") == "site"
    assert seen.nodes.count("NodeName=") == 4
    assert (site / "conf").read_text() == "/other/slurm.conf\n"


async def test_a_prolog_that_calls_the_gate_is_not_chained(site: Path) -> None:
    """The two would call each other for ever."""
    prologs = site / "prolog.d"
    prologs.mkdir()
    says(site, {"/etc/slurm/site-prolog": f"{prologs}/*"})
    (prologs / "10-own").write_text("#!/bin/sh\n")
    first = await read(site)
    assert first.spec.adopted.chain_prolog == (f"{prologs}/*",)
    (prologs / "20-gate").write_text("/etc/hpcli/prolog || exit 1\n")
    second = await read(site)
    assert second.spec.adopted.chain_prolog == ()
    assert {line.key: line.state for line in second.lines}["Prolog"] == "chained"


async def test_a_slurmctld_that_is_down(site: Path) -> None:
    (site / "down").touch()
    with pytest.raises(Unreachable, match="Unable to contact slurm controller") as caught:
        await look(LocalTransport(), "", str(site / "bin"))
    assert "scontrol ping" in caught.value.hint


async def test_no_slurm(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()

    class Bare(LocalTransport):
        async def run(self, argv: object, **rest: object) -> object:  # type: ignore[override]
            script = ["/bin/sh", *list(argv)[1:]]  # type: ignore[call-overload]
            script[2] = f"PATH={tools}; sh() {{ :; }}; tail() {{ :; }}; sed() {{ :; }}; tr() {{ :; }}\n{script[2]}"
            return await super().run(script, **rest)  # type: ignore[arg-type]

    with pytest.raises(NotFound, match="no scontrol") as caught:
        await look(Bare())
    assert "--programs" in caught.value.hint


@pytest.mark.parametrize(
    ("host", "login", "addresses"),
    [
        ("login.example.org", "{here}", {"{here}": "login.example.org"}),
        ("{here}", "{here}", {}),
        ("controller", None, {}),
        ("lab_alias", None, {}),
        ("c3", None, {}),
    ],
)
async def test_the_machine_behind_ssh(site: Path, host: str, login: str | None, addresses: Mapping[str, str]) -> None:
    here = os.uname().nodename.partition(".")[0]
    done = await read(site, host=host.format(here=here), reach=Reach(user="ada"))
    assert done.spec.login.nodes == (login.format(here=here) if login else None)
    assert dict(done.spec.hosts.addresses) == {key.format(here=here): value for key, value in addresses.items()}
    assert [one.what for one in done.left_out] == (["login node lab_alias"] if host == "lab_alias" else [])


async def test_the_machine_behind_ssh_is_the_controller(site: Path) -> None:
    here = os.uname().nodename.partition(".")[0]
    says(site, {"= controller": f"= {here}"})
    done = await read(site, host="203.0.113.7")
    assert done.spec.login.nodes is None
    assert done.spec.address_of(here) == "203.0.113.7"


async def test_an_update_keeps_what_is_the_readers_own(site: Path) -> None:
    old = (await read(site, name="prod", reach=Reach(user="ada", port=2222), host="login.example.org")).text
    recovery = "# ours\nrecovery:\n  mode: act    # since May\n  evict_grace: 3s\n"
    own = (
        old[: old.index("# observe:")]
        + recovery
        + "health: {interval: 5s}\npackages: {pip_index: https://pip.example.org}\n"
    )
    own = own.replace("adopted:", 'adopted:\n  python: "/opt/py/bin/python3"', 1).replace(
        "  addresses:", '  addresses:\n    "c1": "10.0.0.9"', 1
    )
    again = await read(site, old=own)
    assert (again.added, again.removed) == ((), ())
    assert (await read(site, old=again.text)).text == again.text
    spec = again.spec
    assert (spec.name, spec.recovery.mode, spec.recovery.evict_grace, spec.health.interval) == ("prod", "act", 3.0, 5.0)
    assert (spec.hosts.user, spec.hosts.port, spec.adopted.python) == ("ada", 2222, "/opt/py/bin/python3")
    assert spec.address_of("c1") == "10.0.0.9"
    assert spec.login_names and spec.address_of(spec.login_names[0]) == "login.example.org"
    assert spec.packages.pip_index == "https://pip.example.org"
    assert recovery in again.text
    says(site, {"=c4 ": "=c5 "})
    changed = await read(site, old=again.text)
    assert (changed.added, changed.removed) == (("c5",), ("c4",))
    assert changed.spec.recovery == spec.recovery


async def test_an_update_keeps_the_chain_once_the_gate_is_in_force(site: Path) -> None:
    old = (await read(site)).text
    says(site, {"/etc/slurm/site-prolog": "/etc/slurm/other-prolog"})
    assert (await read(site, old=old)).spec.adopted.chain_prolog == ("/etc/slurm/other-prolog",)
    says(site, {"/etc/slurm/other-prolog": "/etc/hpcli/prolog"})
    assert (await read(site, old=old)).spec.adopted.chain_prolog == ("/etc/slurm/site-prolog",)
    assert (await read(site)).spec.adopted.chain_prolog == ()


async def test_an_update_of_a_cluster_that_hpcli_builds_is_refused(site: Path) -> None:
    with pytest.raises(HpcliError, match="provider docker"):
        await read(site, old="name: a\nprovider: docker\ncompute: [{name: c, count: 2}]\n")


def test_the_command(hpcli: Run, site: Path) -> None:
    path = site / "site.yaml"
    argv = ("cluster", "adopt", "prod", "-o", str(path))
    shown = hpcli(*argv, "--dry-run", env=on(site))
    assert (shown.returncode, shown.stderr, path.exists()) == (0, "", False)
    assert yaml.safe_load(shown.stdout)["provider"] == "adopted"
    done = hpcli(*argv, env=on(site))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"wrote {path}: cluster prod, Slurm 24.11.5" in done.stdout
    assert "all         c[1-4]: 4 nodes, 2 CPUs, 1000 MiB, 2 GPUs (gpu)" in done.stdout
    assert "SchedulerParameters=bf_interval=20,nohold_on_prolog_fail" in done.stdout
    assert f"next: hpcli cluster install-agents -f {path} --dry-run" in done.stdout
    assert load_spec(path).recovery.mode == "observe"
    assert hpcli("cluster", "validate", "-f", str(path)).returncode == 0
    again = hpcli(*argv, env=on(site))
    assert again.returncode == 2
    assert "hint: to bring it up to date: --update" in again.stderr
    before = path.read_text()
    told = json.loads(hpcli(*argv, "--update", "--json", env=on(site)).stdout)["data"]
    assert path.read_text() == before
    assert (told["name"], told["groups"], told["added"]) == ("prod", {"all": ["c1", "c2", "c3", "c4"]}, [])
    assert {line["key"]: line["state"] for line in told["lines"]}["RebootProgram"] == "missing"


def test_mode_act_is_a_choice_for_a_new_file(hpcli: Run, site: Path) -> None:
    path = site / "site.yaml"
    hpcli("cluster", "adopt", "--mode", "act", "-o", str(path), env=on(site))
    assert load_spec(path).recovery.mode == "act"
    found = hpcli("cluster", "adopt", "--mode", "observe", "--update", "-o", str(path), env=on(site))
    assert (found.returncode, "--mode" in found.stderr) == (2, True)


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["-C", "nowhere"], 3, "context nowhere"),
        (["-C", "x", "--ssh", "a@b"], 2, "both --ssh and -C"),
        (["--identity", "/id"], 2, "without --ssh"),
        (["--update", "-o", "/nonexistent/x.yaml"], 3, "no such file"),
        (["Bad_Name"], 2, "cluster name"),
        (["-o", "/nonexistent/x.yaml"], 2, "No such file"),
    ],
)
def test_what_it_refuses(hpcli: Run, site: Path, argv: list[str], code: int, words: str) -> None:
    own = [] if "-o" in argv else ["-o", str(site / "new.yaml")]
    found = hpcli("cluster", "adopt", *argv, *own, env=on(site))
    assert (found.returncode, words in found.stderr) == (code, True), found.stderr
    assert not (site / "new.yaml").exists()
