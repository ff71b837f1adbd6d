"""Addresses as people type them: `HOST:PORT`, where a server listens or is found."""

import re
import socket

from evalmesh.domain.errors import InvalidInput

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_EVERYWHERE = frozenset({"0.0.0.0", "[::]", "::", ""})  # noqa: S104  (compared, not bound)
_LOOPBACK = re.compile(r"127(\.\d+){3}|\[::1\]|localhost", re.IGNORECASE)


def split_address(text: str, field: str, *, lowest: int = 1) -> tuple[str, int]:
    """Host and port. Raises `InvalidInput`, naming the field, for what has no port or one that cannot be.

    Args:
        text: As it was typed.
        field: What messages call it.
        lowest: 0 where a free port may be asked for.
    """
    host, colon, port = text.strip().rpartition(":")
    bare_ipv6 = ":" in host and not host.startswith("[")
    if _SCHEME.match(text) or "/" in text or not colon or bare_ipv6 or not port.isdigit():
        raise InvalidInput(
            f"{field}: {text!r} is no address; write HOST:PORT, e.g. 127.0.0.1:9090 or [::1]:9090.", {"field": field}
        )
    check_port(int(port), field, lowest=lowest)
    return host, int(port)


def check_port(port: int, field: str, *, lowest: int = 0) -> None:
    """Raises `InvalidInput`."""
    if not lowest <= port <= 65535:
        raise InvalidInput(f"{field}: there is no port {port}; use {lowest} to 65535.", {"field": field})


def check_server(text: str) -> None:
    """Raises `InvalidInput` for what cannot be the address of a platform."""
    if text.lower().startswith("http://"):
        raise InvalidInput(
            f"server: {text!r} is no address; it speaks gRPC: write {text[7:].rstrip('/') or 'HOST:PORT'}, or "
            "https://HOST:PORT where it has a certificate.",
            {"field": "server"},
        )
    split_address(text.removeprefix("https://").rstrip("/"), "server")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    return _LOOPBACK.fullmatch(host) is not None


def seen_from_outside(host: str) -> str:
    """What other machines call a host that was told to listen; of all addresses, the one that leads out of here."""
    if host not in _EVERYWHERE:
        return host
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # says which way it would go, and sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()
