"""Durable queues of work, and the stream of events."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from evalmesh.domain.events import Event, SequencedEvent
from evalmesh.domain.work import Item, Queue


class Delivery(Protocol):
    """An item handed to a worker; settled exactly once, by `ack` or `nak`.

    An unsettled delivery comes back after the bus's ack wait, unless `heartbeat` is called in time.
    """

    @property
    def item(self) -> Item:
        """What is asked."""
        ...

    @property
    def delivered(self) -> int:
        """1 the first time, growing with each redelivery."""
        ...

    @property
    def waited_s(self) -> float:
        """From queued to taken, by the clocks of two machines."""
        ...

    async def ack(self) -> None:
        """Done; the item is gone. Returns when the server has confirmed, or raises `Unavailable`."""
        ...

    async def nak(self, delay_s: float) -> None:
        """Not done; redeliver after `delay_s`."""
        ...

    async def heartbeat(self) -> None:
        """Still at it: restart the ack wait."""
        ...


class Consumer(Protocol):
    """Takes items of one queue; many consumers may share it, each item goes to one."""

    async def fetch(self, max_items: int, wait_s: float) -> Sequence[Delivery]:
        """Up to `max_items`, at least one unless `wait_s` passes first (then empty). Raises `Unavailable`."""
        ...

    async def close(self) -> None:
        """Stops taking; unsettled deliveries come back to others after the ack wait."""
        ...


class Bus(Protocol):
    """Publishing returns once the server holds the message durably; `Unavailable` when it cannot be reached."""

    @property
    def ack_wait_s(self) -> float:
        """How long a delivery may go without ack or heartbeat."""
        ...

    @property
    def connected(self) -> bool:
        """Whether the server can be reached, as far as is known without asking."""
        ...

    async def publish(self, items: Sequence[Item]) -> None:
        """Adds items in this order; an item whose id was published within the duplicate window is dropped."""
        ...

    async def consume(self, queue: Queue, pool: str = "", run: str = "") -> Consumer:
        """Joins the queue's shared durable consumer; of `GENERATE` there is one per pool and run."""
        ...

    async def purge(self, owner: str) -> int:
        """Removes every queued item of a run or load test, delivered-and-unsettled ones included; says how many."""
        ...

    async def backlog(self, queue: Queue, pool: str = "") -> int:
        """Items waiting or unsettled in the queue; of `GENERATE`, those of one pool or of all."""
        ...

    async def oldest_s(self, queue: Queue, pool: str = "") -> float:
        """How long the item that was queued first of those waits or is in hand; 0 where there is none."""
        ...

    async def pending(self, owner: str) -> int:
        """Items of a run or load test that wait or are unsettled, in all queues."""
        ...

    async def retire(self, pool: str, run: str) -> None:
        """Removes the consumer of a run on a pool; nothing happens when there is none."""
        ...

    async def bury(self, item: Item, error: str) -> None:
        """Puts an item aside in the dead-letter stream, with its error."""
        ...

    async def emit(self, event: Event) -> None:
        """Appends to the event stream; `activity` is only told to whoever listens now.

        Best effort: never raises for an unreachable server.
        """
        ...

    def watch(self, run: str, start_sequence: int = 0) -> AsyncIterator[SequencedEvent]:
        """Events of a run from `start_sequence` on (inclusive; 0: all that is kept), then live, without end.

        Activity, which is not kept, comes with sequence 0 from the moment of the call on.

        Raises `OutOfRange` as `check_kept` does.
        """
        ...

    async def check_kept(self, start_sequence: int) -> None:
        """Raises `OutOfRange` when a watch cannot go on from there: what follows is no longer kept, or never was."""
        ...

    async def close(self) -> None:
        """Flushes and disconnects."""
        ...
