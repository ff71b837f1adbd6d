"""One try: one HTTP exchange, its answer or how it failed. Never raises but for cancellation."""

import asyncio
import io
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import aiohttp
import msgspec
from opentelemetry import context as otel_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from evalmesh.adapters.guarded_sockets import socket_factory
from evalmesh.adapters.openai.bounds import LARGE_AT_ONCE, BodyReader, StreamMeter, TooMuch, read_start
from evalmesh.adapters.openai.errors import (
    Failure,
    Redactor,
    failure_of_exception,
    failure_of_fault,
    failure_of_status,
)
from evalmesh.adapters.openai.neighbours import SharedServer
from evalmesh.adapters.openai.target import Target
from evalmesh.adapters.openai.ways import Streamed, Way
from evalmesh.dialect.answer import Answer, Fault
from evalmesh.dialect.errors import Said, is_filtered, said_in_body
from evalmesh.dialect.sse import FrameTooLarge, SseParser, is_stream
from evalmesh.ports.endpoint import TRACED_CALL

_LARGE_BODY_BYTES = 1 << 20
_KEEPALIVE_S = 15.0
_END_OF_STREAM_S = 1.0
_LIST_BYTES = 8 << 20
"""The longest lists of models take a tenth of it; one that is cut is no list."""
_PROPAGATOR = TraceContextTextMapPropagator()


class _Model(msgspec.Struct):
    id: str | None = None


class _ModelList(msgspec.Struct):
    data: list[_Model] | None = None


class Asker(Protocol):
    """Whatever takes a body to a server."""

    async def ask(self, way: Way, body: bytes, timeout_s: float) -> Answer | Failure:
        """One exchange within `timeout_s`. Never raises but for cancellation."""
        ...

    async def models(self, timeout_s: float) -> list[str] | None:
        """What the server lists; empty for no list of ours, `None` where nothing answers."""
        ...

    async def close(self) -> None:
        """Ends what is asked."""
        ...


class OpenTransport(Protocol):
    """Opens one; see `Transport`."""

    def __call__(
        self,
        target: Callable[[], Target],
        server: SharedServer,
        *,
        stream: bool,
        try_timeout_s: float,
        connect_timeout_s: float,
    ) -> Asker: ...


