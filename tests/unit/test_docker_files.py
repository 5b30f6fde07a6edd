"""What a cluster's folder holds of its containers: known_hosts, record, key pair; and the command that makes one."""

import dataclasses
import itertools
import stat
from pathlib import Path

import pytest

from hpcli.domain.blueprint import Place, Role
from hpcli.errors import HpcliError, NotFound, Unsafe
from hpcli.providers.docker import known_hosts
from hpcli.providers.docker.keys import key_pair
from hpcli.providers.docker.known_hosts import HostKey, parse_key, with_keys
from hpcli.providers.docker.owner import Owner
from hpcli.providers.docker.record import Record, read_record, write_record
from hpcli.providers.docker.shape import Bind, Shape, run_command, shape_of
from hpcli.spec.load import parse_spec
from hpcli.transport.process import LocalTransport

C1 = HostKey("c1", "172.30.7.11", "ssh-ed25519 AAAA")
CONTROLLER = Place("ctl", Role.CONTROLLER, "172.30.7.10")
NODE = Place("c1", Role.COMPUTE, "172.30.7.11")
SPEC = """
name: demo
provider: docker
compute: [{name: a, count: 2}]
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "c1,172.30.7.11 ssh-ed25519 AAAA\n"),
        ("c1,172.30.7.11 ssh-ed25519 OLD\n", "c1,172.30.7.11 ssh-ed25519 AAAA\n"),
        ("c1,172.30.9.9 ssh-ed25519 OLD\n", "c1,172.30.7.11 ssh-ed25519 AAAA\n"),
        ("c9,172.30.7.11 ssh-ed25519 OLD\n", "c1,172.30.7.11 ssh-ed25519 AAAA\n"),
        ("c11,172.30.7.110 ssh-ed25519 B\n", "c11,172.30.7.110 ssh-ed25519 B\nc1,172.30.7.11 ssh-ed25519 AAAA\n"),
        ("# ours\n", "# ours\nc1,172.30.7.11 ssh-ed25519 AAAA\n"),
    ],
    ids=["new", "another key", "another address", "another name", "others stay", "remarks stay"],
)
def test_a_host_key_takes_the_place_of_the_old_one(before: str, after: str) -> None:
    assert with_keys(before, {"c1": C1}) == after


def test_host_keys_go_with_their_machines(tmp_path: Path) -> None:
    known_hosts.update(tmp_path, {"c1": C1, "c2": HostKey("c2", "172.30.7.12", "ssh-ed25519 BBBB")})
    known_hosts.update(tmp_path, {}, {"c1"})
    assert known_hosts.read(tmp_path) == "c2,172.30.7.12 ssh-ed25519 BBBB\n"
    assert stat.S_IMODE((tmp_path / "known_hosts").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "no key", "cat: /etc/ssh/ssh_host_ed25519_key.pub: No such file"])
def test_what_is_no_host_key(text: str) -> None:
    with pytest.raises(HpcliError, match="container c1"):
        parse_key(text, "c1")


def test_a_host_key_without_its_remark() -> None:
    assert parse_key("ssh-ed25519 AAAA root@c1\n", "c1") == "ssh-ed25519 AAAA"


async def test_a_key_pair_is_made_once(tmp_path: Path) -> None:
    transport, home = LocalTransport(), tmp_path / "new" / "home"
    first = await key_pair(transport, home, "demo")
    assert first.public.startswith("ssh-ed25519 ")
    assert first.public.endswith(" hpcli-demo")
    assert stat.S_IMODE(first.private.stat().st_mode) == 0o600
    assert await key_pair(transport, home, "demo") == first
    assert sorted(path.name for path in home.iterdir()) == ["id_ed25519", "id_ed25519.pub"]


async def test_a_key_pair_that_was_interrupted_is_made_anew(tmp_path: Path) -> None:
    for name in ("id_ed25519.new", "id_ed25519.new.pub", "id_ed25519.pub"):
        (tmp_path / name).write_text("half")
    assert (await key_pair(LocalTransport(), tmp_path, "demo")).public.startswith("ssh-ed25519 ")


async def test_a_damaged_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "id_ed25519").write_text("damaged")
    (tmp_path / "id_ed25519").chmod(0o600)
    with pytest.raises(HpcliError, match=r"key .*id_ed25519"):
        await key_pair(LocalTransport(), tmp_path, "demo")


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    shape = Shape("image:1", "ssh-ed25519 AAAA", (Bind("/srv", "/data", True),), "1g", False, "/keeper")
    record = Record("demo", "172.30.7.0/24", shape, (CONTROLLER, NODE), ("172.30.8.0/24",))
    write_record(tmp_path, record)
    assert read_record(tmp_path, "demo") == record
    assert stat.S_IMODE((tmp_path / "containers.json").stat().st_mode) == 0o600
    assert [place.name for place in record.without(["c1"]).places] == ["ctl"]
    moved = dataclasses.replace(NODE, address="172.30.7.99")
    assert record.with_places([moved]).place("c1") == moved


def test_no_record_yet(tmp_path: Path) -> None:
    assert read_record(tmp_path, "demo") == Record("demo")
    write_record(tmp_path, Record("demo"))
    assert read_record(tmp_path, "demo") == Record("demo")
    with pytest.raises(NotFound, match="node c1"):
        Record("demo").place("c1")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"places": 3}'])
def test_a_damaged_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "containers.json").write_text(text)
    with pytest.raises(HpcliError, match="damaged"):
        read_record(tmp_path, "demo")


def test_the_shape_of_a_spec(tmp_path: Path) -> None:
    shape = shape_of(parse_spec(SPEC, "s"), "image:1", "key", tmp_path)
    assert shape == Shape("image:1", "key", (), "", True, str(tmp_path))


def test_mounts_and_memory_of_a_spec() -> None:
    more = (
        SPEC + "mounts: [{path: /home, bind: /srv/home}, {path: /data, bind: /srv, options: ro}]\ndocker: {memory: 2g}"
    )
    shape = shape_of(parse_spec(more, "s"), "image:1", "key")
    assert shape.binds == (Bind("/srv/home", "/home"), Bind("/srv", "/data", True))
    assert not shape.home_volume
    assert shape.memory == "2g"


def test_another_base_is_another_machine() -> None:
    shape = Shape("image:1", "key")
    assert shape.base.startswith("image:1+")
    different = (
        dataclasses.replace(shape, image="image:2"),
        dataclasses.replace(shape, memory="1g"),
        dataclasses.replace(shape, binds=(Bind("/a", "/b"),)),
    )
    assert len({one.base for one in (shape, *different)}) == 4
    assert dataclasses.replace(shape, authorized_key="other", keeper="/k").base == shape.base


def test_the_command_that_makes_a_container(tmp_path: Path) -> None:
    shape = Shape("image:1", "ssh-ed25519 AAAA me", (Bind('/srv/a,b "c"', "/data", True),), "1g", True, "/keeper")
    argv = run_command(Owner("demo", tmp_path), shape, CONTROLLER)
    mounts = [argv[i + 1] for i, word in enumerate(argv) if word == "--mount"]
    assert mounts == [
        'type=bind,"src=/srv/a,b ""c""",dst=/data,readonly',
        "type=volume,src=hpcli-demo-home,dst=/home",
        "type=bind,src=/keeper,dst=/run/hpcli/keeper",
    ]
    assert argv[-2:] == ("image:1", "machine")
    pairs = list(itertools.pairwise(argv))
    for pair in (("--ip", "172.30.7.10"), ("--hostname", "ctl"), ("--memory", "1g"), ("--pull", "never")):
        assert pair in pairs
    assert ("--env", "HPCLI_AUTHORIZED_KEY=ssh-ed25519 AAAA me") in pairs
    assert "--privileged" not in argv


def test_only_the_controller_sees_the_keeper(tmp_path: Path) -> None:
    argv = run_command(Owner("demo", tmp_path), Shape("image:1", "key", keeper="/keeper"), NODE)
    assert not any("/keeper" in word for word in argv)


def test_what_is_ours(tmp_path: Path) -> None:
    ours, other = Owner("demo", tmp_path / "a"), Owner("demo", tmp_path / "b")
    labels = dict(label.split("=", 1) for label in ours.labels)
    assert ours.owns(labels)
    for foreign in (None, {}, {**labels, "hpcli.cluster": "x"}, dict(label.split("=", 1) for label in other.labels)):
        assert not ours.owns(foreign)
        with pytest.raises(Unsafe, match="container hpcli-demo-c1"):
            ours.require("container", "hpcli-demo-c1", foreign)
