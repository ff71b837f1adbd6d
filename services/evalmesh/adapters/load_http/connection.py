"""One connection of the fast transport: writes a request with one call, reads its answer as it comes."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import httptools

from evalmesh.adapters.load_http.sse import SseSplitter
from evalmesh.load.records import Outcome
from evalmesh.ports.load_http import Exchange

if TYPE_CHECKING:
    from evalmesh.adapters.load_http.fast import FastTransport

_UNDECIDED, _STREAM, _WHOLE, _REFUSED = range(4)
"""What the body of the answer is."""
_NO_STREAM = frozenset({b"{", b"[", b"<", b"\x1f"})
_RACE_S = 0.25
"""A server that closes an idle connection does so at once; later than this it had the request."""
_HEAD_BYTES = 64 * 1024
_DETAIL_BYTES = 1024
_monotonic = time.monotonic


class Connection(asyncio.Protocol):
    """Carries one exchange at a time. The names of its `on_` methods are those httptools looks for."""

    __slots__ = (
        "_complete",
        "_exchange",
        "_feed",
        "_head",
        "_keep",
        "_mode",
        "_parser",
        "_parts",
        "_pool",
        "_saw_end",
        "_send_error",
        "_served",
        "_socket",
        "_splitter",
        "_status",
        "_transport",
        "on_body",
        "seen_s",
    )

    def __init__(self, pool: "FastTransport", own_socket: socket.socket | None) -> None:
        """With `own_socket` (no TLS) requests are written straight into it, so that the time of sending is true."""
        self._pool = pool
        self._socket = own_socket
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        """Pieces of the body that nobody has looked at."""
        self.on_body = self._parts.append
        """The parser's callback: no step of Python per piece of the body, of which one packet can bring many."""
        self._parser = httptools.HttpResponseParser(self)
        self._feed: Callable[[bytes], None] = self._parser.feed_data
        self._splitter = SseSplitter()
        self._exchange: Exchange | None = None
        self._served = 0
        self._send_error: OSError | None = None
        self._saw_end = False
        self.seen_s = 0.0
        """When the last byte came or went."""
        self._forget_answer()

    def _forget_answer(self) -> None:
        self._head = b""
        self._status = 0
        self._mode = _UNDECIDED
        self._complete = False
        self._keep = False

    @property
    def exchange(self) -> Exchange | None:
        """What is under way."""
        return self._exchange

    def send(self, exchange: Exchange) -> None:
        """Writes the request. A connection that turns out to be broken ends the exchange a little later."""
        self._exchange = exchange
        exchange.carrier = self
        body = exchange.body
        data = self._pool.head + b"%d\r\n\r\n" % len(body) + body
        now_s = _monotonic()
        if not exchange.send_s:
            exchange.send_s = now_s
        self.seen_s = now_s
        transport = self._transport
        if transport is None:
            # Lost between the end of the handshake and now.
            self._exchange = None
            asyncio.get_running_loop().call_soon(self._pool.end, exchange, Outcome.RESET, _how_lost(None, 0), now_s)
            return
        sent = 0
        if self._socket is not None and not transport.get_write_buffer_size():
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                pass
            except OSError as error:
                self._send_error = error
                transport.abort()
                return
        if sent < len(data):
            transport.write(memoryview(data)[sent:] if sent else data)

    def drop(self) -> None:
        """Closes the connection, and tells nobody about its exchange."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    def fail(self, outcome: Outcome, detail: str) -> None:
        """Ends the exchange with a failure, and the connection with it."""
        exchange = self._exchange
        self.drop()
        if exchange is not None:
            self._pool.end(exchange, outcome, detail, _monotonic())

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked: uvloop's transports are no asyncio.Transport by class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.seen_s = now_s = _monotonic()
        exchange = self._exchange
        if exchange is None:
            # Nobody asked: an idle connection that speaks is of no more use.
            self.drop()
            return
        if not self._status:
            if not exchange.first_byte_s:
                exchange.first_byte_s = now_s
            if len(self._head) < _HEAD_BYTES:
                self._head += data
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self.fail(Outcome.MALFORMED, f"HTTP that cannot be read: {error}")
            return
        except httptools.HttpParserUpgrade:
            self.fail(Outcome.MALFORMED, "the server wants to speak another protocol")
            return
        if self._parts and self._mode < _WHOLE:
            try:
                self._read(exchange, now_s)
            except Exception as error:  # noqa: BLE001 - an endless event; a plug-in that raises
                self.fail(Outcome.MALFORMED, f"{type(error).__name__}: {error}")
                return
        if self._complete:
            self._end_message(exchange)

    def _read(self, exchange: Exchange, now_s: float) -> None:
        """Hands the reader the events that have come."""
        parts = self._parts
        block = parts[0] if len(parts) == 1 else b"".join(parts)
        if not self._mode:
            # A line of an event stream cannot begin with a brace: that is JSON, whatever was asked for.
            if block.lstrip()[:1] in _NO_STREAM:
                self._mode = _WHOLE
                return
            self._mode = _STREAM
        parts.clear()
        exchange.reader.events(self._splitter.feed(block), now_s)

    def eof_received(self) -> bool:
        self._saw_end = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        self._transport = self._socket = None
        # The parser holds methods of this object: without this, both wait for the garbage collector.
        del self._parser, self._feed
        self._pool.lost(self)
        if exchange is None:
            return
        if self._is_race(exchange, exc):
            self._pool.retry(exchange)
        elif self._ends_with_connection() and exc is None:
            self._pool.end(exchange, *self._read_rest(exchange), _monotonic())
        else:
            why = _how_lost(exc or self._send_error, self._status)
            self._pool.end(exchange, Outcome.RESET, why, _monotonic())

    def _is_race(self, exchange: Exchange, exc: Exception | None) -> bool:
        """Whether the server had closed this idle connection before it saw the request.

        Then its end of stream came before anything else. A server that breaks the connection because of the request
        sends a reset, and that counts.
        """
        if not self._served or exchange.first_byte_s or exchange.tries:
            return False
        if self._send_error is not None:
            return True
        ended = self._saw_end or isinstance(exc, BrokenPipeError)
        return ended and _monotonic() - self.seen_s < _RACE_S

    def _ends_with_connection(self) -> bool:
        """Whether the answer says nothing about its length, as HTTP/1.0 servers do: then the end is its end."""
        if not self._status or not self._saw_end:
            return False
        head = self._head.partition(b"\r\n\r\n")[0].lower()
        return b"\ncontent-length:" not in head and b"\ntransfer-encoding:" not in head

    # httptools

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and self._exchange is not None:
            self._status = self._exchange.status = status
            if status >= 300:
                self._mode = _REFUSED

    def on_message_complete(self) -> None:
        if self._status:
            self._complete = True
            self._keep = self._parser.should_keep_alive()

    # The end of an answer

    def _end_message(self, exchange: Exchange) -> None:
        self._exchange = None
        outcome, detail = self._read_rest(exchange)
        transport = self._transport
        if (
            self._keep
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        ):
            self._served += 1
            self._forget_answer()
            self._pool.rest(self)
        elif transport is not None:
            transport.abort()
        self._pool.end(exchange, outcome, detail, self.seen_s)

    def _read_rest(self, exchange: Exchange) -> tuple[Outcome, str]:
        """Hands the reader what could not be read before the message was complete."""
        body = b"".join(self._parts) if self._parts else b""
        self._parts.clear()
        if self._mode == _REFUSED:
            return Outcome.HTTP, body[:_DETAIL_BYTES].decode("utf-8", "replace")
        try:
            if self._mode == _STREAM:
                for data in self._splitter.finish():
                    exchange.reader.cut(data, self.seen_s)
                self._splitter.reset()
            else:
                exchange.reader.whole(body, self.seen_s)
        except Exception as error:  # noqa: BLE001 - a plug-in that raises must not take the load test with it
            return Outcome.MALFORMED, f"{type(error).__name__}: {error}"
        return Outcome.OK, ""


def _how_lost(error: Exception | None, status: int) -> str:
    where = "in the middle of the answer" if status else "before an answer"
    if error is None:
        return f"the server closed the connection {where}"
    return f"the connection broke {where}: {error}"
