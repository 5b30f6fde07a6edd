"""The loopback address of a local cluster's daemons."""

import socket
from pathlib import Path

import pytest

from hpcli.errors import HpcliError
from hpcli.providers.local.loopback import Loopback, find_loopback, hosts_file, short_host_name


def test_a_machine_whose_name_is_a_loopback_one_needs_no_wrapper(tmp_path: Path) -> None:
    assert Loopback("127.0.1.1").environment(tmp_path / "hosts") == {}


def test_elsewhere_the_daemons_alone_are_told_so(tmp_path: Path) -> None:
    found = Loopback("127.0.0.1", "/usr/lib/x/libnss_wrapper.so").environment(tmp_path / "hosts")
    assert found == {"LD_PRELOAD": "/usr/lib/x/libnss_wrapper.so", "NSS_WRAPPER_HOSTS": str(tmp_path / "hosts")}


@pytest.mark.parametrize(
    ("address", "wrappers", "expected"),
    [
        ("127.0.0.1", [], Loopback("127.0.0.1")),
        ("127.0.1.1", ["x.so"], Loopback("127.0.1.1")),
        ("10.1.2.3", ["x.so"], Loopback("127.0.0.1", "x.so")),
        ("", ["x.so", "y.so"], Loopback("127.0.0.1", "x.so")),
    ],
)
def test_what_is_chosen(address: str, wrappers: list[str], expected: Loopback) -> None:
    assert find_loopback(lambda _name: address, lambda: wrappers) == expected


@pytest.mark.parametrize(("address", "shown"), [("10.1.2.3", "10.1.2.3"), ("", "nothing")])
def test_without_a_wrapper_the_machine_is_told_what_to_do(address: str, shown: str) -> None:
    with pytest.raises(HpcliError, match=f"found that it resolves to {shown}, expected a loopback address") as caught:
        find_loopback(lambda _name: address, list)
    assert caught.value.hint.startswith("apt-get install libnss-wrapper, or add this line to /etc/hosts")


def test_the_hosts_file_names_this_machine() -> None:
    words = hosts_file().split()
    assert words[:2] == ["127.0.0.1", "localhost"]
    assert {socket.gethostname(), short_host_name()} <= set(words)
    assert len(words) == len(set(words))
