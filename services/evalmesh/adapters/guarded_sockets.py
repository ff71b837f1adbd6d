"""Sockets that go nowhere they may not: looked at when a connection is made, after names are resolved.

So no name can be resolved to one address when it is checked and to another when it is used.
"""

import errno
import socket
from collections.abc import Callable
from typing import Any

from evalmesh.domain.connection import Egress

AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]
FORBIDDEN = (
    "this address may not be asked from here: link-local and metadata addresses never, this machine's own ports only "
    "where a connection declares them (EVALMESH_CONNECTIONS_FILE); EVALMESH_EGRESS=open lifts that"
)
"""One sentence for all of them, so that it tells nothing about what is there."""


class ForbiddenAddress(OSError):
    """The address is none that this process may ask; nothing was sent, and whether anything listens is not known."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, FORBIDDEN)


def is_forbidden(error: BaseException) -> bool:
    """Whether it is the reason behind an error of the HTTP client, which may have tried several addresses."""
    return isinstance(error, ForbiddenAddress) or FORBIDDEN in str(getattr(error, "os_error", error))


def check_address(egress: Egress, address: object) -> None:
    """Raises `ForbiddenAddress`."""
    if egress.refuses(str(address)):
        raise ForbiddenAddress


def socket_factory(egress: Egress) -> Callable[[AddressInfo], socket.socket] | None:
    """For aiohttp's connector, which calls it for each address it tries; `None` where all may be asked."""
    if not egress.restricted:
        return None

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, place = info
        check_address(egress, place[0])
        return socket.socket(family, kind, protocol)

    return make
