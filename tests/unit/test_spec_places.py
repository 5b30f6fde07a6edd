"""Machines of a cluster, and their addresses."""

import time

import pytest

from hpcli.spec.addresses import in_order
from hpcli.spec.load import parse_spec

HOSTS = """
name: a
provider: hosts
controller: {name: ctl}
login: {nodes: "in[1-2]"}
compute: [{name: n, count: 3, prefix: x}, {name: m, nodes: y1}]
hosts:
  addresses:
    ctl,x3: "10.0.0.[9,3]"
    "in[2,1]": "in[02,01].example.org"
    y1: fd00::1
"""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("10.0.1.[11-13]", ("10.0.1.11", "10.0.1.12", "10.0.1.13")),
        ("b,a", ("b", "a")),
        ("c[3,1-2]", ("c3", "c1", "c2")),
        ("c[08-10]", ("c08", "c09", "c10")),
        ("r[1-2]-n[1-2].x", ("r1-n1.x", "r1-n2.x", "r2-n1.x", "r2-n2.x")),
        ("10.0.[0-1].[1,3]", ("10.0.0.1", "10.0.0.3", "10.0.1.1", "10.0.1.3")),
        ("c1,c1", ("c1", "c1")),
        ("fd00::[1-2]", ("fd00::1", "fd00::2")),
    ],
)
def test_expands_in_the_order_written(text, names):
    assert in_order(text) == names


@pytest.mark.parametrize(
    "text", ["", "a,", "a b", "c[", "c[]", "c[a]", "c[3-1]", "c[1-70000]", "[1-300][1-300]", "a\n"]
)
def test_refuses(text):
    with pytest.raises(ValueError, match=r"\w"):
        in_order(text)


@pytest.mark.parametrize("text", ["c[1-999999999]", "c[0-65535][0-65535]", ",".join(["c[1-60000]"] * 3)])
def test_refuses_huge_lists_without_expanding_them(text):
    started = time.perf_counter()
    with pytest.raises(ValueError, match="at most 65536"):
        in_order(text)
    assert time.perf_counter() - started < 0.2


def test_places_are_controller_login_compute():
    spec = parse_spec(HOSTS, "cluster.yaml")
    assert spec.place_names == ("ctl", "in1", "in2", "x1", "x2", "x3", "y1")
    assert spec.login_names == ("in1", "in2")


def test_addresses_pair_in_the_order_written():
    spec = parse_spec(HOSTS, "cluster.yaml")
    assert {name: spec.address_of(name) for name in spec.place_names} == {
        "ctl": "10.0.0.9",
        "in1": "in01.example.org",
        "in2": "in02.example.org",
        "x1": "x1",
        "x2": "x2",
        "x3": "10.0.0.3",
        "y1": "fd00::1",
    }


def test_counted_login_nodes():
    spec = parse_spec("name: a\nprovider: docker\nlogin: {count: 2}\ncompute: [{name: n, count: 1}]", "cluster.yaml")
    assert spec.place_names == ("controller", "login1", "login2", "c1")


def test_nodes_say_their_shape():
    text = "name: a\ncompute: [{name: n, count: 1, cpus: 8, sockets: 2, threads: 2, gpus: %s}, {name: m, count: 1}]"
    first, second = parse_spec(text % "{type: h100, count: 1, simulated: true}", "cluster.yaml").nodes
    assert (first.sockets, first.threads, first.gpus_simulated) == (2, 2, True)
    assert (second.sockets, second.threads, second.gpus_simulated) == (0, 0, False)


def test_ten_thousand_hosts_load_in_time():
    text = (
        "name: a\nprovider: hosts\ncompute: [{name: n, count: 10000, gpus: {type: h100, count: 8}}]\n"
        'partitions: [{name: x}, {name: y, nodes: "c[1-5000]"}]\n'
        'hosts: {addresses: {"c[1-10000]": "10.[1-40].0.[1-250]", controller: 10.0.0.1}}\n'
        'topology: {plugin: tree, switches: [{name: s, switches: "l[1-2]"}, {name: l1, nodes: "c[1-5000]"},\n'
        '  {name: l2, nodes: "c[5001-10000]"}]}\n'
    )
    best = min(timed(text) for _ in range(3))
    assert best < 0.5


def timed(text: str) -> float:
    started = time.perf_counter()
    spec = parse_spec(text, "cluster.yaml")
    assert (spec.address_of("c10000"), len(spec.place_names)) == ("10.40.0.250", 10001)
    return time.perf_counter() - started
