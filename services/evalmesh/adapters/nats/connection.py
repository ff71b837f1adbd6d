"""One connection to NATS that outlives the server behind it.

nats-py reconnects by itself, but a request that was under way when the connection broke never hears back. Here such
requests fail at once and are asked again until their time is up. So whatever is asked through `request` must be
safe to do twice: published messages carry an id the server knows duplicates by, settling a delivery twice changes
nothing, and the API calls in use are idempotent.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from evalmesh.adapters.nats import load_websockets
from evalmesh.domain.errors import (
    EvalmeshError,
    InternalError,
    InvalidInput,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)

_log = logging.getLogger(__name__)

_TRY_S = 3.0
"""How long one try waits for its answer; a busy disk answers within it."""
_PAUSE_S = 0.05
"""Between tries, and between attempts to reconnect."""
_PING_INTERVAL_S = 5
_PENDING_BYTES = 16 << 20
_ROUND_TRIP_S = 60
"""By then a connection that does not answer counts as broken, and nobody waits any more."""
_NO_RESPONDERS = "503"
_WEBSOCKETS = frozenset({"ws", "wss"})
_SCHEMES = _WEBSOCKETS | {"nats", "tls"}
# Store limits and failures, as nats-server numbers them (server/errors.json).
_FULL = frozenset({10023, 10028, 10047, 10077})


class LostAnswer(Exception):
    """No answer to one try: the connection broke, time ran out, or nobody listens there (yet)."""

    def __init__(self, why: str, *, missing: bool = False) -> None:
        super().__init__(why)
        self.missing = missing
        """Whether the server says that nothing listens there: the stream is gone or not loaded yet."""


class ApiError(Exception):
    """JetStream said no."""

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{description} (JetStream error {err_code})")
        self.code = code
        self.err_code = err_code

    def as_domain(self) -> EvalmeshError:
        """The error a caller of a port sees when nothing more precise is known."""
        if self.err_code in _FULL:
            return ResourceExhausted(f"The NATS server cannot store more: {self}. Free space on its disk.")
        if self.code == 503:
            return Unavailable(f"The NATS server is not ready: {self}. Try again.")
        return InternalError(f"The NATS server refused a request: {self}.")


class NatsConnection:
    """Requests with answers, pipelined or one by one, and the news that the connection broke."""

    def __init__(self, url: str) -> None:
        self.client = Client()
        self.address = _address(url)
        self.restorers: list[Callable[[], Awaitable[None]]] = []
        """Called when a stream is missing; each makes sure that its streams exist."""
        self.wakers: set[asyncio.Event] = set()
        """Set whenever the connection breaks, for those who wait for something else than an answer."""
        self.breaks = 0
        """How often the connection broke."""
        self.back_at = -math.inf
        """When it was last there again, by the loop's clock."""
        self._connected = asyncio.Event()
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._answers: Subscription | None = None
        self._inbox = ""
        self._count = 0
        self._restore_lock = asyncio.Lock()
        self._opening = True
        self._unhurried: set[asyncio.Task[None]] = set()

    async def open(self, url: str, name: str) -> None:
        """Connects and listens for answers; see `connect` for the errors."""
        if urlsplit(url).scheme in _WEBSOCKETS:
            load_websockets()
        options: dict[str, Any] = {
            "name": name,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnected,
            "reconnected_cb": self._on_reconnected,
            "closed_cb": self._on_closed,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": _PAUSE_S,
            "ping_interval": _PING_INTERVAL_S,
            "max_outstanding_pings": 2,
            "pending_size": _PENDING_BYTES,
        }
        await self.client.connect(url, **options)
        self._inbox = self.client.new_inbox()
        self._answers = await self.client.subscribe(f"{self._inbox}.*", cb=self._on_answer)
        self._opening = False
        self._connected.set()

    async def close(self) -> None:
        """Sends what is written, then disconnects; closing twice is fine."""
        if self.client.is_closed:
            return
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            if self.client.is_connected:
                await self.round_trip(2.0)
        # nats-py trips over a connection that is gone before it has stopped its subscriptions.
        # One that breaks at this very moment is written to once more, which uvloop calls a RuntimeError.
        with contextlib.suppress(nats.errors.Error, OSError, RuntimeError):
            if self._answers is not None:
                await self._answers.unsubscribe()
        with contextlib.suppress(nats.errors.Error, OSError, RuntimeError):
            await self.client.close()
        await self._on_closed()

    async def round_trip(self, timeout_s: float) -> None:
        """Returns once the server has read what was sent, or after `timeout_s`."""
        await self.unhurried(self.client.flush(timeout=_ROUND_TRIP_S), timeout_s)

    async def unhurried(self, call: Coroutine[Any, Any, None], timeout_s: float) -> None:
        """Waits for a call of nats-py that holds a round trip; a call that takes longer goes on by itself.

        Such a call must be neither cancelled nor cut short: nats-py swallows the cancellation of a drain, and a pong
        that finds its waiter cancelled ends the reading of the connection for good (nats-py 2.16).
        """
        task = asyncio.create_task(call)
        self._unhurried.add(task)
        task.add_done_callback(self._hurried)
        await asyncio.wait({task}, timeout=timeout_s)

    def _hurried(self, task: asyncio.Task[None]) -> None:
        self._unhurried.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("a round trip failed: %s", error)

    @property
    def connected(self) -> bool:
        """Now."""
        return self._connected.is_set() and not self.client.is_closed

    async def wait_connected(self, timeout_s: float) -> None:
        """Returns once connected. Raises `Unavailable`."""
        if not self.client.is_closed and not self._connected.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._connected.wait()
        if self.client.is_closed:
            raise Unavailable("The connection to NATS is closed; open a new one.")
        if not self._connected.is_set():
            raise Unavailable(f"The NATS server at {self.address} cannot be reached; start it or check the address.")

    async def publish(self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Sends without an answer; while the server is away it is kept for its return. Raises `Unavailable`."""
        try:
            await self.client.publish(subject, payload, headers=headers)
        except (nats.errors.ConnectionClosedError, nats.errors.OutboundBufferLimitError) as error:
            raise Unavailable(f"The NATS server at {self.address} cannot be reached: {error}.") from error

    async def ask(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None, reply: str = ""
    ) -> None:
        """As `publish`, for a server that answers to `reply`."""
        try:
            await self.client.publish(subject, payload, reply=reply, headers=headers)
        except (nats.errors.ConnectionClosedError, nats.errors.OutboundBufferLimitError) as error:
            raise Unavailable(f"The NATS server at {self.address} cannot be reached: {error}.") from error

    async def start(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None
    ) -> asyncio.Future[Msg]:
        """Sends one try; the future gets the answer or `LostAnswer`. Hand it to `settle`."""
        self._count += 1
        token = f"{self._count:x}"
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        future.add_done_callback(lambda _: self._waiting.pop(token, None))
        try:
            await self.ask(subject, payload, headers, reply=f"{self._inbox}.{token}")
        except BaseException:
            future.cancel()
            raise
        return future

    async def settle(self, future: asyncio.Future[Msg], timeout_s: float = _TRY_S) -> Msg:
        """The answer to one try. Raises `LostAnswer`."""
        try:
            async with asyncio.timeout(timeout_s):
                answer = await future
        except TimeoutError:
            raise LostAnswer("no answer in time") from None
        if answer.headers and answer.headers.get("Status") == _NO_RESPONDERS:
            raise LostAnswer("no stream listens there", missing=True)
        return answer

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        within_s: float = 10.0,
        restore: bool = True,
    ) -> Msg:
        """Asks, and asks again after a broken connection. Raises `Unavailable` when `within_s` has passed."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + within_s
        while True:
            await self.wait_connected(deadline - clock())
            try:
                future = await self.start(subject, payload, headers)
                return await self.settle(future, min(_TRY_S, max(deadline - clock(), _PAUSE_S)))
            except LostAnswer as error:
                await self.recover(error, deadline, restore=restore)

    async def recover(self, lost: LostAnswer, deadline: float, *, restore: bool = True) -> None:
        """What to do between tries: wait a little, see to missing streams. Raises `Unavailable` past the deadline."""
        if asyncio.get_running_loop().time() + _PAUSE_S >= deadline:
            raise Unavailable(f"The NATS server at {self.address} does not answer: {lost}. Try again.") from lost
        await asyncio.sleep(_PAUSE_S)
        if restore and lost.missing:
            with contextlib.suppress(Unavailable, TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self.restore()

    async def restore(self) -> None:
        """Makes sure that the streams exist which this process opened. Raises `Unavailable`."""
        async with self._restore_lock:
            for restorer in self.restorers:
                await restorer()

    async def api(self, name: str, body: Mapping[str, object] | None = None, within_s: float = 10.0) -> dict[str, Any]:
        """A JetStream API call. Raises `ApiError`, `Unavailable`."""
        payload = msgspec.json.encode(body) if body is not None else b""
        answer = await self.request(f"$JS.API.{name}", payload, within_s=within_s, restore=False)
        return decode_answer(answer.data)

    async def _on_answer(self, msg: Msg) -> None:
        future = self._waiting.pop(msg.subject.rpartition(".")[2], None)
        if future is not None and not future.done():
            future.set_result(msg)

    def _fail_waiting(self, why: str) -> None:
        for future in list(self._waiting.values()):
            if not future.done():
                future.set_exception(LostAnswer(why))
                future.exception()  # retrieved here: nobody may be left to ask for it
        for waker in self.wakers:
            waker.set()

    async def _on_disconnected(self) -> None:
        self.breaks += 1
        self._connected.clear()
        self._fail_waiting("the connection broke")
        if not self._opening and not self.client.is_closed:
            _log.warning("lost the connection to NATS at %s, reconnecting", self.address)

    async def _on_reconnected(self) -> None:
        _log.info("connected to NATS at %s again", self.address)
        self.back_at = asyncio.get_running_loop().time()
        self._connected.set()

    async def _on_closed(self) -> None:
        self._connected.clear()
        self._fail_waiting("the connection is closed")

    async def _on_error(self, error: Exception) -> None:
        _log.debug("NATS at %s: %s", self.address, str(error) or type(error).__name__)
        if self._opening and "authorization" in str(error).lower():
            raise Unauthenticated(
                f"The NATS server at {self.address} refuses the credentials; check the user and password in its URL."
            )


async def connect(url: str, name: str, timeout_s: float = 5.0) -> NatsConnection:
    """Connects; afterwards the connection is kept up for ever, with tries every 50 ms.

    Args:
        url: `nats://[token@|user:password@]host:port`.
        name: What the server's monitoring calls this client.
        timeout_s: How long a server may take to appear.

    Raises:
        InvalidInput: the URL is none.
        Unavailable: nothing answers there in time.
        Unauthenticated: the server refuses the credentials.
    """
    connection = NatsConnection(url)
    try:
        async with asyncio.timeout(timeout_s):
            await connection.open(url, name)
    except TimeoutError:
        await connection.client.close()
        raise Unavailable(
            f"No NATS server answers at {connection.address} within {timeout_s:g} s; start it or check the address."
        ) from None
    except BaseException:
        await connection.client.close()
        raise
    return connection


def decode_answer(data: bytes) -> dict[str, Any]:
    """The JSON of an answer. Raises `ApiError` when it is a refusal."""
    answer: dict[str, Any] = msgspec.json.decode(data)
    error = answer.get("error")
    if error is not None:
        raise ApiError(error.get("code", 0), error.get("err_code", 0), error.get("description", ""))
    return answer


def _address(url: str) -> str:
    """Host and port, without credentials. Raises `InvalidInput`, which does not repeat the URL: it may hold a token."""
    parts = urlsplit(url if "//" in url else f"nats://{url}")
    try:
        port = parts.port or 4222
    except ValueError:
        port = 0
    if parts.scheme not in _SCHEMES or not parts.hostname or not port:
        raise InvalidInput(
            "bus_url: the address of the NATS server must look like nats://host:4222, if need be with token@ or "
            "user:password@ before the host. What was given does not, and is not shown.",
            {"field": "bus_url"},
        )
    return f"{parts.hostname}:{port}"
