"""Addresses and subnets: what is given out stays, what others use is left alone."""

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcli.errors import HpcliError
from hpcli.providers.docker.addresses import addresses, around, free_subnet, parse_subnet

NET = IPv4Network("172.30.7.0/24")


@pytest.mark.parametrize(
    ("names", "taken", "expected"),
    [
        (["ctl", "c1", "c2"], {}, ["10", "11", "12"]),
        (["ctl", "c1"], {"ctl": "172.30.7.10", "c1": "172.30.7.11"}, ["10", "11"]),
        (["ctl", "login1", "c1"], {"ctl": "172.30.7.10", "c1": "172.30.7.11"}, ["10", "12", "11"]),
        (["ctl", "c2"], {"ctl": "172.30.7.10", "c1": "172.30.7.11"}, ["10", "12"]),
        (["ctl", "c1"], {"c1": "10.9.9.9"}, ["10", "11"]),
        (["ctl", "c1"], {"c1": ""}, ["10", "11"]),
        (["ctl", "c1"], {"c1": "172.30.7.200"}, ["10", "200"]),
    ],
    ids=["fresh", "unchanged", "one more", "one not yet gone", "other subnet", "no address", "gap"],
)
def test_addresses(names: list[str], taken: dict[str, str], expected: list[str]) -> None:
    found = addresses(names, taken, NET)
    assert found == dict(zip(names, (f"172.30.7.{last}" for last in expected), strict=True))


@given(st.sets(st.integers(0, 200)), st.sets(st.integers(0, 200)))
def test_what_was_given_stays_and_nobody_shares(before: set[int], after: set[int]) -> None:
    first = addresses([f"n{i}" for i in sorted(before)], {}, NET)
    second = addresses([f"n{i}" for i in sorted(after)], first, NET)
    assert all(second[name] == first[name] for name in first.keys() & second.keys())
    assert len({**first, **second}) == len(set({**first, **second}.values()))


def test_a_subnet_that_is_full() -> None:
    small = IPv4Network("172.30.7.0/28")
    assert len(addresses(["a", "b", "c", "d", "e"], {}, small)) == 5
    with pytest.raises(HpcliError, match="no address left"):
        addresses(["a", "b", "c", "d", "e", "f"], {}, small)
    with pytest.raises(HpcliError, match="no address left"):
        addresses(["a"], {}, IPv4Network("172.30.7.0/30"))


@pytest.mark.parametrize(
    ("used", "size", "expected"),
    [
        ([], 3, "172.30.255.0/24"),
        (["0.0.0.0/0"], 3, "172.30.255.0/24"),
        (["172.30.255.0/24"], 3, "172.30.254.0/24"),
        (["172.30.0.0/16"], 3, "172.31.255.0/24"),
        (["172.16.0.0/12"], 3, "192.168.255.0/24"),
        (["172.30.255.128/25"], 3, "172.30.254.0/24"),
        ([], 300, "172.30.254.0/23"),
        ([], 1000, "172.30.252.0/22"),
    ],
)
def test_free_subnet(used: list[str], size: int, expected: str) -> None:
    assert free_subnet(map(IPv4Network, used), size) == IPv4Network(expected)


def test_no_free_subnet() -> None:
    with pytest.raises(HpcliError, match=r"docker\.subnet"):
        free_subnet([IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/16")], 3)


def test_a_subnet_around_addresses() -> None:
    assert around(["172.30.7.10", "172.30.7.200"]) == IPv4Network("172.30.7.0/24")
    assert around(["172.30.6.10", "172.30.7.200"]) == IPv4Network("172.30.6.0/23")


@pytest.mark.parametrize("text", ["172.30.7.1/24", "x", "172.30.7.0/99", "fd00::/64"])
def test_what_is_no_subnet(text: str) -> None:
    with pytest.raises(HpcliError, match=r"docker\.subnet"):
        parse_subnet(text)
