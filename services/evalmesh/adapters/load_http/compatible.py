"""The transport for what the fast one does not do, proxies and unusual TLS: aiohttp, at a multiple of the cost."""

import asyncio
import io
import ssl
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace

import aiohttp
from yarl import URL

from evalmesh.adapters.guarded_sockets import socket_factory
from evalmesh.adapters.load_http.address import address_of, complete_headers
from evalmesh.adapters.load_http.causes import cause_of
from evalmesh.adapters.openai.bounds import read_start
from evalmesh.adapters.proxies import PROXY, proxy_for
from evalmesh.adapters.tls import tls_context
from evalmesh.dialect.sse import SseSplitter, is_stream
from evalmesh.domain.connection import Egress
from evalmesh.domain.load_test import LoadTarget
from evalmesh.load.exchange import DETAIL_BYTES, Exchange
from evalmesh.load.measure.records import Outcome

_LARGE_BODY_BYTES = 1 << 20
_KEEPALIVE_S = 15.0
_OUTCOMES: tuple[tuple[tuple[type[Exception], ...], Outcome], ...] = (
    ((aiohttp.ConnectionTimeoutError,), Outcome.CONNECT_TIMEOUT),
    ((aiohttp.SocketTimeoutError,), Outcome.READ_TIMEOUT),
    ((TimeoutError,), Outcome.TOTAL_TIMEOUT),
    ((aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError), Outcome.TLS),
    ((aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError), Outcome.CONNECT),
    ((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError, ConnectionError), Outcome.RESET),
)
"""The first that fits; subclasses stand before their bases."""


class CompatibleTransport:
    """See `ports.load_tests.http.LoadTransport`."""

    def __init__(
        self, target: LoadTarget, headers: Mapping[str, str], ended: Callable[[Exchange], None], egress: Egress
    ) -> None:
        """Raises `InvalidInput` for an address, headers or authorities that cannot be used."""
        self._target = target
        self._address = address_of(target.url)
        self._url = URL(target.url)
        self._headers = complete_headers(self._address, headers)
        self._tls: ssl.SSLContext | bool = True
        if self._address.scheme == "https":
            self._tls = tls_context(target.ca_file, verify=target.verify_tls, field="target.ca_file")
        self._proxy = proxy_for(target.url) or None
        self._ended = ended
        self._egress = egress
        self.opened = 0
        self._session: aiohttp.ClientSession | None = None
        self._tasks: dict[Exchange, asyncio.Task[None]] = {}

    def send(self, exchange: Exchange) -> None:
        exchange.send_s = time.monotonic()
        self._tasks[exchange] = asyncio.get_running_loop().create_task(self._carry(exchange))

    def cancel(self, exchange: Exchange) -> None:
        task = self._tasks.pop(exchange, None)
        if task is not None:
            task.cancel()
        exchange.end_s = time.monotonic()

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _carry(self, exchange: Exchange) -> None:
        outcome, detail = await self._outcome(exchange)
        if self._tasks.pop(exchange, None) is not None:
            exchange.end_s = time.monotonic()
            exchange.outcome, exchange.detail = outcome, detail
            self._ended(exchange)

    async def _outcome(self, exchange: Exchange) -> tuple[Outcome, str]:
        try:
            try:
                return await self._ask(exchange)
            except aiohttp.ServerDisconnectedError:
                if exchange.is_new or exchange.tries:
                    raise
                exchange.tries = 1
                return await self._ask(exchange)
        except Exception as error:  # noqa: BLE001 - whatever happens to a request is its outcome
            return self._failure(error)

    def _failure(self, error: Exception) -> tuple[Outcome, str]:
        outcome = next((found for kinds, found in _OUTCOMES if isinstance(error, kinds)), None)
        if outcome is None:
            # HTTP that cannot be read, or a plug-in that raises.
            return Outcome.MALFORMED, f"{type(error).__name__}: {error}"
        target = self._target
        match outcome:
            case Outcome.CONNECT_TIMEOUT:
                return outcome, f"no connection after {target.connect_timeout_s:g} s"
            case Outcome.READ_TIMEOUT:
                return outcome, f"nothing came for {target.read_timeout_s:g} s"
            case Outcome.TOTAL_TIMEOUT:
                return outcome, f"not complete after {target.total_timeout_s:g} s"
        cause = proxy_cause(error) or cause_of(error)
        if type(error) in {aiohttp.ClientConnectorError, aiohttp.ClientConnectorDNSError}:
            cause = f"{self._address.authority}: {cause}"
        return outcome, cause

    async def _ask(self, exchange: Exchange) -> tuple[Outcome, str]:
        body = exchange.body
        # A large bytes body makes the client warn; as a file it is sent piece by piece.
        data = body if len(body) < _LARGE_BODY_BYTES else io.BytesIO(body)
        async with self._open_session().post(
            self._url, data=data, allow_redirects=False, proxy=self._proxy, trace_request_ctx=exchange
        ) as response:
            exchange.first_byte_s = time.monotonic()
            exchange.status = response.status
            if response.status >= 300:
                where = response.headers.get("Location", "") if response.status < 400 else ""
                said = where or (await read_start(response.content, DETAIL_BYTES)).decode("utf-8", "replace")
                return Outcome.HTTP, said
            await _read(response.content, exchange)
            return Outcome.OK, ""

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_start.append(_connect_begins)
            trace.on_connection_create_end.append(self._connect_ends)
            target = self._target
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,
                    keepalive_timeout=_KEEPALIVE_S,
                    ssl=self._tls,
                    socket_factory=socket_factory(self._egress),
                ),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=target.total_timeout_s,
                    sock_connect=target.connect_timeout_s,
                    sock_read=target.read_timeout_s,
                ),
                trace_configs=[trace],
            )
        return self._session

    async def _connect_ends(
        self, _: aiohttp.ClientSession, context: SimpleNamespace, __: aiohttp.TraceConnectionCreateEndParams
    ) -> None:
        self.opened += 1
        exchange: Exchange = context.trace_request_ctx
        exchange.connect_s = time.monotonic() - context.begun_s


