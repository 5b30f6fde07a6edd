"""What the engine answers: recorded output beside what is made of it."""

import json
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from hpcli.domain.blueprint import Role
from hpcli.errors import HpcliError, NotFound, TimedOut, Unreachable
from hpcli.ports import Completed
from hpcli.providers.docker.answers import parse_container, parse_routes, parse_subnets
from hpcli.providers.docker.engine import Engine
from hpcli.providers.docker.faults import fault

CASES = Path(__file__).parent.parent / "cases" / "docker"
FAULTS = json.loads((CASES / "faults.json").read_text())
NETWORK = "hpcli-e2-demo"


def container(name: str) -> dict[str, object]:
    raw: dict[str, object] = json.loads((CASES / "containers" / f"{name}.json").read_text())
    return raw


class Scripted:
    """A transport that gives the same answer to whatever is run."""

    def __init__(self, code: int, out: str = "", err: str = "", fails: Exception | None = None) -> None:
        self.answer = (code, out, err)
        self.fails = fails
        self.argv: list[tuple[str, ...]] = []

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        self.argv.append(tuple(argv))
        if self.fails:
            raise self.fails
        return Completed(tuple(argv), *self.answer)


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case["case"])
async def test_faults(case: Mapping[str, str]) -> None:
    with pytest.raises(HpcliError) as caught:
        await Engine(Scripted(1, err=case["err"])).call("run", "-d")
    assert caught.value.code == case["code"]
    assert caught.value.subject == case["subject"]
    assert case["message"] in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "role", "state", "address"),
    [
        ("controller", Role.CONTROLLER, "running", "172.30.255.10"),
        ("login1", Role.LOGIN, "running", "172.30.255.11"),
        ("c1", Role.COMPUTE, "exited", "172.30.255.12"),
        ("c2", Role.COMPUTE, "paused", "172.30.255.13"),
    ],
)
def test_containers(name: str, role: Role, state: str, address: str) -> None:
    found = parse_container(container(name), NETWORK)
    assert (found.name, found.role, found.state, found.address) == (name, role, state, address)
    assert len(found.id) == 64
    assert found.image.startswith("sha256:")
    assert found.base == "hpcli-slurm:22.05+005377f8"


def test_a_container_that_left_the_network_has_no_address() -> None:
    assert parse_container(container("c1"), "another").address == ""


@pytest.mark.parametrize("gone", ["Id", "Config", "State", "NetworkSettings"])
def test_an_answer_that_cannot_be_read_names_the_container(gone: str) -> None:
    raw = container("c1")
    del raw[gone]
    with pytest.raises(HpcliError, match="container /hpcli-e2-demo-c1"):
        parse_container(raw, NETWORK)


def test_subnets() -> None:
    networks = [json.loads(line) for line in (CASES / "networks.jsonl").read_text().splitlines()]
    assert [str(subnet) for subnet in parse_subnets(networks)] == ["172.17.0.0/16", "172.30.255.0/24"]


def test_a_subnet_of_ipv6_is_left_out() -> None:
    assert parse_subnets([{"Name": "six", "IPAM": {"Config": [{"Subnet": "fd00::/64"}]}}]) == ()


def test_routes() -> None:
    found = parse_routes((CASES / "routes.txt").read_text())
    expected = ("0.0.0.0/0", "172.17.0.0/16", "172.20.0.0/16", "172.30.255.0/24", "192.0.2.0/24")
    assert found == tuple(map(IPv4Network, expected))
    assert parse_routes("") == ()


async def test_inspect_leaves_out_what_is_not_there() -> None:
    err = "Error response from daemon: network nosuch not found\n"
    engine = Engine(Scripted(1, out='{"Name": "a"}\n', err=err))
    assert await engine.inspect("network", ["a", "nosuch"]) == [{"Name": "a"}]


async def test_inspect_tells_any_other_fault() -> None:
    with pytest.raises(Unreachable):
        await Engine(Scripted(1, err=FAULTS[0]["err"])).inspect("network", ["a"])


async def test_nothing_to_inspect_is_not_asked() -> None:
    transport = Scripted(0)
    assert await Engine(transport).inspect("container", []) == []
    assert not transport.argv


async def test_no_docker_here() -> None:
    missing = Scripted(0, fails=NotFound("docker", "no such program"))
    with pytest.raises(NotFound, match="Docker's command line"):
        await Engine(missing).version()


async def test_an_engine_that_hangs() -> None:
    with pytest.raises(TimedOut, match="Docker engine: found no end of docker version"):
        await Engine(Scripted(0, fails=TimedOut("docker", "no answer"))).version()


def test_a_disk_that_is_full() -> None:
    error = fault(("run",), "docker: Error response from daemon: write /x: no space left on device\n")
    assert "no space left" in error.message
    assert "docker system df" in error.hint
