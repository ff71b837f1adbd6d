"""Connections: named model servers that the operator, or the local user's own command line, declared.

A reference to a key goes nowhere but to the hosts of a connection that names it.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_V6 = r"\[[0-9a-f:.]+\]"
_URL = re.compile(rf"(https?)://({_V6}|[^\s\\/?#@:\[\]%]+)(?::([0-9]{{1,5}}))?(?:[/?#][^\s\\]*)?", re.IGNORECASE)
_PATTERN = re.compile(rf"(https?)://({_V6}|(?:\*\.)?[a-z0-9._-]+|\*)(?::([0-9]{{1,5}}|\*))?/?", re.IGNORECASE)
_STANDARD = {"http": "80", "https": "443"}
_REFERENCE = ("env:", "secret:")

_METADATA = frozenset(
    {
        "fd00:ec2::254",  # AWS, over IPv6; over IPv4 all clouds but the following use a link-local address
        "168.63.129.16",  # Azure
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
    }
)
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"})
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_reference(value: str) -> bool:
    """Whether the text refers to a key: `env:NAME` or `secret:name/key`."""
    return value.startswith(_REFERENCE)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where requests to a URL go."""

    scheme: str
    host: str
    """Lower case, without brackets or a dot at its end."""
    port: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _STANDARD[self.scheme] else f":{self.port}")


def origin_of(url: str) -> Origin:
    """Raises `ValueError` for what two parsers could read in two ways: user names, backslashes, blanks."""
    found = _URL.fullmatch(url.strip())
    if found is None:
        raise ValueError("no plain http(s) address")
    scheme, host, port = found[1].lower(), found[2].lower().strip("[]").rstrip("."), found[3]
    return Origin(scheme, host, str(int(port)) if port else _STANDARD[scheme])


@dataclass(frozen=True, slots=True)
class Connection:
    """A model server that was declared, and the key that goes to it and nowhere else."""

    name: str
    hosts: tuple[str, ...]
    """`scheme://host[:port]`; the host may begin with `*.` for all below it, the port may be `*`."""
    key_ref: str = ""
    """`env:NAME` or `secret:name/key`, sent as a bearer token."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request; values may be references."""
    url: str = ""
    """Asked where a spec names the connection and no address."""
    max_concurrency: int = 0
    """The most requests in flight per pool; 0: as the spec says."""

    @property
    def references(self) -> frozenset[str]:
        """Keys that are bound to its hosts."""
        return frozenset(value for value in (self.key_ref, *self.headers.values()) if is_reference(value))

    def covers(self, origin: Origin) -> bool:
        """Whether requests may go there in its name."""
        return any(_fits(pattern, origin) for pattern in self.hosts)


def check_pattern(pattern: str) -> None:
    """Raises `ValueError` with the reason for what is no pattern of hosts."""
    found = _PATTERN.fullmatch(pattern)
    if found is None:
        raise ValueError("write scheme://host or scheme://host:port; *.example.com stands for all hosts below it")
    if found[2] == "*":
        raise ValueError("a connection is bound to hosts, and * would be all of them")


def _fits(pattern: str, origin: Origin) -> bool:
    found = _PATTERN.fullmatch(pattern)
    # Other alphabets have more than one form of a name; the form that DNS has is plain ASCII.
    if found is None or found[1].lower() != origin.scheme or not origin.host.isascii():
        return False
    if (found[3] or _STANDARD[origin.scheme]) not in {origin.port, "*"}:
        return False
    host = found[2].lower().strip("[]").rstrip(".")
    if host == "*":
        return True
    if host.startswith("*."):
        return origin.host.endswith(host[1:]) and _address(origin.host) is None
    return host == origin.host or _same_address(host, origin.host)


def _same_address(one: str, other: str) -> bool:
    address = _address(one)
    return address is not None and address == _address(other)


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Egress:
    """Which addresses may be connected to."""

    restricted: bool = False
    loopback: bool = False
    """With `restricted`: whether this machine's own ports may be asked, because a connection declares them."""

    def refuses(self, address: str) -> bool:
        """Whether no connection may be made to an address of numbers, as it came out of the name service."""
        if not self.restricted:
            return False
        found = _address(address.partition("%")[0])
        return found is None or any(self._refuses(one) for one in _meant_by(found))

    def refuses_name(self, host: str) -> bool:
        """What can be told of a host before its name is looked up."""
        if not self.restricted:
            return False
        if _address(host) is not None:
            return self.refuses(host)
        own = host == "localhost" or host.endswith(".localhost")
        return host in _METADATA_NAMES or (own and not self.loopback)

    def _refuses(self, address: _Address) -> bool:
        if address.is_loopback or address.is_unspecified:
            return not self.loopback
        return address.is_link_local or address.is_multicast or str(address) in _METADATA


def _meant_by(address: _Address) -> Iterable[_Address]:
    """The address, and the one of IPv4 that is wrapped up in it: mapped, 6to4, or translated (RFC 6052)."""
    yield address
    if isinstance(address, ipaddress.IPv6Address):
        for wrapped in (address.ipv4_mapped, address.sixtofour):
            if wrapped is not None:
                yield wrapped
        if address in ipaddress.ip_network("64:ff9b::/96"):
            yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        elif not int(address) >> 32 and int(address) > 1:
            yield ipaddress.IPv4Address(int(address))
