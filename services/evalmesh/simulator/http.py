"""HTTP/1.1 on a bare transport: keep-alive, pipelining, chunked bodies, 100-continue, and the ways to break it.

Requests of one connection are answered one after the other, in order. A client that goes away cancels the answer
in progress, as inference servers do.
"""

import asyncio
import itertools
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

import httptools

_MAX_PIPELINED = 64
_MAX_HEADER_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_WRITES_AT_ONCE = os.name == "posix"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One parsed request."""

    method: str
    path: str
    query: str
    authorization: str
    body: bytes
    keep_alive: bool
    is_http10: bool
    too_large: bool
    """The body was longer than allowed and was thrown away."""
    connection: int
    """Number of the connection it came over, from 1."""
    arrived_s: float
    """`time.monotonic()` when its first byte was read."""


class Exchange:
    """The answer to one request; exactly one of `send`, `end`, `abandon` or `reset` finishes it."""

    __slots__ = ("_chunked", "_connection", "_request", "done", "on_gone", "status")

    def __init__(self, connection: "Connection", request: HttpRequest) -> None:
        self._connection = connection
        self._request = request
        self._chunked = not request.is_http10
        self.done = False
        self.status = 0
        """The status sent; 0 before that."""
        self.on_gone: Callable[[], object] | None = None
        """Called when the client goes away before the answer is complete."""

    def send(self, status: int, body: bytes, headers: bytes = b"", content_type: bytes = b"application/json") -> None:
        """A whole answer. `headers` are lines that end with CRLF."""
        payload = b"" if self._request.method == "HEAD" else body
        self._write(self._head(status, content_type, headers, len(body)) + payload)
        self._finish(keep_alive=self._request.keep_alive)

    def send_part(self, body: bytes, share: float) -> None:
        """Promises the whole body and sends a part of it."""
        self._write(self._head(200, b"application/json", b"", len(body)) + body[: int(len(body) * share)])

    def begin_stream(self) -> None:
        """Starts an event stream."""
        self.status = 200
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
        if self._chunked:
            head += b"Transfer-Encoding: chunked\r\n"
        if not (self._request.keep_alive and self._chunked):
            head += b"Connection: close\r\n"
        self._write(head + b"\r\n")

    def frame(self, event: bytes) -> bytes:
        """An event as it goes on the wire."""
        return b"%x\r\n%b\r\n" % (len(event), event) if self._chunked else event

    def write(self, event: bytes) -> None:
        """Sends one event of a stream."""
        self._write(self.frame(event))

    def write_framed(self, data: bytes) -> None:
        """Sends events that `frame` made."""
        self._write(data)

    def cut(self, event: bytes) -> None:
        """Sends half of an event and closes (FIN): the chunk, and so the HTTP message, stays incomplete."""
        frame = self.frame(event)
        self._write(frame[: max(1, len(frame) // 2)])
        self.abandon()

    @property
    def is_writable(self) -> bool:
        """Whether the client reads fast enough for more to be sent now."""
        return self._connection.is_writable

    def end(self, last: bytes = b"") -> None:
        """Ends a stream; `last` are framed events that go out with the end."""
        if self._chunked:
            last += b"0\r\n\r\n"
        if last:
            self._write(last)
        self._finish(keep_alive=self._request.keep_alive and self._chunked)

    def abandon(self) -> None:
        """Closes the connection in the middle, politely (FIN)."""
        self._finish(keep_alive=False)

    def reset(self) -> None:
        """Breaks the connection in the middle (RST)."""
        self.done = True
        self._connection.reset()

    async def drained(self) -> None:
        """Waits while the client reads too slowly."""
        await self._connection.drained()

    def _head(self, status: int, content_type: bytes, headers: bytes, length: int) -> bytes:
        self.status = status
        reason = _REASONS.get(status, "Unknown").encode()
        close = b"" if self._request.keep_alive else b"Connection: close\r\n"
        if self._request.is_http10 and self._request.keep_alive:
            close = b"Connection: keep-alive\r\n"
        return b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b%b\r\n" % (
            status,
            reason,
            content_type,
            length,
            close,
            headers,
        )

    def _write(self, data: bytes) -> None:
        if not self.done:
            self._connection.write(data)

    def _finish(self, *, keep_alive: bool) -> None:
        if not self.done:
            self.done = True
            self._connection.exchange_done(keep_alive=keep_alive)


Handler = Callable[[HttpRequest, Exchange], None]


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, handler: Handler, max_body_bytes: int, on_change: Callable[["Connection", bool], None]) -> None:
        self._handler = handler
        self._max_body_bytes = max_body_bytes
        self._on_change = on_change
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[HttpRequest] = deque()
        self._exchange: Exchange | None = None
        self._pumping = False
        self._refused = False
        self._reading = True
        self._writable: asyncio.Event | None = None
        self._file = -1
        self.number = next(_numbers)
        self.on_message_begin()

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio.Transport, so a type check would refuse them.
        self._transport = cast("asyncio.Transport", transport)
        if _WRITES_AT_ONCE:
            self._file = transport.get_extra_info("socket").fileno()
        self._on_change(self, True)  # noqa: FBT003 - positional by the callback's type

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._refused = True
        self._queue.clear()
        if self._writable is not None:
            self._writable.set()
        self._on_change(self, False)  # noqa: FBT003 - positional by the callback's type
        exchange, self._exchange = self._exchange, None
        if exchange is not None and not exchange.done:
            exchange.done = True
            if exchange.on_gone is not None:
                exchange.on_gone()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(b"400 Bad Request")
        except httptools.HttpParserError:
            self._refuse(b"400 Bad Request")

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = asyncio.Event()
        self._writable.clear()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set()

    # The parser's side.

    def on_message_begin(self) -> None:
        self._arrived_s = time.monotonic()
        self._url = b""
        self._authorization = ""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._header_bytes = 0
        self._expects_continue = False
        self._declared_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > _MAX_HEADER_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")
            return
        match name.lower():
            case b"authorization":
                self._authorization = value.decode("latin-1")
            case b"x-api-key":  # Anthropic's place for it
                self._authorization = "Bearer " + value.decode("latin-1")
            case b"expect":
                self._expects_continue = value.lower() == b"100-continue"
            case b"content-length":
                self._declared_bytes = int(value) if value.isdigit() else 0

    def on_headers_complete(self) -> None:
        if not self._expects_continue or self._refused:
            return
        if self._declared_bytes > self._max_body_bytes:
            self._refuse(b"413 Content Too Large")
        elif self._exchange is None and not self._queue:
            # With an answer in progress the client must wait or send without leave; both are allowed.
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes <= self._max_body_bytes:
            self._body.append(data)
        else:
            self._body.clear()

    def on_message_complete(self) -> None:
        if self._refused:
            return
        path, _, query = self._url.decode("latin-1").partition("?")
        self._queue.append(
            HttpRequest(
                method=self._parser.get_method().decode("latin-1"),
                path=path,
                query=query,
                authorization=self._authorization,
                body=self._body[0] if len(self._body) == 1 else b"".join(self._body),
                keep_alive=bool(self._parser.should_keep_alive()),
                is_http10=self._parser.get_http_version() == "1.0",
                too_large=self._body_bytes > self._max_body_bytes,
                connection=self.number,
                arrived_s=self._arrived_s,
            )
        )
        if self._reading and len(self._queue) >= _MAX_PIPELINED and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()
        self._pump()

    # The exchange's side.

    def write(self, data: bytes) -> None:
        """Hands bytes to the kernel, or to the transport's buffer.

        uvloop would keep them until the end of the loop's turn, long after the time that the truth has for them.
        """
        transport = self._transport
        if transport is None:
            return
        if self._file >= 0 and not transport.is_closing() and not transport.get_write_buffer_size():
            try:
                data = data[os.write(self._file, data) :]
            except BlockingIOError:
                pass
            except OSError:
                self._file = -1  # The transport meets the same error and tells of it.
        if data:
            transport.write(data)

    @property
    def is_writable(self) -> bool:
        """Whether the transport's buffer is low."""
        return self._writable is None or self._writable.is_set()

    async def drained(self) -> None:
        """Waits until the transport's buffer is low."""
        if self._writable is not None:
            await self._writable.wait()

    def exchange_done(self, *, keep_alive: bool) -> None:
        """The answer is complete: on to the next request, or close."""
        self._exchange = None
        if not keep_alive:
            self.close()
        elif self._queue and not self._pumping:
            self._pump()

    def close(self) -> None:
        """Sends what is buffered, then closes."""
        self._refused = True
        self._queue.clear()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Closes without sending what is buffered."""
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """Makes the kernel answer with RST instead of FIN."""
        transport = self._transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        with suppress(OSError, AttributeError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._refused = True
        self._queue.clear()
        self._exchange = None
        transport.abort()

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._queue and self._exchange is None:
                request = self._queue.popleft()
                if not self._reading and len(self._queue) < _MAX_PIPELINED and self._transport is not None:
                    self._reading = True
                    self._transport.resume_reading()
                exchange = self._exchange = Exchange(self, request)
                self._handler(request, exchange)
        finally:
            self._pumping = False

    def _refuse(self, status_line: bytes) -> None:
        """The connection cannot go on: its framing is lost."""
        if self._refused:
            return
        if self._exchange is None:
            self.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status_line)
        self.close()
