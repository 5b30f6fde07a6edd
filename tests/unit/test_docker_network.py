"""Which subnet a cluster's network gets when others use some, or take one in the same moment."""

import json
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from hpcli.errors import HpcliError, Unsafe
from hpcli.ports import Completed
from hpcli.providers.docker.containers import Containers
from hpcli.providers.docker.engine import Engine
from hpcli.providers.docker.faults import SubnetTaken
from hpcli.providers.docker.network import Network
from hpcli.providers.docker.owner import Owner

HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
VPN = HEAD + "tun0 00001EAC 00000000 0001 0 0 0 0000FFFF 0 0 0\n"


class FakeDocker:
    """As much of docker as networks need. `secret` subnets are refused, though nothing shows who has them."""

    def __init__(self, secret: Sequence[str] = ()) -> None:
        self.secret = [IPv4Network(subnet) for subnet in secret]
        self.networks: dict[str, tuple[IPv4Network, dict[str, str]]] = {}

    def add(self, name: str, subnet: str, labels: Sequence[str] = ()) -> None:
        self.networks[name] = (IPv4Network(subnet), dict(label.split("=", 1) for label in labels))

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        code, out, err = self.answer(list(argv[1:]))
        return Completed(tuple(argv), code, out, err)

    def answer(self, words: list[str]) -> tuple[int, str, str]:
        if words[:2] == ["network", "ls"]:
            return 0, "\n".join(self.networks), ""
        if words[:2] == ["network", "inspect"]:
            return self.inspect(words[4:])
        if words[:2] == ["network", "create"]:
            return self.create(words)
        return 0, "", ""

    def inspect(self, names: list[str]) -> tuple[int, str, str]:
        lines = [
            json.dumps({"Name": name, "Labels": labels, "IPAM": {"Config": [{"Subnet": str(subnet)}]}})
            for name, (subnet, labels) in self.networks.items()
            if name in names
        ]
        missing = [
            f"Error response from daemon: network {name} not found" for name in names if name not in self.networks
        ]
        return bool(missing), "\n".join(lines), "\n".join(missing)

    def create(self, words: list[str]) -> tuple[int, str, str]:
        subnet = IPv4Network(words[words.index("--subnet") + 1])
        if any(other.overlaps(subnet) for other in (*self.secret, *(used for used, _ in self.networks.values()))):
            return 1, "", "Error response from daemon: Pool overlaps with other one on this address space\n"
        self.add(words[-1], str(subnet), [words[i + 1] for i, word in enumerate(words) if word == "--label"])
        return 0, "id\n", ""


def network(docker: FakeDocker, home: Path, routes: str = HEAD) -> Network:
    return Network(Engine(docker), Owner("demo", home), lambda: routes)


async def test_the_first_free_one(tmp_path: Path) -> None:
    docker = FakeDocker()
    docker.add("site", "172.30.255.0/24")
    assert str(await network(docker, tmp_path).make_free("", 3)) == "172.30.254.0/24"
    assert str(await network(docker, tmp_path).subnet()) == "172.30.254.0/24"


async def test_one_that_a_route_leads_to_is_left_alone(tmp_path: Path) -> None:
    assert str(await network(FakeDocker(), tmp_path, VPN).make_free("", 3)) == "172.31.255.0/24"


async def test_one_that_somebody_takes_in_the_same_moment(tmp_path: Path) -> None:
    docker = FakeDocker(secret=["172.30.254.0/23"])
    assert str(await network(docker, tmp_path).make_free("", 3)) == "172.30.253.0/24"


async def test_an_engine_that_refuses_all(tmp_path: Path) -> None:
    with pytest.raises(SubnetTaken, match=r"docker\.subnet|subnet 172"):
        await network(FakeDocker(secret=["0.0.0.0/0"]), tmp_path).make_free("", 3)


async def test_the_wanted_one_or_none(tmp_path: Path) -> None:
    docker = FakeDocker()
    docker.add("site", "10.0.0.0/24")
    with pytest.raises(SubnetTaken, match=r"subnet 10\.0\.0\.0/24"):
        await network(docker, tmp_path).make_free("10.0.0.0/24", 3)
    assert str(await network(docker, tmp_path).make_free("10.0.1.0/24", 3)) == "10.0.1.0/24"


async def test_a_strangers_network_of_our_name(tmp_path: Path) -> None:
    docker = FakeDocker()
    docker.add("hpcli-demo", "172.30.1.0/24", Owner("demo", tmp_path / "else").labels)
    with pytest.raises(Unsafe, match="network hpcli-demo"):
        await network(docker, tmp_path).subnet()
    with pytest.raises(Unsafe, match="network hpcli-demo"):
        await Containers(Engine(docker), "demo", tmp_path).reserve(["ctl"])


async def test_what_was_reserved_is_kept_without_the_network(tmp_path: Path) -> None:
    first, second = FakeDocker(), FakeDocker()
    reserved = await Containers(Engine(first), "demo", tmp_path).reserve(["ctl", "c1"])
    assert first.networks.keys() == {"hpcli-demo"}
    subnet = first.networks["hpcli-demo"][0]
    second.add("later", "172.29.0.0/16")
    again = await Containers(Engine(second), "demo", tmp_path).reserve(["ctl", "c1"])
    assert again == reserved
    assert second.networks["hpcli-demo"][0] == subnet


async def test_a_plan_makes_nothing(tmp_path: Path) -> None:
    docker = FakeDocker()
    containers = Containers(Engine(docker), "demo", tmp_path, subnet="172.30.7.0/24")
    assert await containers.plan_addresses(["ctl", "c1"]) == {"ctl": "172.30.7.10", "c1": "172.30.7.11"}
    assert not docker.networks
    assert not list(tmp_path.iterdir())


async def test_the_plan_after_a_collision_takes_another_subnet(tmp_path: Path) -> None:
    from hpcli.domain.blueprint import Place, Role
    from hpcli.providers.docker.shape import Shape

    docker = FakeDocker()
    containers = Containers(Engine(docker), "demo", tmp_path)
    address = (await containers.plan_addresses(["ctl"]))["ctl"]
    docker.secret.append(IPv4Network(f"{address}/24", strict=False))
    with pytest.raises(HpcliError):
        await containers.make(Shape("image:1", "key"), [Place("ctl", Role.CONTROLLER, address)])
    other = (await containers.plan_addresses(["ctl"]))["ctl"]
    assert IPv4Network(f"{other}/24", strict=False) not in docker.secret
