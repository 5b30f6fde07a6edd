"""The pyslurm gateway on what a real pyslurm held: it says what Slurm's own programs said of the same moment."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pyslurm_recording import RecordedPyslurm, case, jobs_of, nodes_of, opened

from hpcli.domain.job import Job
from hpcli.domain.node import Node
from hpcli.errors import NotFound, Unreachable, UsageFault
from hpcli.sim.clock import SimClock
from hpcli.sim.model import SimNode
from hpcli.sim.slurm import SimGateway
from hpcli.sim.world import World
from hpcli.slurm.choose import Reason, choose, fitting_tag
from hpcli.slurm.py_library import CannotSay, Library
from hpcli.slurm.pyslurm import PyslurmGateway

OWN_CONF = "/run/x/slurm.conf"


class Programs(SimGateway):
    """The command-line gateway to a cluster of its own, so that it shows who answered."""

    def __init__(self) -> None:
        super().__init__(World([SimNode("from-programs", cpus=4, gpus=2)], SimClock()))

    async def version(self) -> tuple[int, int]:
        self.calls.append("version")
        return 24, 11


class Setup:
    def __init__(self, recorded: Mapping[str, Any], deaf: bool = False) -> None:
        self.module = RecordedPyslurm(recorded, deaf)
        self.programs = Programs()
        self.told: list[str] = []
        self.gateway = PyslurmGateway(
            self.programs, opened(self.module), now=lambda: float(recorded["now"]), told=self.told.append
        )


class TestRecorded:
    @pytest.mark.parametrize("scene", ["quiet", "busy", "uneven"])
    async def test_nodes_and_partitions_are_those_of_scontrol_and_sinfo(self, scene: str) -> None:
        recorded = case(scene)
        setup = Setup(recorded)
        assert await setup.gateway.nodes() == nodes_of(recorded["said"]["nodes"])
        assert await setup.gateway.partitions() == tuple(recorded["said"]["partitions"])
        assert await setup.gateway.version() == (24, 11)
        assert (setup.told, setup.programs.calls) == ([], [])

    @pytest.mark.parametrize("scene", ["quiet", "busy"])
    async def test_jobs_are_those_of_squeue_in_its_order(self, scene: str) -> None:
        recorded = case(scene)
        setup = Setup(recorded)
        assert await setup.gateway.jobs() == jobs_of(recorded["said"]["jobs"])
        assert (setup.told, setup.programs.calls) == ([], [])

    async def test_an_array_that_is_not_spelled_out_is_squeues(self) -> None:
        setup = Setup(case("uneven"))
        assert await setup.gateway.jobs() == ()
        assert setup.programs.calls == ["jobs"]
        assert "expected them all" in setup.told[0]

    async def test_the_older_interface_is_asked_for_untold_gpus_alone(self) -> None:
        quiet, busy = Setup(case("quiet")), Setup(case("busy"))
        await quiet.gateway.nodes()
        await busy.gateway.nodes()
        assert (quiet.module.asked, busy.module.asked) == (["nodes"], ["nodes", "old_nodes"])

    async def test_a_hostlist_selects_in_its_own_order(self) -> None:
        setup = Setup(case("quiet"))
        assert [node.name for node in await setup.gateway.nodes("c3,c[1-2]")] == ["c3", "c1", "c2"]

    @pytest.mark.parametrize("hostlist", ["c[1,9]", "c[3,1]", "c1,c1", "-x", "c[", "c1,"])
    async def test_any_other_hostlist_is_scontrols(self, hostlist: str) -> None:
        setup = Setup(case("quiet"))
        with pytest.raises((NotFound, ValueError)):
            await setup.gateway.nodes(hostlist)
        assert setup.programs.calls == ["nodes"]


class TestWhatPyslurmCannotSay:
    async def test_a_silent_slurmctld_is_asked_by_the_programs(self) -> None:
        setup = Setup(case("busy"), deaf=True)
        setup.programs.deaf = True
        for ask in (setup.gateway.nodes, setup.gateway.jobs, setup.gateway.partitions):
            with pytest.raises(Unreachable):
                await ask()
        assert all("Unable to contact" in line for line in setup.told)
        assert len(setup.told) == 3

    @pytest.mark.parametrize(
        ("kind", "field", "value"),
        [("nodes", "configured_gres", None), ("jobs", "state", "NEVER_HEARD_OF"), ("jobs", "requeue_count", ...)],
    )
    async def test_a_structure_of_another_version_is_not_guessed_at(self, kind: str, field: str, value: object) -> None:
        recorded = case("busy")
        if value is ...:
            del recorded[kind][0][field]
        else:
            recorded[kind][0][field] = value
        setup = Setup(recorded)
        ask = setup.gateway.nodes if kind == "nodes" else setup.gateway.jobs
        found: Sequence[Node | Job] = await ask()
        assert setup.programs.calls == [kind]
        assert [one.name for one in found] == (["from-programs"] if kind == "nodes" else [])

    async def test_a_user_that_is_unknown_here_is_a_number(self) -> None:
        recorded = case("busy")
        for job in recorded["jobs"]:
            del job["user_name"]
            job["user_id"] = 4711
        setup = Setup(recorded)
        assert {job.user for job in await setup.gateway.jobs()} == {"4711"}
        assert setup.told == []

    async def test_commands_are_the_programs(self) -> None:
        setup = Setup(case("quiet"))
        await setup.gateway.update_nodes("from-programs", "drain", "x")
        job = await setup.gateway.submit(["-H", "--wrap", "true"])
        await setup.gateway.release([job])
        await setup.gateway.cancel([job])
        assert setup.module.asked == []


class TestLibrary:
    def test_one_configuration_per_process(self) -> None:
        library = opened(RecordedPyslurm(case("quiet")), OWN_CONF)
        assert library.open(OWN_CONF) == "24.11.0"
        with pytest.raises(CannotSay, match=f"loaded with {OWN_CONF}, expected /elsewhere"):
            library.open("/elsewhere")

    def test_one_that_somebody_else_imported_is_left_alone(self) -> None:
        library = Library(lambda: RecordedPyslurm(case("quiet")), present=lambda: True)
        with pytest.raises(CannotSay, match="by somebody else"):
            library.open(OWN_CONF)

    def test_the_configuration_is_set_before_the_import(self) -> None:
        seen: list[tuple[str, str]] = []

        def load() -> RecordedPyslurm:
            assert seen == [("SLURM_CONF", OWN_CONF)]
            return RecordedPyslurm(case("quiet"))

        Library(load, lambda name, value: seen.append((name, value)), lambda: False).open(OWN_CONF)
        assert seen


def library_of(module: RecordedPyslurm | Exception) -> Library:
    def load() -> RecordedPyslurm:
        if isinstance(module, Exception):
            raise module
        return module

    return Library(load, lambda _name, _value: None, lambda: False)


class TestChoice:
    @pytest.fixture
    def programs(self) -> Programs:
        return Programs()

    async def test_one_that_fits_is_used(self, programs: Programs) -> None:
        library = library_of(RecordedPyslurm(case("quiet")))
        gateway, reason = await choose(
            programs, None, OWN_CONF, environ={}, installed=lambda: "24.11.0", library=library
        )
        assert isinstance(gateway, PyslurmGateway)
        assert reason == Reason("pyslurm", "pyslurm 24.11.0 fits Slurm", "24.11.x")

    async def test_where_there_is_none_slurm_is_not_even_asked(self, programs: Programs) -> None:
        gateway, reason = await choose(programs, None, environ={}, installed=lambda: "")
        assert (gateway, reason, programs.calls) == (programs, Reason("cli", "pyslurm is not installed", ""), [])

    @pytest.mark.parametrize(
        ("slurm", "installed", "why", "tag"),
        [
            ((24, 11), "23.11.1", "found pyslurm 23.11.1, expected 24.11.x", "24.11.x"),
            ((22, 5), "24.11.0", "found pyslurm 24.11.0, expected 22.5.x", "22.5.x"),
            ((26, 5), "25.11.2", "expected one for Slurm 26.05, which does not exist yet", ""),
            ((24, 11), "odd", "found version 'odd'", "24.11.x"),
        ],
    )
    async def test_another_series_is_not(
        self, programs: Programs, slurm: tuple[int, int], installed: str, why: str, tag: str
    ) -> None:
        library = library_of(AssertionError("imported"))
        gateway, reason = await choose(programs, slurm, environ={}, installed=lambda: installed, library=library)
        assert (gateway, reason.gateway, reason.tag) == (programs, "cli", tag)
        assert why in reason.why

    async def test_an_import_that_fails_is_a_fall_back(
        self, programs: Programs, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG", "hpcli")
        library = library_of(ImportError("libslurmfull.so: cannot open shared object file"))
        gateway, reason = await choose(programs, (24, 11), environ={}, installed=lambda: "24.11.0", library=library)
        assert (gateway, reason.gateway, len(caplog.records)) == (programs, "cli", 1)
        assert "cannot open shared object file" in reason.why

    async def test_libslurm_is_not_loaded_where_slurm_does_not_answer(self, programs: Programs) -> None:
        """With a slurm.conf that it cannot read, libslurm would end our process."""
        programs.deaf = True
        library = library_of(AssertionError("imported"))
        gateway, reason = await choose(programs, (24, 11), environ={}, installed=lambda: "24.11.0", library=library)
        assert (gateway, reason.gateway) == (programs, "cli")

    async def test_forced(self, programs: Programs) -> None:
        library = library_of(RecordedPyslurm(case("quiet")))
        to_programs = {"HPCLI_GATEWAY": "cli"}
        gateway, reason = await choose(programs, (24, 11), environ=to_programs, installed=lambda: "24.11.0")
        assert (gateway, reason) == (programs, Reason("cli", "HPCLI_GATEWAY=cli", "24.11.x"))
        forced = {"HPCLI_GATEWAY": "pyslurm"}
        gateway, _ = await choose(programs, (24, 11), environ=forced, installed=lambda: "24.11.0", library=library)
        assert isinstance(gateway, PyslurmGateway)

    @pytest.mark.parametrize(("word", "why"), [("pyslurm", "not installed"), ("soap", "expected cli or pyslurm")])
    async def test_forced_in_vain(self, programs: Programs, word: str, why: str) -> None:
        with pytest.raises(UsageFault, match=why):
            await choose(programs, (24, 11), environ={"HPCLI_GATEWAY": word}, installed=lambda: "")

    def test_tags(self) -> None:
        slurms = [(22, 5), (23, 2), (24, 11), (25, 11), (26, 5)]
        assert [fitting_tag(slurm) for slurm in slurms] == ["22.5.x", "23.2.x", "24.11.x", "25.11.x", ""]

    def test_nothing_heavy_is_imported_to_choose(self) -> None:
        heavy = {"pyslurm", "hpcli.slurm.pyslurm", "ClusterShell"}
        code = f"import sys, hpcli.slurm.choose; print({heavy} & set(sys.modules))"
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert shown.stdout.strip() == "set()"