def proxy_cause(error: BaseException) -> str:
    """Why a proxy of the environment could not be used; empty for other errors."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"{PROXY} (https_proxy) refused with status {error.status}"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        where = f"{error.host}:{error.port}"
        return (
            f"{PROXY} (http_proxy, https_proxy), {where}: {cause_of(error)}; no_proxy names hosts to reach without it"
        )
    return ""


async def _connect_begins(
    _: aiohttp.ClientSession, context: SimpleNamespace, __: aiohttp.TraceConnectionCreateStartParams
) -> None:
    context.begun_s = time.monotonic()
    exchange: Exchange = context.trace_request_ctx
    exchange.is_new = True


async def _read(content: aiohttp.StreamReader, exchange: Exchange) -> None:
    """Hands the reader events as they come, or the body when it is there."""
    splitter = SseSplitter()
    reader = exchange.reader
    parts: list[bytes] = []
    held_bytes = 0
    now_s = exchange.first_byte_s
    streams: bool | None = None
    start = b""
    """Blanks and too little else to tell what it is."""
    while block := await content.readany():
        now_s = time.monotonic()
        if streams is None:
            block = start + block
            streams, start = is_stream(block), block.lstrip()
            if streams is None:
                continue
        if streams:
            reader.events(splitter.feed(block), now_s)
        else:
            parts.append(block)
            held_bytes += len(block)
            if held_bytes > exchange.most_bytes:
                raise ValueError(f"a body of more than {exchange.most_bytes >> 20} MiB")
    if streams:
        for data in splitter.finish():
            reader.cut(data, now_s)
    else:
        reader.whole(b"".join(parts) if parts else start, now_s)
