"""Where requests go, and the bytes that stand before each body."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from evalmesh.domain.errors import InvalidInput

_OWN = frozenset({"accept-encoding", "connection", "content-length", "keep-alive", "transfer-encoding"})
"""Headers that the transport decides. Compressed answers would be timed by the block, not by the token."""


@dataclass(frozen=True, slots=True)
class Address:
    """The endpoint's address, taken apart."""

    scheme: str
    host: str
    port: int
    path: str
    """With the query."""
    authority: str
    """As the `Host` header has it."""
    credentials: str = ""
    """`user:password` of the URL, for basic authorization."""


def address_of(url: str) -> Address:
    """Takes a URL apart. Raises `InvalidInput`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"target.url: '{url}' cannot be read: {error}.", {"field": "target.url"}) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidInput(
            f"target.url: '{url}' is no HTTP address; give all of it, as in http://host:8000/v1/chat/completions.",
            {"field": "target.url"},
        )
    authority = parts.netloc.rpartition("@")[2]
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username else ""
    standard = 443 if parts.scheme == "https" else 80
    return Address(parts.scheme, parts.hostname, standard if port is None else port, path, authority, credentials)


def complete_headers(address: Address, headers: Mapping[str, str]) -> dict[str, str]:
    """All headers of a request but its length. Raises `InvalidInput` for one that would break the request."""
    found = {"Host": address.authority, "Content-Type": "application/json", "Accept": "*/*"}
    if address.credentials:
        found["Authorization"] = "Basic " + base64.b64encode(address.credentials.encode()).decode()
    names = {name.lower(): name for name in found}
    for name, value in headers.items():
        if not name or any(sign in name + value for sign in "\r\n\0") or any(sign in name for sign in " :"):
            raise InvalidInput(
                f"target.headers: the header '{name!r}' has signs in it that no header can have.",
                {"field": "target.headers"},
            )
        if name.lower() not in _OWN:
            found.pop(names.get(name.lower(), ""), None)
            found[name] = value
    return found | {"Accept-Encoding": "identity"}


def request_head(address: Address, headers: Mapping[str, str]) -> bytes:
    """Everything of a request up to the number that `Content-Length` says."""
    lines = [f"POST {address.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in complete_headers(address, headers).items()]
    # Bytes beyond ASCII pass as UTF-8: keys and proxies have been seen to hold some.
    return "\r\n".join([*lines, "Content-Length: "]).encode()
