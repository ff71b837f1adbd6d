"""Proxies that the environment names: the variables curl obeys, for whoever asks a model server."""

import ipaddress
import os
from urllib.parse import urlsplit

from evalmesh.domain.errors import InvalidInput

PROXY = "the proxy of the environment"
"""How a sentence about it begins."""


def proxy_for(url: str) -> str:
    """The proxy that a request to this address takes; empty: none.

    `http_proxy`, `https_proxy` and `all_proxy`, in small letters or capitals, but for what `no_proxy` names, and for
    this machine's own addresses: from where a proxy stands, they are other machines. Raises `InvalidInput` for a proxy
    that speaks something else than HTTP.
    """
    parts = urlsplit(url)
    found = _variable(f"{parts.scheme}_proxy") or _variable("all_proxy")
    host = (parts.hostname or "").rstrip(".")
    if not found or _is_own(host) or _is_left_out(host, parts.port):
        return ""
    proxy = found if "://" in found else f"http://{found}"
    if urlsplit(proxy).scheme not in {"http", "https"}:
        raise InvalidInput(
            f"{PROXY} for {host} speaks {urlsplit(proxy).scheme}, and only proxies of HTTP are used; name one in "
            f"{parts.scheme}_proxy, or the host in no_proxy.",
            {"field": f"{parts.scheme}_proxy"},
        )
    return proxy


def _variable(name: str) -> str:
    return (os.environ.get(name) or os.environ.get(name.upper()) or "").strip()


def _is_own(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_left_out(host: str, port: int | None) -> bool:
    """By `no_proxy`: names and what is below them, with a port or without, addresses and networks, `*` for all."""
    return any(_covers(rule.strip().lower(), host, port) for rule in _variable("no_proxy").split(","))


def _covers(rule: str, host: str, port: int | None) -> bool:
    if not rule or rule == "*":
        return bool(rule)
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(rule.strip("[]"), strict=False)
    except ValueError:
        name, _, wanted = rule.rpartition(":") if rule.count(":") == 1 else (rule, "", "")
        name = name.removeprefix("*").lstrip(".")
        return (not wanted or wanted == str(port)) and (host == name or host.endswith(f".{name}"))