class Transport:
    """The connections to one endpoint: one session, opened with the first request."""

    __slots__ = (
        "_connect_timeout_s",
        "_headers",
        "_large",
        "_server",
        "_session",
        "_stream",
        "_target",
        "_timeout",
        "_try_timeout_s",
    )

    def __init__(
        self,
        target: Callable[[], Target],
        server: SharedServer,
        *,
        stream: bool,
        try_timeout_s: float,
        connect_timeout_s: float,
    ) -> None:
        """`target` tells the one of now: its key may change, its address does not."""
        self._target = target
        self._server = server
        self._stream = stream
        self._try_timeout_s = try_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._timeout = self._timeout_of(try_timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._headers: Mapping[str, str] = {}
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    def _opened(self) -> aiohttp.ClientSession:
        """The shared session; must be called inside the event loop."""
        target = self._target()
        if self._session is None:
            self._headers = target.headers
            self._session = aiohttp.ClientSession(
                connector=self._server.connector(
                    (target.tls, target.egress),
                    lambda: aiohttp.TCPConnector(
                        limit=0,  # Who asks has a slot.
                        keepalive_timeout=_KEEPALIVE_S,
                        ttl_dns_cache=30,
                        ssl=target.tls or True,
                        socket_factory=socket_factory(target.egress),
                    ),
                ),
                connector_owner=False,
                headers=target.headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
                proxy=target.proxy or None,
            )
        elif target.headers is not self._headers:
            self._headers = target.headers
            self._session.headers.clear()
            self._session.headers.update(target.headers)
        return self._session

    async def models(self, timeout_s: float) -> list[str] | None:
        """What the server lists; empty for no list of ours, `None` where nothing answers."""
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        url = self._target().models_url
        try:
            async with self._opened().get(url, timeout=timeout, allow_redirects=False) as response:
                body = await read_start(response.content, _LIST_BYTES)
                return _names(body) if response.status < 300 else None if response.status >= 500 else []
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    async def ask(self, way: Way, body: bytes, timeout_s: float) -> Answer | Failure:
        """Posts the body and reads the answer, all within `timeout_s`."""
        timeout = self._timeout if timeout_s >= self._try_timeout_s else self._timeout_of(timeout_s)
        # A large bytes body makes the client warn; as a file it is sent piece by piece.
        data = body if len(body) < _LARGE_BODY_BYTES else io.BytesIO(body)
        target = self._target()
        redact = target.redact
        try:
            response = await self._opened().post(
                way.url, data=data, timeout=timeout, allow_redirects=False, headers=_trace_headers()
            )
            try:
                if not 200 <= response.status < 300:
                    start = await read_start(response.content)
                    if 400 <= response.status < 500 and is_filtered(said_in_body(start)):
                        return _filtered()
                    return failure_of_status(response.status, start, response.headers, redact)
                return await self._read(way, response.content, redact)
            finally:
                # Back to the pool if the answer was read to its end; closed otherwise, which stops the server's work.
                response.release()
        except TooMuch as error:
            # The same request would bring the same again.
            return Failure("malformed", f"The answer holds {error}; the rest was not read.", retryable=False)
        except Exception as error:  # noqa: BLE001 - the port promises that errors are part of the completion
            return failure_of_exception(error, target.where, min(timeout_s, self._try_timeout_s), redact)

    async def close(self) -> None:
        """Ends what is asked; the connections are the server's."""
        if self._session is not None:
            await self._session.close()

    async def _read(self, way: Way, content: aiohttp.StreamReader, redact: Redactor) -> Answer | Failure:
        """By how the body begins: a proxy may call it anything, and a server need not do as it was asked."""
        start = b""
        while (streams := is_stream(start)) is None and (block := await content.readany()):
            start = start.lstrip() + block
        found: Answer | Fault
        if streams and way.stream is not None:
            with StreamMeter(self._large) as meter:
                found = await _read_stream(content, start, meter, way.stream())
        else:
            with BodyReader(self._large) as reader:
                found = way.parse(await reader.read(content, start))
        if isinstance(found, Answer):
            return found
        reported = found.kind == "reported" and is_filtered(Said(found.message, found.code))
        return _filtered() if reported else failure_of_fault(found, redact)

    def _timeout_of(self, total_s: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=total_s, sock_connect=min(self._connect_timeout_s, total_s))


def _trace_headers() -> dict[str, str] | None:
    """By which a server that sends traces itself adds its part to the call's."""
    if not otel_context.get_value(TRACED_CALL):
        return None
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers)
    return headers


def _filtered() -> Answer:
    """What a content filter leaves of an answer where the server reports its work as an error."""
    return Answer("", None, "content_filter", None, ())


async def _read_stream(
    content: aiohttp.StreamReader, start: bytes, meter: StreamMeter, answer: Streamed
) -> Answer | Fault:
    parser, chunk = SseParser(), start
    try:
        while chunk:
            payloads = parser.feed(chunk)
            await meter.took(chunk, len(payloads), answer.held_bytes)
            at_s = time.perf_counter()
            for payload in payloads:
                if (fault := answer.add(payload, at_s)) is not None:
                    return fault
            if answer.done:
                await _drain(content)
                return answer.end()
            chunk = await content.readany()
    except (FrameTooLarge, TooMuch) as error:
        return Fault("malformed", f"The stream holds {error}; the rest was not read.", final=True)
    except (aiohttp.ClientError, OSError):
        if not answer.complete:
            raise
        # All of the text is there; only the usage may be lost.
        return answer.end()
    for payload in parser.finish():
        # The last event may be cut in the middle: then it says nothing.
        if answer.add(payload, time.perf_counter()) is not None:
            break
    return answer.end()


async def _drain(content: aiohttp.StreamReader) -> None:
    """Reads to the end, so that the connection can be used again; not for long, for the answer is there."""
    if content.at_eof():
        return
    try:
        async with asyncio.timeout(_END_OF_STREAM_S):
            while await content.readany():
                pass
    except (TimeoutError, aiohttp.ClientError, OSError):
        return


def _names(body: bytes) -> list[str]:
    try:
        models = msgspec.json.decode(body, type=_ModelList)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    return [model.id for model in models.data or () if model.id]
