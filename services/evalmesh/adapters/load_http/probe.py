"""Single requests through aiohttp: they need be right, not fast."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from evalmesh.adapters.load_http.address import tls_context
from evalmesh.adapters.load_http.causes import cause_of
from evalmesh.adapters.load_http.compatible import proxy_cause
from evalmesh.domain.errors import Unavailable
from evalmesh.domain.load_test import LoadTarget
from evalmesh.ports.environment import Secrets, with_keys
from evalmesh.ports.load_probe import ProbeAnswer

_OURS = frozenset({"Content-Type", "Accept-Encoding"})
_MOST_BYTES = 32 << 20


class HttpProbe:
    """See `ports.load_probe.LoadProbe`; made by `open_probe`."""

    def __init__(self, session: aiohttp.ClientSession, direct: aiohttp.ClientSession, keys: Secrets) -> None:
        """`direct` goes past proxies, as the fast transport does."""
        self._session = session
        self._direct = direct
        self._keys = keys

    async def send(self, target: LoadTarget, body: bytes, timeout_s: float) -> ProbeAnswer:
        # As it is asked during a load test: not compressed.
        headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            **with_keys(target.headers, target.key_ref, self._keys),
        }
        try:
            session = self._direct if target.transport == "fast" else self._session
            async with session.post(
                target.url,
                data=body,
                headers=headers,
                allow_redirects=False,
                ssl=tls_context(target) if target.url.startswith("https:") else True,
                timeout=aiohttp.ClientTimeout(total=timeout_s, connect=target.connect_timeout_s),
            ) as answer:
                whole = _without_keys(await _whole(answer.content), target, headers)
                return ProbeAnswer(answer.status, whole, answer.headers.get("Location", ""))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(
                f"url: {target.url} does not answer: {_cause(error, target, timeout_s)}.{_way_out(error)}",
                {"field": "url"},
            ) from error


def _without_keys(body: bytes, target: LoadTarget, headers: Mapping[str, str]) -> bytes:
    """Some servers quote the key they refuse, and what they say is shown and logged."""
    for name, value in headers.items():
        key = value.removeprefix("Bearer ")
        if key and name not in _OURS and value != target.headers.get(name):
            body = body.replace(key.encode(), b"[key]")
    return body


async def _whole(content: aiohttp.StreamReader) -> bytes:
    """The body to its end, or as much of it as is sane; a single read gives what one packet brought."""
    found = bytearray()
    while len(found) < _MOST_BYTES and (piece := await content.readany()):
        found += piece
    return bytes(found)


def _way_out(error: Exception) -> str:
    # What is wrong with a certificate or a proxy says itself what to do; the server is there.
    if isinstance(error, aiohttp.ClientSSLError) or proxy_cause(error):
        return ""
    return " Check the address, and that the server is up."


def _cause(error: Exception, target: LoadTarget, timeout_s: float) -> str:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"no connection after {target.connect_timeout_s:g} s"
    if isinstance(error, TimeoutError):
        return f"nothing came within {timeout_s:g} s"
    return proxy_cause(error) or cause_of(error)


@asynccontextmanager
async def open_probe(keys: Secrets) -> AsyncIterator[HttpProbe]:
    """Proxies of the environment are honoured, as the compatible transport does."""
    # A load test reads no compressed answers, so neither does this.
    async with (
        aiohttp.ClientSession(trust_env=True, auto_decompress=False) as session,
        aiohttp.ClientSession(auto_decompress=False) as direct,
    ):
        yield HttpProbe(session, direct, keys)
