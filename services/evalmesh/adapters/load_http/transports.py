"""Which transport a target asks for."""

import os
from collections.abc import Callable, Mapping

from evalmesh.domain.load_test import LoadTarget
from evalmesh.load.exchange import Exchange
from evalmesh.ports.load_tests.http import LoadTransport


def open_transport(target: LoadTarget, headers: Mapping[str, str], ended: Callable[[Exchange], None]) -> LoadTransport:
    """`auto` is the fast one unless the environment names a proxy for the address.

    Raises `InvalidInput` for an address, headers or authorities that cannot be used.
    """
    if target.transport == "compatible" or (target.transport == "auto" and _has_proxy(target.url)):
        from evalmesh.adapters.load_http.compatible import CompatibleTransport  # noqa: PLC0415 - slow to import

        return CompatibleTransport(target, headers, ended)
    from evalmesh.adapters.load_http.fast import FastTransport  # noqa: PLC0415 - not where the other one is used

    return FastTransport(target, headers, ended)


def _has_proxy(url: str) -> bool:
    """By the variables that curl and Python's own client obey."""
    if not any(name.lower().endswith("_proxy") and value for name, value in os.environ.items()):
        return False
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - slow to import, and rarely needed

    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2]
    proxies = getproxies()
    return bool(proxies.get(scheme) or proxies.get("all")) and not proxy_bypass(host)
