"""Which transport a target asks for."""

from collections.abc import Callable, Mapping

from evalmesh.adapters.proxies import proxy_for
from evalmesh.domain.connection import Egress
from evalmesh.domain.load_test import LoadTarget
from evalmesh.load.exchange import Exchange
from evalmesh.ports.load_tests.http import LoadTransport


def open_transport(
    target: LoadTarget, headers: Mapping[str, str], ended: Callable[[Exchange], None], egress: Egress
) -> LoadTransport:
    """`auto` is the fast one unless the environment names a proxy for the address.

    Raises `InvalidInput` for an address, headers or authorities that cannot be used.
    """
    if target.transport == "compatible" or (target.transport == "auto" and proxy_for(target.url)):
        from evalmesh.adapters.load_http.compatible import CompatibleTransport  # noqa: PLC0415 - slow to import

        return CompatibleTransport(target, headers, ended, egress)
    from evalmesh.adapters.load_http.fast import FastTransport  # noqa: PLC0415 - not where the other one is used

    return FastTransport(target, headers, ended, egress)
