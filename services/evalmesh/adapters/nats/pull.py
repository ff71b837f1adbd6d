"""Taking messages from a consumer: as soon as there is one, no more than asked for, across restarts of the server.

One request in flight at a time, of the kind "what is there now, or the first that comes within the wait": JetStream's
`no_wait` with `expires`. Such a request ends with the first messages, so nothing is delivered to a worker that is
busy with what it has.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from evalmesh.adapters.nats.connection import NatsConnection
from evalmesh.adapters.nats.streams import ensure_consumer, nanoseconds
from evalmesh.domain.errors import InternalError, Unavailable

_log = logging.getLogger(__name__)

_GRACE_S = 2.0
"""How much later than its wait a request may be answered before the server counts as gone."""
_BUSY_PAUSE_S = 0.01
_RETRY_PAUSE_S = 0.1
_FOLLOW_WAIT_S = 5.0
_FOLLOW_BATCH = 256


class Puller:
    """Asks one consumer for messages; `pull` must not be called concurrently."""

    def __init__(
        self, connection: NatsConnection, stream: str, ensure: Callable[[], Awaitable[str]], *, acked: bool
    ) -> None:
        """Prepares; nothing is sent before the first `pull`.

        Args:
            connection: Where the consumer lives.
            stream: The consumer's stream.
            ensure: Makes sure that the consumer exists and returns its name; called again when it has vanished.
            acked: Whether deliveries are acknowledged. If not, the consumer is made anew after a broken connection,
                because what was under way is lost.
        """
        self._connection = connection
        self._stream = stream
        self._ensure = ensure
        self._acked = acked
        self._inbox = connection.client.new_inbox()
        self._consumer = ""
        self._breaks = connection.breaks
        self._subscription: Subscription | None = None
        self._ready: deque[Msg] = deque()
        self._status: tuple[str, str] | None = None
        self._count = 0
        self._pulling = False
        self._wake = asyncio.Event()

    async def pull(self, batch: int, wait_s: float) -> Sequence[Msg]:
        """At least one message unless `wait_s` passes. Raises `Unavailable`.

        A cancelled pull loses nothing: what it had received is given to the next one, what arrives later goes back.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_s
        self._pulling = True
        self._connection.wakers.add(self._wake)
        try:
            while not self._ready:
                await self._connection.wait_connected(max(deadline - clock(), 0.0))
                await self._prepare()
                await self._ask(batch, max(deadline - clock(), 0.0))
                await self._answered(batch, deadline + _GRACE_S)
                if self._ready or not await self._may_go_on(deadline):
                    break
            return [self._ready.popleft() for _ in range(min(batch, len(self._ready)))]
        finally:
            self._pulling = False
            self._connection.wakers.discard(self._wake)

    async def close(self) -> None:
        """Stops listening and gives back what nobody took."""
        subscription, self._subscription = self._subscription, None
        try:
            with contextlib.suppress(Unavailable, nats.errors.Error):
                if subscription is not None and self._acked and self._connection.client.is_connected:
                    # A round trip: what the server sent before it heard of the end is received, and given back.
                    drain = subscription.drain()  # type: ignore[no-untyped-call]  # nats-py has no types here
                    await self._connection.unhurried(drain, _GRACE_S)
                elif subscription is not None:
                    await subscription.unsubscribe()
        finally:
            with contextlib.suppress(Unavailable, nats.errors.Error):
                while self._ready:
                    await self._give_back(self._ready.popleft())

    async def _prepare(self) -> None:
        if self._subscription is None:
            self._subscription = await self._connection.client.subscribe(f"{self._inbox}.*", cb=self._on_message)
        if not self._acked and self._breaks != self._connection.breaks:
            self._consumer = ""
        if not self._consumer:
            self._breaks = self._connection.breaks
            self._consumer = await self._ensure()

    async def _ask(self, batch: int, wait_s: float) -> None:
        self._count += 1
        self._status = None
        self._wake.clear()
        request: dict[str, Any] = {"batch": batch, "no_wait": True}
        if wait_s >= 0.001:
            request["expires"] = nanoseconds(wait_s)
        await self._connection.ask(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
            msgspec.json.encode(request),
            reply=f"{self._inbox}.{self._count:x}",
        )

    async def _answered(self, batch: int, deadline: float) -> None:
        """Waits until the request is over: filled, ended by the server, or cut off."""
        breaks = self._connection.breaks
        try:
            async with asyncio.timeout_at(deadline):
                while self._status is None and len(self._ready) < batch and breaks == self._connection.breaks:
                    await self._wake.wait()
                    self._wake.clear()
        except TimeoutError:
            if not self._ready:
                raise Unavailable(
                    f"The NATS server at {self._connection.address} does not answer; try again."
                ) from None

    async def _may_go_on(self, deadline: float) -> bool:
        """Whether to ask again, after a pause that fits what the server said."""
        code, text = self._status or ("", "")
        pause_s = 0.0
        if code == "408" and "pending" in text.lower():
            # Others wait for as many as there are; a moment later it is clear who gets what.
            pause_s = _BUSY_PAUSE_S
        elif code in {"409", "503"}:
            _log.debug("consumer %s of %s: %s %s", self._consumer, self._stream, code, text)
            self._consumer = ""
            pause_s = _RETRY_PAUSE_S
        elif code == "400":
            raise InternalError(f"The NATS server refused a request for work: {text}.")
        left_s = deadline - asyncio.get_running_loop().time()
        if left_s <= 0 and code == "503":
            raise Unavailable(f"The NATS server at {self._connection.address} has no such queue yet; try again.")
        await asyncio.sleep(min(pause_s, max(left_s, 0.0)))
        return left_s > 0.001

    async def _on_message(self, msg: Msg) -> None:
        if not msg.reply.startswith("$JS.ACK."):
            headers = msg.headers or {}
            if msg.subject == f"{self._inbox}.{self._count:x}" and headers.get("Status") != "100":
                self._status = (headers.get("Status", ""), headers.get("Description", ""))
                self._wake.set()
        elif not self._pulling:
            with contextlib.suppress(Unavailable):
                await self._give_back(msg)
        elif self._acked or f".{self._consumer}." in msg.reply:
            self._ready.append(msg)
            self._wake.set()

    async def _give_back(self, msg: Msg) -> None:
        if self._acked:
            await self._connection.publish(msg.reply, b"-NAK")


def stream_sequence(msg: Msg) -> int:
    """Place of a delivered message in its stream."""
    return msg.metadata.sequence.stream


async def follow(
    connection: NatsConnection, stream: str, subject: str, start: Callable[[int], dict[str, object]]
) -> AsyncIterator[Msg]:
    """Messages on `subject` in stream order, without end, across restarts of the server.

    Args:
        connection: Where the stream lives.
        stream: Its name.
        subject: Filter.
        start: Where to begin, as fields of a consumer's configuration, given the sequence last seen (0: none yet).
    """
    seen = 0

    async def ensure() -> str:
        name = f"follow-{uuid4().hex}"
        config = {
            "name": name,
            "filter_subject": subject,
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": nanoseconds(60),
            **start(seen),
        }
        await ensure_consumer(connection, stream, config)
        return name

    puller = Puller(connection, stream, ensure, acked=False)
    try:
        while True:
            try:
                batch = await puller.pull(_FOLLOW_BATCH, _FOLLOW_WAIT_S)
            except Unavailable as error:
                if connection.client.is_closed:
                    raise
                _log.debug("following %s: %s", subject, error)
                await asyncio.sleep(_RETRY_PAUSE_S)
                continue
            for msg in batch:
                seen = stream_sequence(msg)
                yield msg
    finally:
        await puller.close()
