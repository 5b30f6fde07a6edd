"""Free ports: chosen, held until they are needed, and named when they are not free."""

import socket

import pytest

from hpcli.errors import HpcliError
from hpcli.providers.local.free_ports import is_listening, listening_ports, reserve


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_as_many_as_asked_for_and_no_two_the_same() -> None:
    reservation = reserve(40, frozenset())
    try:
        assert len(set(reservation.ports)) == 40
        assert all(is_listening(port) for port in reservation.ports), "held until somebody needs them"
    finally:
        reservation.release()
    assert not set(reservation.ports) & listening_ports()


def test_a_released_port_can_be_listened_on() -> None:
    reservation = reserve(2, frozenset())
    port, other = reservation.ports
    reservation.release(port)
    with socket.create_server(("127.0.0.1", port)):
        assert is_listening(other)
    reservation.release()
    reservation.release()


def test_two_reservations_at_once_share_nothing() -> None:
    first = reserve(20, frozenset())
    second = reserve(20, frozenset())
    assert not set(first.ports) & set(second.ports)
    first.release()
    second.release()


def test_those_of_other_clusters_are_left_alone() -> None:
    reservation = reserve(1, frozenset(range(20_000, 65_536)) - {21_234})
    assert reservation.ports == (21_234,)
    reservation.release()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.1.1", "0.0.0.0"])
def test_ports_in_use_are_named(address: str) -> None:
    with socket.create_server((address, 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(HpcliError, match=f"found {port} in use, expected 1 free ports from {port} on"):
            reserve(1, frozenset(), first=port)


def test_ports_of_a_cluster_that_is_down_are_in_use_too() -> None:
    port = a_free_port()
    with pytest.raises(HpcliError, match=f"found {port} in use"):
        reserve(1, frozenset({port}), first=port)


def test_a_refusal_holds_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        before = listening_ports()
        with pytest.raises(HpcliError):
            reserve(3, frozenset(), first=port - 2)
        assert not {port - 1, port - 2} & (listening_ports() - before)


def test_too_many() -> None:
    with pytest.raises(HpcliError, match="found 0 free on") as caught:
        reserve(1, frozenset(range(65_536)))
    assert "hpcli cluster list" in caught.value.hint


def test_a_connection_that_has_just_closed_holds_no_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _peer = server.accept()
        accepted.close()
        client.close()
    reserve(1, frozenset(), first=port).release()
