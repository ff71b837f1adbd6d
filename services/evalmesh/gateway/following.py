"""Following a record and its events: a snapshot first, then whenever something changed."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf import duration_pb2

from evalmesh.domain.events import Event
from evalmesh.ports.bus import Bus
from evalmesh.wire.values import duration_from_proto

T = TypeVar("T")
_SIGN_OF_LIFE_S = 5.0
_MIN_INTERVAL_S = 0.1


@dataclass(frozen=True, slots=True)
class Following(Generic[T]):
    """Something to follow: its record and its events."""

    read: Callable[[], Awaitable[T]]
    is_last: Callable[[T], bool]
    take: Callable[[Event], None]
    """Called with each event."""
    first: int
    """Place of the first event to take in."""
    start_sequence: int
    """Place that the caller goes on from; no sequence falls below the one before it."""
    min_interval_s: float

    async def changes(self, bus: Bus, id_: str) -> AsyncGenerator[tuple[int, T], None]:
        """What `read` gives, with its place in the event stream: now and after each change, up to the last.

        At most every `min_interval_s`. Without change, the same comes again every few seconds as a sign of life.
        """
        follower = _Follower(self.start_sequence, self.take)
        task = asyncio.create_task(follower.follow(bus, id_, self.first))
        loop = asyncio.get_running_loop()
        last: T | None = None
        last_sent = 0.0
        try:
            while True:
                follower.changed.clear()
                follower.state_changed.clear()
                current = await self.read()
                if current != last or loop.time() - last_sent >= _SIGN_OF_LIFE_S:
                    yield follower.sequence, current
                    last, last_sent = current, loop.time()
                if self.is_last(current):
                    return
                if follower.error is not None:
                    raise follower.error
                # The end is told at once; numbers may wait.
                await _within(follower.state_changed, self.min_interval_s)
                await _within(follower.changed, max(1.0, _SIGN_OF_LIFE_S - self.min_interval_s))
        finally:
            task.cancel()


class _Follower:
    """Takes in the events of a run or load test in the background."""

    def __init__(self, start_sequence: int, take: Callable[[Event], None]) -> None:
        self.sequence = max(0, start_sequence - 1)
        self.changed = asyncio.Event()
        self.state_changed = asyncio.Event()
        self.error: BaseException | None = None
        self._take = take

    async def follow(self, bus: Bus, id_: str, first: int) -> None:
        """Runs until cancelled, from the event at `first` on; what ends it early is kept in `error`."""
        try:
            async for entry in bus.watch(id_, first):
                self.sequence = max(self.sequence, entry.sequence)
                self._take(entry.event)
                if entry.event.kind == "state":
                    self.state_changed.set()
                self.changed.set()
        except Exception as error:  # noqa: BLE001  (handed to the watch, which raises it to its caller)
            self.error = error
            self.changed.set()


def watch_interval_s(asked: duration_pb2.Duration) -> float:
    """Shortest time between two events of a watch."""
    return max(_MIN_INTERVAL_S, duration_from_proto(asked))


async def _within(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)
