"""Single requests, by the very transport that a load test would use: what they meet, its requests would."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

from evalmesh.adapters.load_http.address import address_of
from evalmesh.adapters.load_http.transports import open_transport
from evalmesh.adapters.proxies import PROXY
from evalmesh.domain.errors import Unavailable
from evalmesh.domain.load_test import LoadTarget
from evalmesh.load.exchange import Exchange
from evalmesh.load.measure.records import Outcome
from evalmesh.ports.load_tests.probe import ProbeAnswer
from evalmesh.ports.model_servers import ModelServers, destination_of

_TIMEOUTS = frozenset({Outcome.READ_TIMEOUT, Outcome.TOTAL_TIMEOUT})


class HttpProbe:
    """See `ports.load_tests.probe.LoadProbe`."""

    def __init__(self, servers: ModelServers) -> None:
        self._servers = servers

    async def send(self, target: LoadTarget, body: bytes, timeout_s: float) -> ProbeAnswer:
        admitted = self._servers.admit(destination_of(target))
        headers = admitted.complete(target.url)
        # A year, as some give it for ever, is no time to wait here.
        bounded = replace(target, read_timeout_s=timeout_s, total_timeout_s=timeout_s)
        ended: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()
        transport = open_transport(
            bounded, headers, lambda one: None if ended.done() else ended.set_result(one), admitted.egress
        )
        reader = _Whole()
        exchange = _Question(body, reader)
        try:
            transport.send(exchange)
            await ended
        finally:
            await transport.close()
        if exchange.outcome not in {Outcome.OK, Outcome.HTTP}:
            raise Unavailable(
                f"url: {target.url} does not answer: {_cause(exchange, target, timeout_s)}.{_way_out(exchange)}",
                {"field": "url"},
            )
        whole = exchange.detail.encode() if exchange.outcome is Outcome.HTTP else b"".join(reader.parts)
        return ProbeAnswer(exchange.status, _without_keys(whole, target, headers))


class _Question(Exchange):
    """One that asks for a token or two."""

    __slots__ = ()
    most_bytes = 32 << 20


class _Whole:
    """Keeps a body as it came; of a stream, by which it is known as one, the first event."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def events(self, found: Iterable[bytes], at_s: float) -> None:
        for data in found:
            if not self.parts:
                self.cut(data, at_s)

    def cut(self, data: bytes, at_s: float) -> None:  # noqa: ARG002 - the port's shape
        self.parts.append(b"data: " + data)

    def whole(self, body: bytes, at_s: float) -> None:  # noqa: ARG002
        self.parts.append(body)


def _without_keys(body: bytes, target: LoadTarget, headers: Mapping[str, str]) -> bytes:
    """Some servers quote the key they refuse, and what they say is shown and logged."""
    for name, value in headers.items():
        key = value.removeprefix("Bearer ")
        if key and value != target.headers.get(name):
            body = body.replace(key.encode(), b"[key]")
    return body


def _cause(exchange: Exchange, target: LoadTarget, timeout_s: float) -> str:
    if exchange.outcome in _TIMEOUTS:
        return f"nothing came within {timeout_s:g} s"
    return exchange.detail.removeprefix(f"{address_of(target.url).authority}: ")


def _way_out(exchange: Exchange) -> str:
    # What is wrong with a certificate or a proxy says itself what to do; the server is there.
    if exchange.outcome is Outcome.TLS or exchange.detail.startswith(PROXY):
        return ""
    return " Check the address, and that the server is up."
