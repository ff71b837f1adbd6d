"""Following a record and its events: a snapshot first, then whenever something changed."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from evalmesh.domain.events import Event
from evalmesh.ports.bus import Bus

T = TypeVar("T")
_SIGN_OF_LIFE_S = 5.0


class Follower:
    """Takes in the events of a run or load test in the background.

    Args:
        start_sequence: Place that the caller goes on from; `sequence` never falls below the one before it.
        take: Called with each event.
    """

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


async def changes(
    follower: Follower, read: Callable[[], Awaitable[T]], is_last: Callable[[T], bool], min_interval_s: float
) -> AsyncGenerator[tuple[int, T], None]:
    """What `read` gives now and after each change, at most every `min_interval_s`, up to the one that `is_last`.

    Without change, the same comes again every few seconds as a sign of life.
    """
    loop = asyncio.get_running_loop()
    last: T | None = None
    last_sent = 0.0
    while True:
        follower.changed.clear()
        follower.state_changed.clear()
        current = await read()
        if current != last or loop.time() - last_sent >= _SIGN_OF_LIFE_S:
            yield follower.sequence, current
            last, last_sent = current, loop.time()
        if is_last(current):
            return
        if follower.error is not None:
            raise follower.error
        # The end is told at once; numbers may wait.
        await _within(follower.state_changed, min_interval_s)
        await _within(follower.changed, max(1.0, _SIGN_OF_LIFE_S - min_interval_s))


async def _within(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)
