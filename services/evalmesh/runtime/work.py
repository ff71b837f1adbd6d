"""The one loop that takes work items, and the one place that settles them.

- Success is acked. A defect or a lost worker brings the item back, `max_deliveries` times at most.
- An outage of a dependency (`Unavailable`, `ResourceExhausted`) is waited out with the item in hand, so that it does
  not use up deliveries.
- What cannot succeed is set aside: buried with its error, and its consequence published, so that the run still ends.
- While an item is in hand its ack wait is renewed.
- On drain, unfinished items are handed over: published anew, then acked. So only failures count as deliveries, however
  often a worker is rolled over or scaled down with the item in hand.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from evalmesh.domain.errors import EvalmeshError
from evalmesh.domain.work import Item
from evalmesh.ports.bus import Bus, Consumer, Delivery
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.outages import Patience, wait_out
from evalmesh.runtime.telemetry import log_fields
from evalmesh.runtime.telemetry.work_items import Outcome, worked_on

_LOG = logging.getLogger(__name__)

_HANDOVER_S = 3.0

ItemT = TypeVar("ItemT", bound=Item)
Gate = Callable[[], Awaitable[None]]
OpenConsumer = Callable[[], Awaitable[Consumer]]


class RunCancelledError(Exception):
    """Raised by a handler that stopped early because the item's run was cancelled: the item is dropped.

    Unless the run has been resumed since: then the item comes back, as nobody else would bring it.
    """


@dataclass(frozen=True, slots=True)
class WorkPolicy:
    """How a worker takes and retries."""

    concurrency: int = 4
    """Items in hand at once."""
    max_deliveries: int = 5
    patience: Patience = field(default_factory=Patience)
    """For outages, which are waited out with the item in hand; its delays also space redeliveries."""
    drain_s: float = 20.0


class Worker(Generic[ItemT]):
    """Takes items of one queue and hands them to `handle`."""

    def __init__(  # noqa: PLR0913  (the six things a worker is made of, and two options)
        self,
        *,
        bus: Bus,
        take_from: OpenConsumer,
        handle: Callable[[ItemT], Awaitable[None]],
        set_aside: Callable[[ItemT, str], Awaitable[None]],
        control: ControlView,
        policy: WorkPolicy | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._bus = bus
        self._take_from = take_from
        self._handle = handle
        self._set_aside = set_aside
        self._control = control
        self._policy = policy or WorkPolicy()
        self._gate = gate
        self._slots = asyncio.Semaphore(self._policy.concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_hand: dict[str, asyncio.Future[None]] = {}

    async def run(self) -> None:
        """Works until cancelled; then lets what is in hand finish within `drain_s` and gives the rest back."""
        consumer: Consumer | None = None
        try:
            while True:
                try:
                    consumer = consumer or await self._take_from()
                    await self._take(consumer)
                except EvalmeshError as error:
                    _LOG.warning("no work can be taken now: %s", error.message)
                    await asyncio.sleep(1.0)
        finally:
            if consumer is not None:
                # First: what was sent to this worker and not taken yet goes to others now, not after the drain.
                await consumer.close()
            await self._drain()

    async def _take(self, consumer: Consumer) -> None:
        if self._gate is not None:
            await self._gate()
        await self._slots.acquire()
        taken = 0
        try:
            # One at a time keeps the decision "do I want more?" fresh for gated workers.
            free = 1 if self._gate is not None else 1 + self._free_slots()
            deliveries = await consumer.fetch(free, 5.0)
            for delivery in deliveries:
                if taken:
                    await self._slots.acquire()
                taken += 1
                task = asyncio.create_task(self._process(delivery))
                self._tasks.add(task)
                task.add_done_callback(self._finished)
        finally:
            if not taken:
                self._slots.release()

    def _free_slots(self) -> int:
        return max(0, self._policy.concurrency - len(self._tasks) - 1)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and task.exception() is not None:
            _LOG.error("settling failed", exc_info=task.exception())

    async def _drain(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._policy.drain_s)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _process(self, delivery: Delivery) -> None:
        item = cast(ItemT, delivery.item)
        with worked_on(delivery) as outcome, log_fields(**item.labels):
            if await self._is_unwanted(item):
                outcome.word = "dropped"
                await self._settled(delivery.ack)
                return
            if delivery.delivered > self._policy.max_deliveries:
                error = f"it was handed out {delivery.delivered - 1} times and never finished"
                outcome.failed("set_aside", error)
                await self._put_aside(delivery, error)
                return
            heartbeat = asyncio.create_task(self._keep_alive(delivery))
            try:
                async with self._alone(item):
                    await self._attempt(delivery, outcome)
            except asyncio.CancelledError:
                outcome.word = "handed_over"
                await self._hand_over(delivery)
                raise
            finally:
                heartbeat.cancel()

    async def _hand_over(self, delivery: Delivery) -> None:
        async def give_on() -> None:
            async with asyncio.timeout(_HANDOVER_S):
                await self._bus.publish([delivery.item.handed_over()])
                await delivery.ack()

        with contextlib.suppress(TimeoutError):  # then it comes back after the ack wait, as from a worker that died
            await self._settled(give_on)

    @asynccontextmanager
    async def _alone(self, item: Item) -> AsyncIterator[None]:
        """What is handed out again while it is in hand here waits, then finds it done.

        It happens when the bus lost its memory in a crash, and when a run is resumed.
        """
        while (other := self._in_hand.get(item.place)) is not None:
            await asyncio.wait([other])
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_hand[item.place] = mine
        try:
            yield
        finally:
            del self._in_hand[item.place]
            mine.set_result(None)

    async def _is_unwanted(self, item: Item) -> bool:
        try:
            return await self._control.is_unwanted(item)
        except EvalmeshError as error:
            _LOG.warning("whether the run is cancelled cannot be known now: %s", error.message)
            return False

    async def _attempt(self, delivery: Delivery, outcome: Outcome) -> None:
        item = cast(ItemT, delivery.item)
        try:
            await wait_out(
                lambda: self._handle(item), self._policy.patience, lambda: self._control.is_cancelled(item.owner)
            )
        except RunCancelledError:
            unwanted = await self._is_unwanted(item)
            outcome.word = "dropped" if unwanted else "retried"
            await self._settled(delivery.ack if unwanted else lambda: delivery.nak(self._policy.patience.first_s))
        except EvalmeshError as error:
            if not await self._tried_again(delivery, outcome, error, possible=error.retryable):
                _LOG.error("set aside: %s", error.message)
                await self._put_aside(delivery, error.message)
        except Exception as error:  # noqa: BLE001  (a defect must not stop the worker: it is logged, retried, buried)
            _LOG.exception("%s failed", item.place)
            if not await self._tried_again(delivery, outcome, error, possible=True):
                await self._put_aside(delivery, f"{type(error).__name__}: {error}")
        else:
            outcome.word = "done"
            await self._settled(delivery.ack)
            _LOG.info("%s done", item.queue)

    async def _tried_again(self, delivery: Delivery, outcome: Outcome, error: Exception, *, possible: bool) -> bool:
        again = possible and delivery.delivered < self._policy.max_deliveries
        outcome.failed("retried" if again else "set_aside", error)
        if again:
            await self._settled(lambda: delivery.nak(self._policy.patience.delay_s(delivery.delivered)))
        return again

    async def _put_aside(self, delivery: Delivery, error: str) -> None:
        item = cast(ItemT, delivery.item)
        try:
            await self._bus.bury(item, error)
            await self._set_aside(item, error)
        except EvalmeshError as trouble:
            if trouble.retryable:
                _LOG.warning("could not set the item aside yet: %s", trouble.message)
                await self._settled(lambda: delivery.nak(self._policy.patience.cap_s))
                return
            # It is about something that is not there (any more): nobody waits for what follows.
            _LOG.error("%s has no consequence: %s", item.place, trouble.message)
        except Exception:  # noqa: BLE001  (as for the item itself: logged, retried, given up)
            _LOG.exception("the consequence of %s failed", item.place)
            if delivery.delivered <= 2 * self._policy.max_deliveries:
                await self._settled(lambda: delivery.nak(self._policy.patience.cap_s))
                return
        await self._settled(delivery.ack)

    async def _settled(self, settle: Callable[[], Awaitable[None]]) -> None:
        try:
            await settle()
        except EvalmeshError as error:
            # The item comes back after the ack wait; every step finds its output and only answers again.
            _LOG.warning("could not settle an item: %s", error.message)

    async def _keep_alive(self, delivery: Delivery) -> None:
        while True:
            await asyncio.sleep(self._bus.ack_wait_s / 3)
            try:
                await delivery.heartbeat()
            except EvalmeshError as error:
                _LOG.warning("heartbeat failed: %s", error.message)
