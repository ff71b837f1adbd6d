"""The transport for load: HTTP/1.1 on kept connections, on asyncio's protocols and httptools.

Times of events are those of their arrival at the process; nothing is queued between the socket and the reader.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

from evalmesh.adapters.guarded_sockets import check_address
from evalmesh.adapters.load_http.address import address_of, request_head
from evalmesh.adapters.load_http.causes import cause_of
from evalmesh.adapters.load_http.connection import HttpConnection
from evalmesh.adapters.tls import tls_context
from evalmesh.domain.connection import Egress
from evalmesh.domain.load_test import LoadTarget
from evalmesh.load.exchange import Exchange
from evalmesh.load.measure.records import Outcome

_SWEEPS_PER_TIMEOUT = 20
_SHORTEST_SWEEP_S, _LONGEST_SWEEP_S = 0.02, 0.25
_ADDRESSES_KEPT_S = 30.0
Addresses = list[tuple[socket.AddressFamily, tuple[object, ...]]]


class FastTransport:
    """See `ports.load_tests.http.LoadTransport`. Of idle connections the one used last is used first."""

    def __init__(
        self, target: LoadTarget, headers: Mapping[str, str], ended: Callable[[Exchange], None], egress: Egress
    ) -> None:
        """Raises `InvalidInput` for an address, headers or authorities that cannot be used."""
        self._target = target
        self._address = address_of(target.url)
        self._ended = ended
        self._egress = egress
        self._tls = None
        if self._address.scheme == "https":
            self._tls = tls_context(target.ca_file, verify=target.verify_tls, field="target.ca_file")
        self.head = request_head(self._address, headers)
        self.opened = 0
        self._idle: list[HttpConnection] = []
        self._busy: set[HttpConnection] = set()
        self._connecting: dict[Exchange, asyncio.Task[None]] = {}
        self._addresses: Addresses = []
        self._addresses_until_s = 0.0
        self._resolving: asyncio.Task[Addresses] | None = None
        # Ahead of the first request, which must not wait for it.
        self._look_up_again()
        self._sweeper: asyncio.TimerHandle | None = None
        shortest = min(target.read_timeout_s, target.total_timeout_s) / _SWEEPS_PER_TIMEOUT
        self._sweep_s = min(max(shortest, _SHORTEST_SWEEP_S), _LONGEST_SWEEP_S)

    def send(self, exchange: Exchange) -> None:
        connection = self._take_idle()
        if connection is not None:
            self._busy.add(connection)
            connection.send(exchange)
        else:
            exchange.send_s = time.monotonic()
            self._open(exchange)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._sweep_s, self._sweep)

    def _take_idle(self) -> HttpConnection | None:
        """The one that rested last, unless the server has closed it and this loop has not heard of it yet."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_ended():
                return connection
            connection.drop()
        return None

    def cancel(self, exchange: Exchange) -> None:
        task = self._connecting.pop(exchange, None)
        if task is not None:
            task.cancel()
        elif isinstance(exchange.carrier, HttpConnection) and exchange.carrier.exchange is exchange:
            exchange.carrier.drop()
        exchange.end_s = time.monotonic()

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in (*self._idle, *self._busy):
            connection.drop()
        tasks: list[asyncio.Task[Any]] = list(self._connecting.values())
        if self._resolving is not None:
            tasks.append(self._resolving)
        self._connecting.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Connections that were dropped tell so in the next turn of the loop.
        await asyncio.sleep(0)

    # `connection.Pool`

    def rest(self, connection: HttpConnection) -> None:
        self._busy.discard(connection)
        self._idle.append(connection)

    def lost(self, connection: HttpConnection) -> None:
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def end(self, exchange: Exchange, outcome: Outcome, detail: str, end_s: float) -> None:
        exchange.carrier = None
        exchange.outcome = outcome
        exchange.detail = detail
        exchange.end_s = end_s
        self._ended(exchange)

    def retry(self, exchange: Exchange) -> None:
        exchange.tries += 1
        self._open(exchange)

    # Timeouts

    def _sweep(self) -> None:
        """One look at all that is under way, instead of a timer for each."""
        now_s = time.monotonic()
        silent_since_s = now_s - self._target.read_timeout_s
        begun_s = now_s - self._target.total_timeout_s
        for connection in tuple(self._busy):
            exchange = connection.exchange
            if exchange is None:
                continue
            if exchange.send_s < begun_s:
                connection.fail(Outcome.TOTAL_TIMEOUT, f"not complete after {self._target.total_timeout_s:g} s")
            elif connection.seen_s < silent_since_s:
                connection.fail(Outcome.READ_TIMEOUT, f"nothing came for {self._target.read_timeout_s:g} s")
        self._sweeper = asyncio.get_running_loop().call_later(self._sweep_s, self._sweep)

    # Connections

    def _open(self, exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(self._connect_and_send(exchange))
        self._connecting[exchange] = task

    async def _connect_and_send(self, exchange: Exchange) -> None:
        begun_s = time.monotonic()
        failure: tuple[Outcome, str] | None = None
        connection: HttpConnection | None = None
        try:
            async with asyncio.timeout(self._target.connect_timeout_s):
                connection = await self._connect()
        except TimeoutError:
            failure = (Outcome.CONNECT_TIMEOUT, f"no connection after {self._target.connect_timeout_s:g} s")
        except ssl.SSLError as error:
            failure = (Outcome.TLS, cause_of(error))
        except _HandshakeError as error:
            failure = (Outcome.TLS, str(error))
        except OSError as error:
            failure = (Outcome.CONNECT, f"{self._address.authority}: {cause_of(error)}")
        finally:
            still_wanted = self._connecting.pop(exchange, None) is not None
        now_s = time.monotonic()
        exchange.is_new = True
        exchange.connect_s = now_s - begun_s
        if failure is not None and still_wanted:
            self.end(exchange, *failure, now_s)
        elif connection is not None and still_wanted:
            self._busy.add(connection)
            connection.send(exchange)
        elif connection is not None:
            connection.drop()

    async def _connect(self) -> HttpConnection:
        """Tries one address after the other. Raises what the last one raised."""
        loop = asyncio.get_running_loop()
        problem: OSError | None = None
        for family, place in tuple(await self._resolve()):
            own = socket.socket(family, socket.SOCK_STREAM)
            try:
                check_address(self._egress, place[0])
                own.settimeout(0)
                own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await _connected(loop, own, place)
            except OSError as error:
                own.close()
                problem = error
                continue
            except BaseException:
                own.close()
                raise
            self._prefer(family, place)
            return await self._attach(own)
        raise problem or OSError(f"{self._address.host} has no address")

    async def _attach(self, own: socket.socket) -> HttpConnection:
        """Makes a connection of a connected socket; with TLS, after the handshake."""
        loop = asyncio.get_running_loop()
        tls = self._tls
        self.opened += 1
        try:
            _, connection = await loop.create_connection(
                lambda: HttpConnection(self, own if tls is None else None),
                sock=own,
                ssl=tls,
                server_hostname=self._address.host if tls is not None else None,
            )
        except ssl.SSLError:
            own.close()
            raise
        except OSError as error:
            own.close()
            if tls is None:
                raise
            raise _HandshakeError(f"the connection broke in the TLS handshake: {error}") from error
        except BaseException:
            own.close()
            raise
        return connection

    async def _resolve(self) -> Addresses:
        """All addresses of the host. Known ones are used while they are asked for again."""
        if time.monotonic() >= self._addresses_until_s:
            self._look_up_again()
        if self._addresses or self._resolving is None:
            return self._addresses
        return await asyncio.shield(self._resolving)

    def _look_up_again(self) -> None:
        """Many connections that are opened at once ask once."""
        if self._resolving is None:
            self._resolving = asyncio.get_running_loop().create_task(self._look_up())
            self._resolving.add_done_callback(self._looked_up)

    async def _look_up(self) -> Addresses:
        host, port = self._address.host, self._address.port
        # An address of numbers is there at once: no thread is asked for it.
        for family, place in ((socket.AF_INET, (host, port)), (socket.AF_INET6, (host, port, 0, 0))):
            with contextlib.suppress(OSError):
                socket.inet_pton(family, host)
                return [(family, place)]
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [(family, place) for family, _, _, _, place in found]

    def _looked_up(self, task: asyncio.Task[Addresses]) -> None:
        self._resolving = None
        if not task.cancelled() and task.exception() is None:
            self._addresses = task.result()
            self._addresses_until_s = time.monotonic() + _ADDRESSES_KEPT_S

    def _prefer(self, family: socket.AddressFamily, place: tuple[object, ...]) -> None:
        """The address that worked is tried first from now on."""
        if self._addresses and self._addresses[0][1] != place:
            self._addresses = [(family, place), *(one for one in self._addresses if one[1] != place)]


async def _connected(loop: asyncio.AbstractEventLoop, own: socket.socket, place: tuple[object, ...]) -> None:
    """Connects to an address that is known. uvloop's own call asks a thread for it all the same: 1 to 3 ms."""
    try:
        own.connect(place)
    except BlockingIOError:
        done = loop.create_future()
        loop.add_writer(own.fileno(), _tell, done)
        try:
            await done
        finally:
            loop.remove_writer(own.fileno())
        code = own.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code)) from None


def _tell(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)


class _HandshakeError(Exception):
    """The connection ended in the middle of the TLS handshake."""
