"""One try: one HTTP exchange, its answer or how it failed. Never raises but for cancellation."""

import asyncio
import io
import ssl
from collections.abc import Callable, Mapping

import aiohttp
from yarl import URL

from evalmesh.adapters.guarded_sockets import socket_factory
from evalmesh.adapters.openai.answer import Answer, StreamedAnswer, parse_answer
from evalmesh.adapters.openai.bounds import LARGE_AT_ONCE, BodyReader, StreamMeter, TooMuch, read_start
from evalmesh.adapters.openai.errors import Failure, Redactor, failure_of_exception, failure_of_status
from evalmesh.adapters.openai.neighbours import SharedServer
from evalmesh.adapters.openai.stream import FrameTooLarge, SseParser
from evalmesh.adapters.openai.target import Target

_LARGE_BODY_BYTES = 1 << 20
_KEEPALIVE_S = 15.0
_END_OF_STREAM_S = 1.0


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

    def session(self) -> aiohttp.ClientSession:
        """The shared session; must be called inside the event loop."""
        target = self._target()
        if self._session is None:
            self._headers = target.headers
            self._session = aiohttp.ClientSession(
                connector=self._server.connector(
                    (target.verify_tls, target.egress),
                    lambda: aiohttp.TCPConnector(
                        limit=0,  # Who asks has a slot.
                        keepalive_timeout=_KEEPALIVE_S,
                        ttl_dns_cache=30,
                        ssl=True if target.verify_tls else _unverified(),
                        socket_factory=socket_factory(target.egress),
                    ),
                ),
                connector_owner=False,
                headers=target.headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
            )
        elif target.headers is not self._headers:
            self._headers = target.headers
            self._session.headers.clear()
            self._session.headers.update(target.headers)
        return self._session

    async def ask(self, url: URL, body: bytes, timeout_s: float) -> Answer | Failure:
        """Posts the body and reads the answer, all within `timeout_s`."""
        timeout = self._timeout if timeout_s >= self._try_timeout_s else self._timeout_of(timeout_s)
        # A large bytes body makes the client warn; as a file it is sent piece by piece.
        data = body if len(body) < _LARGE_BODY_BYTES else io.BytesIO(body)
        target = self._target()
        redact = target.redact
        try:
            response = await self.session().post(url, data=data, timeout=timeout, allow_redirects=False)
            try:
                if not 200 <= response.status < 300:
                    start = await read_start(response.content)
                    return failure_of_status(response.status, start, response.headers, redact)
                if self._stream and response.content_type != "application/json":
                    with StreamMeter(self._large) as meter:
                        return await self._read_stream(response, meter, redact)
                with BodyReader(self._large) as reader:
                    return parse_answer(await reader.read(response.content), redact)
            finally:
                # Back to the pool if the answer was read to its end; closed otherwise, which stops the server's work.
                response.release()
        except TooMuch as error:
            # The same request would bring the same again.
            return Failure("malformed", f"The answer holds {error}; the rest was not read.", retryable=False)
        except RecursionError:
            return Failure("malformed", "The answer is nested more deeply than JSON is read.")
        except Exception as error:  # noqa: BLE001 - the port promises that errors are part of the completion
            return failure_of_exception(error, target.where, min(timeout_s, self._try_timeout_s), redact)

    async def close(self) -> None:
        """Ends what is asked; the connections are the server's."""
        if self._session is not None:
            await self._session.close()

    async def _read_stream(
        self, response: aiohttp.ClientResponse, meter: StreamMeter, redact: Redactor
    ) -> Answer | Failure:
        parser, answer = SseParser(), StreamedAnswer(redact)
        content = response.content
        try:
            while chunk := await content.readany():
                payloads = parser.feed(chunk)
                await meter.took(chunk, len(payloads), answer.held_bytes)
                for payload in payloads:
                    if (failure := answer.add(payload)) is not None:
                        return failure
                if answer.done:
                    await _drain(content)
                    return answer.end()
        except (FrameTooLarge, TooMuch) as error:
            return Failure("malformed", f"The stream holds {error}; the rest was not read.", retryable=False)
        except (aiohttp.ClientError, OSError):
            if not answer.complete:
                raise
            # All of the text is there; only the usage may be lost.
            return answer.end()
        for payload in parser.finish():
            # The last event may be cut in the middle: then it says nothing.
            if answer.add(payload) is not None:
                break
        return answer.end()

    def _timeout_of(self, total_s: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=total_s, sock_connect=min(self._connect_timeout_s, total_s))


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


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
