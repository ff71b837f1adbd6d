"""One Prometheus address. Slow to load, because of its HTTP client."""

import os
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from evalmesh.adapters.server_metrics.exposition import Exposition, ExpositionReader
from evalmesh.adapters.server_metrics.refusal import Refusal
from evalmesh.load.server.names import kind_of
from evalmesh.load.server.readings import RawSeries, Reading

_DEADLINE_S = 2.0
_FEW = 3
_MOST_BYTES = 16 << 20
_FINAL = frozenset({*range(400, 429), *range(430, 500), 501})
"""Statuses that will not change by themselves; 501 is the llama.cpp server without `--metrics`."""
_HEADERS = {"Accept": "text/plain;version=0.0.4,text/plain;q=0.5,*/*;q=0.1"}


@asynccontextmanager
async def open_pages() -> AsyncIterator[Callable[[str], "PrometheusSource"]]:
    """A function that makes a source of an address; sources can be read while the context is open."""
    # One connection to each: with keep-alive, a reading costs the server one request and no accept.
    connector = aiohttp.TCPConnector(limit_per_host=_FEW, keepalive_timeout=15)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield lambda address: PrometheusSource(session, address, _DEADLINE_S)


class PrometheusSource:
    """A page of metrics. Its readings share their metrics while the page has the same lines."""

    def __init__(self, session: aiohttp.ClientSession, url: str, deadline_s: float) -> None:
        parsed = URL(url)
        self._session = session
        self._url = parsed.with_user(None).with_fragment(None)
        self._headers = dict(_HEADERS)
        if parsed.user:
            pair = f"{parsed.user}:{parsed.password or ''}"
            self._headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        self._timeout = aiohttp.ClientTimeout(total=deadline_s)
        self._deadline_s = deadline_s
        self.name = str(self._url.with_query(None))
        self._reader = ExpositionReader()
        self._kind = ""
        self._metrics: tuple[RawSeries, ...] = ()

    async def read(self) -> Reading:
        """Raises `Refusal`."""
        begun_s = time.monotonic()
        reading = await self._fetch()
        time_s = (begun_s + time.monotonic()) / 2
        if not reading.lines:
            raise Refusal("it shows no metrics", final=True)
        if not reading.metrics:
            raise Refusal(reading.error or f"none of its {reading.lines} metrics is known")
        if reading.metrics != self._metrics:
            self._metrics = reading.metrics
            self._kind = kind_of(metric.name for metric in reading.metrics)
        return Reading(self.name, self._kind, time_s, self._metrics, reading.values, reading.error)

    async def _fetch(self) -> Exposition:
        try:
            async with self._session.get(
                self._url, timeout=self._timeout, headers=self._headers, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    raise Refusal(f"it answers with status {answer.status}", final=answer.status in _FINAL)
                body = await answer.content.read(_MOST_BYTES)
                while len(body) < _MOST_BYTES and (more := await answer.content.read(_MOST_BYTES - len(body))):
                    body += more
        except TimeoutError:
            raise Refusal(f"it did not answer within {self._deadline_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Refusal(_reason(error)) from None
        return self._reader.read(body.decode("utf-8", errors="replace"))


def _reason(error: Exception) -> str:
    """In words, without the address: it may hold a password."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "it cannot be reached: its name is not known"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        return f"it cannot be reached: {os.strerror(number) if number else type(error).__name__}"
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError):
        return "it closed the connection"
    return f"it cannot be read: {type(error).__name__}"
