"""The TCP connection to an SSH server."""

import socket

from hpcli.transport import faults
from hpcli.transport.known_hosts import Place

SILENCE_LIMIT = 15_000
"""Milliseconds after which what was sent and never confirmed breaks the connection."""


def dial(place: Place) -> socket.socket:
    """Raises `Unreachable`."""
    try:
        found = socket.create_connection((place.address, place.port), faults.CONNECT_LIMIT)
    except socket.gaierror:
        raise faults.no_such_name(place) from None
    except ConnectionRefusedError:
        raise faults.refused(place) from None
    except TimeoutError:
        raise faults.no_answer(place) from None
    except OSError as error:
        raise faults.no_answer(place, (error.strerror or str(error)).lower()) from None
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_LIMIT)
    return found
