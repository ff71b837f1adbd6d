"""One connection of the fast transport: writes a request with one call, reads its answer as it comes."""

import asyncio
import re
import socket
import time
from collections.abc import Callable, Iterable
from typing import Protocol, cast

import httptools

from evalmesh.dialect.sse import SseSplitter, is_stream
from evalmesh.load.exchange import DETAIL_BYTES, Exchange
from evalmesh.load.measure.records import OK, Outcome

_UNDECIDED, _STREAM, _WHOLE, _REFUSED = range(4)
"""What the body of the answer is."""
_RACE_S = 0.25
"""A server that closes an idle connection does so at once; later than this it had the request."""
_FRESH_S = 0.002
"""A connection that was heard of just now is not asked whether it has ended: that costs a tenth of a short request."""
_HEAD_BYTES = 64 * 1024
_LOCATION = re.compile(rb"^location:[ \t]*(.*?)\r$", re.IGNORECASE | re.MULTILINE)
"""Where a redirect points to: more than its body, this tells what to do."""
_monotonic = time.monotonic


class Pool(Protocol):
    """Who has connections, and hears what becomes of them and of their exchanges."""

    @property
    def head(self) -> bytes:
        """What every request begins with, up to the value of its content length."""

    def rest(self, connection: "HttpConnection") -> None:
        """Takes a connection back that can be used again."""

    def lost(self, connection: "HttpConnection") -> None:
        """Forgets a connection."""

    def end(self, exchange: Exchange, outcome: Outcome, detail: str, end_s: float) -> None:
        """Tells that an exchange has ended."""

    def retry(self, exchange: Exchange) -> None:
        """Sends once more, on a new connection."""


class HttpConnection(asyncio.Protocol):
    """Carries one exchange at a time. The names of its `on_` methods are those httptools looks for."""

    __slots__ = (
        "_complete",
        "_events",
        "_exchange",
        "_feed",
        "_head",
        "_held_bytes",
        "_is_clean",
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

    def __init__(self, pool: Pool, own_socket: socket.socket | None) -> None:
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
        self._events: Callable[[Iterable[bytes], float], None] = _nobody
        """The reader's method, at hand."""
        self._served = 0
        self._send_error: OSError | None = None
        self._saw_end = False
        self.seen_s = 0.0
        """When the last byte came or went."""
        self._forget_answer()

    def _forget_answer(self) -> None:
        self._head = b""
        self._held_bytes = 0
        self._status = 0
        self._mode = _UNDECIDED
        self._is_clean = False
        """The next byte of the stream begins an event."""
        self._complete = False
        self._keep = False

    @property
    def exchange(self) -> Exchange | None:
        """What is under way."""
        return self._exchange

    def has_ended(self) -> bool:
        """Whether an idle connection has ended, or said something unasked, of which the loop has not heard yet.

        TLS cannot tell.
        """
        if self._socket is None or _monotonic() - self.seen_s < _FRESH_S:
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def send(self, exchange: Exchange) -> None:
        """Writes the request. A connection that turns out to be broken ends the exchange a little later."""
        self._exchange = exchange
        self._events = exchange.reader.events
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
        self._events = _nobody
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
        """Runs once per packet, in most streams once per token: few steps, for they are what a load test costs."""
        self.seen_s = now_s = _monotonic()
        if not self._status and not self._begin(data, now_s):
            return
        try:
            self._feed(data)
            parts = self._parts
            if self._mode >= _WHOLE:
                self._hold(data)
            elif parts:
                block = parts.pop() if len(parts) == 1 else self._join()
                if self._is_clean and block[:6] == b"data: " and block[-2:] == b"\n\n" and block.count(b"\n") == 2:
                    # The splitter would find the same.
                    self._events((block[6:-2],), now_s)
                else:
                    self._read(block, now_s)
        except httptools.HttpParserError as error:
            self.fail(Outcome.MALFORMED, f"HTTP that cannot be read: {error}")
        except httptools.HttpParserUpgrade:
            self.fail(Outcome.MALFORMED, "the server wants to speak another protocol")
        except Exception as error:  # noqa: BLE001 - an endless event; a plug-in that raises
            self.fail(Outcome.MALFORMED, f"{type(error).__name__}: {error}")
        if self._complete and self._exchange is not None:
            self._end_message(self._exchange)

    def _begin(self, data: bytes, now_s: float) -> bool:
        """The first packets of an answer, up to the end of its head; whether anybody waits for one."""
        exchange = self._exchange
        if exchange is None:
            # Nobody asked: an idle connection that speaks is of no more use.
            self.drop()
            return False
        if not exchange.first_byte_s:
            exchange.first_byte_s = now_s
        if len(self._head) < _HEAD_BYTES:
            self._head += data
        return True

    def _hold(self, data: bytes) -> None:
        """More of a body that is looked at when it is complete."""
        self._held_bytes += len(data)
        exchange = self._exchange
        if exchange is not None and self._held_bytes > exchange.most_bytes:
            self.fail(Outcome.MALFORMED, f"a body of more than {exchange.most_bytes >> 20} MiB")

    def _join(self) -> bytes:
        block = b"".join(self._parts)
        self._parts.clear()
        return block

    def _read(self, block: bytes, now_s: float) -> None:
        """What is not one whole event: several, a part of one, or the beginning of a body."""
        if not self._mode:
            # By how it begins, whatever was asked for and whatever it is called.
            streams = block[:5] == b"data:" or is_stream(block)
            if streams is not True:
                self._mode = _UNDECIDED if streams is None else _WHOLE
                self._parts.append(block if streams is False else block.lstrip())
                return
            self._mode = _STREAM
        self._events(self._splitter.feed(block), now_s)
        self._is_clean = self._splitter.is_clean

    def eof_received(self) -> bool:
        self._saw_end = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        self._events = _nobody
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
        self._events = _nobody
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
            found = _LOCATION.search(self._head) if self._status < 400 else None
            said = (found[1] if found is not None else b"") or body
            return Outcome.HTTP, said[:DETAIL_BYTES].decode("utf-8", "replace")
        try:
            if self._mode == _STREAM:
                for data in self._splitter.finish() if not self._is_clean else ():
                    exchange.reader.cut(data, self.seen_s)
                self._splitter.reset()
            else:
                exchange.reader.whole(body, self.seen_s)
        except Exception as error:  # noqa: BLE001 - a plug-in that raises must not take the load test with it
            return Outcome.MALFORMED, f"{type(error).__name__}: {error}"
        return OK, ""


def _nobody(found: Iterable[bytes], at_s: float) -> None:
    """Hears events of an exchange that was dropped."""


def _how_lost(error: Exception | None, status: int) -> str:
    where = "in the middle of the answer" if status else "before an answer"
    if error is None:
        return f"the server closed the connection {where}"
    return f"the connection broke {where}: {error}"
