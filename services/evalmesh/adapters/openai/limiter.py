"""How many requests an endpoint takes at a time: additive increase, multiplicative decrease."""

import asyncio
import time
from collections import deque

_DECREASE = 0.7


class AdaptiveLimiter:
    """Slots for requests in flight, fewer after the server asked for less, and pauses.

    Starts at the ceiling: a server that can take everything gets it at once. Only for the loop it is used in.
    """

    __slots__ = (
        "_ceiling",
        "_decrease_interval_s",
        "_decreased_at",
        "_in_flight",
        "_limit",
        "_paused_until",
        "_timer",
        "_waiters",
    )

    def __init__(self, ceiling: int, decrease_interval_s: float = 1.0) -> None:
        self._ceiling = float(max(1, ceiling))
        self._limit = self._ceiling
        self._decrease_interval_s = decrease_interval_s
        self._decreased_at = float("-inf")
        self._in_flight = 0
        self._paused_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def in_flight(self) -> int:
        """Slots taken."""
        return self._in_flight

    @property
    def limit(self) -> int:
        """Slots there are at the moment, at least 1."""
        return int(self._limit)

    def try_acquire(self) -> bool:
        """Takes a slot if one is free and nobody waits for it."""
        if self._waiters or self._timer is not None or self._in_flight >= int(self._limit):
            return False
        self._in_flight += 1
        return True

    async def acquire(self, *, ahead: bool = False) -> None:
        """Waits for a slot; `ahead` puts the caller before all others, for a request that was under way already."""
        if self.try_acquire():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if ahead:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        self._wake()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()  # The slot had been handed over already.
            raise

    def release(self) -> None:
        """Gives the slot to the next in line."""
        self._in_flight -= 1
        if self._waiters:
            self._wake()

    def succeeded(self) -> None:
        """One success; a round trip of them raises the limit by one. Call before `release`."""
        # A limit that is not used says nothing about what the server could take.
        if self._limit < self._ceiling and self._in_flight * 2 >= self._limit:
            self._limit = min(self._ceiling, self._limit + 1.0 / self._limit)

    def overloaded(self, sent_at: float) -> None:
        """The server asked for less in answer to a request sent at `sent_at` (`time.monotonic`). Before `release`.

        A whole round trip of refusals counts once: what was sent before the last decrease says nothing new.
        """
        now = time.monotonic()
        if sent_at < self._decreased_at or now - self._decreased_at < self._decrease_interval_s:
            return
        self._decreased_at = now
        self._limit = max(1.0, min(self._limit, float(self._in_flight)) * _DECREASE)

    def pause(self, duration_s: float) -> None:
        """No new slot for so long; the longest of several pauses counts."""
        until = time.monotonic() + duration_s
        if duration_s <= 0 or until <= self._paused_until:
            return
        self._paused_until = until
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(duration_s, self._resume)

    def close(self) -> None:
        """Stops the timer of a pause."""
        if self._timer is not None:
            self._timer.cancel()
            self._resume()

    def _resume(self) -> None:
        self._timer = None
        self._wake()

    def _wake(self) -> None:
        while self._waiters and self._timer is None and self._in_flight < int(self._limit):
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._in_flight += 1
                waiter.set_result(None)
