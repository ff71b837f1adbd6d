"""Which model servers may be asked, and with which keys."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from evalmesh.dialect.addresses import key_header
from evalmesh.domain.connection import Egress
from evalmesh.domain.load_test import LoadTarget


@dataclass(frozen=True, slots=True)
class Destination:
    """What a spec says about where its requests go. Holds references to keys, never keys."""

    url: str
    connection: str = ""
    """Name of a declared connection; empty: none is needed where no key is."""
    key_ref: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    field: str = "model"
    """Of the spec, for messages: `model` or `target`."""
    ca_file: str = ""
    """File with authorities to trust, on the machine that asks."""


@dataclass(frozen=True, slots=True)
class Admission:
    """How an admitted destination is asked."""

    key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The connection's and the spec's, with references resolved."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What must never be shown: keys, and values of headers that came from references."""
    egress: Egress = field(default_factory=Egress)
    """Addresses that may be connected to; looked at for each connection."""
    max_concurrency: int = 0
    """0: no bound but the spec's."""

    def complete(self, url: str) -> dict[str, str]:
        """All headers of a request to this address, with the key as its server wants it."""
        if not self.key:
            return dict(self.headers)
        carrier, value = key_header(url, self.key)
        others = {name: one for name, one in self.headers.items() if name.lower() != carrier.lower()}
        return {**others, carrier: value}


def destination_of(target: LoadTarget) -> Destination:
    """Of a load test."""
    return Destination(target.url, target.connection, target.key_ref, target.headers, "target", target.ca_file)


class ModelServers(Protocol):
    """The declared connections of this process."""

    def url_of(self, wanted: Destination) -> str:
        """The spec's own address, else that of the connection it names. Raises `InvalidInput`, `PermissionDenied`."""
        ...

    def most_requests(self, wanted: Destination) -> int:
        """In flight, as the connection it names says; 0: no bound. Raises `InvalidInput`."""
        ...

    def key_for(self, url: str) -> str:
        """The key of the connection whose hosts cover an address that no spec has named; empty: there is none."""
        ...

    def check(self, wanted: Destination) -> Egress:
        """Looks at nothing but the declarations: no key is resolved, no name looked up.

        Raises:
            InvalidInput: there is no such connection, or no address.
            PermissionDenied: the key is not bound to the host, the host may not be asked, or the file not be read.
        """
        ...

    def admit(self, wanted: Destination) -> Admission:
        """`check`, then resolves the keys. Raises `NotFound` for a reference that leads nowhere."""
        ...
