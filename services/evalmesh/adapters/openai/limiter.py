"""How many requests an endpoint takes at a time: additive increase, multiplicative decrease.

Pools of one server share what is known of it (`ServerLimit`); each has slots and pauses of its own (`AdaptiveLimiter`).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

_DECREASE = 0.7


class ServerLimit:
    """How many requests one server takes, whichever pools they are of. Only for the loop it is used in."""

    __slots__ = ("_decreased_at", "_limit", "_members", "in_flight")

    def __init__(self) -> None:
        self._members: deque[AdaptiveLimiter] = deque()
        self._limit = 0.0
        self._decreased_at = float("-inf")
        self.in_flight = 0
        """Slots taken, in all pools."""

    @property
    def limit(self) -> int:
        """Slots there are at the moment, at least 1."""
        return max(1, int(self._limit))

    @property
    def _ceiling(self) -> float:
        return max((float(member.ceiling) for member in self._members), default=1.0)

    def join(self, member: "AdaptiveLimiter") -> None:
        """One more pool. A server that has not asked for less is given all that the most demanding pool wants."""
        untouched = not self._members or self._limit >= self._ceiling
        self._members.append(member)
        if untouched:
            self._limit = self._ceiling

    def leave(self, member: "AdaptiveLimiter") -> None:
        """One less."""
        if member in self._members:
            self._members.remove(member)
            self._limit = min(self._limit, self._ceiling)

    def raise_a_little(self) -> None:
        """One success; a round trip of them raises the limit by one."""
        # A limit that is not used says nothing about what the server could take.
        if self._limit < self._ceiling and self.in_flight * 2 >= self._limit:
            self._limit = min(self._ceiling, self._limit + 1.0 / self._limit)

    def lower(self, sent_at: float, interval_s: float) -> None:
        """The server asked for less; see `AdaptiveLimiter.overloaded`."""
        now = time.monotonic()
        if sent_at < self._decreased_at or now - self._decreased_at < interval_s:
            return
        self._decreased_at = now
        self._limit = max(1.0, min(self._limit, float(self.in_flight)) * _DECREASE)

    def wake(self) -> None:
        """Hands free slots to whoever waits, one pool after the other."""
        passed = 0
        while passed < len(self._members) and self.in_flight < self.limit:
            passed = 0 if self._members[0].serve_one() else passed + 1
            self._members.rotate(-1)


class AdaptiveLimiter:
    """Slots for requests of one pool, fewer after the server asked for less, and pauses.

    Starts at the ceiling: a server that can take everything gets it at once. Only for the loop it is used in.
    """

    __slots__ = (
        "_decrease_interval_s",
        "_in_flight",
        "_paused_until",
        "_server",
        "_settled_at",
        "_timer",
        "_waiters",
        "ceiling",
    )

    def __init__(self, ceiling: int, decrease_interval_s: float = 1.0, server: ServerLimit | None = None) -> None:
        self.ceiling = max(1, ceiling)
        self._decrease_interval_s = decrease_interval_s
        self._in_flight = 0
        self._paused_until = 0.0
        self._settled_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._server = server or ServerLimit()
        self._server.join(self)

    @property
    def in_flight(self) -> int:
        """Slots that this pool has taken."""
        return self._in_flight

    @property
    def busy(self) -> int:
        """Slots that all pools of the server have taken."""
        return self._server.in_flight

    @property
    def limit(self) -> int:
        """Slots there are at the moment, at least 1."""
        return min(self.ceiling, self._server.limit)

    @property
    def _free(self) -> bool:
        return self._timer is None and self._in_flight < self.ceiling and self._server.in_flight < self._server.limit

    def _take(self) -> None:
        self._in_flight += 1
        self._server.in_flight += 1

    def try_acquire(self) -> bool:
        """Takes a slot if one is free and nobody of this pool waits for it."""
        if self._waiters or not self._free:
            return False
        self._take()
        return True

    async def acquire(self, *, ahead: bool = False, left_s: Callable[[], float] | None = None) -> bool:
        """Waits for a slot; `False` once `left_s` tells that no time is left.

        `ahead` puts the caller before all others, for a request that was under way already.
        """
        if self.try_acquire():
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if ahead:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        self._server.wake()
        try:
            while left_s is not None and not waiter.done():
                if (timeout_s := left_s()) <= 0:
                    waiter.cancel()
                    return False
                await asyncio.wait((waiter,), timeout=timeout_s)
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()  # The slot had been handed over already.
            waiter.cancel()
            raise
        return True

    def release(self) -> None:
        """Gives the slot to the next in line."""
        self._in_flight -= 1
        self._server.in_flight -= 1
        self._server.wake()

    def succeeded(self) -> None:
        """One success. Call before `release`."""
        self._server.raise_a_little()

    def overloaded(self, sent_at: float) -> None:
        """The server asked for less in answer to a request sent at `sent_at` (`time.monotonic`). Before `release`.

        A whole round trip of refusals counts once: what was sent before the last decrease says nothing new.
        """
        self._server.lower(sent_at, self._decrease_interval_s)

    def settle_for_less(self, interval_s: float) -> None:
        """This machine has no room for more than are in flight, from now on; at most once per interval."""
        now = time.monotonic()
        if now - self._settled_at >= interval_s:
            self._settled_at = now
            self.ceiling = max(1, int(self._in_flight * _DECREASE))

    def pause(self, duration_s: float) -> None:
        """No new slot of this pool for so long; the longest of several pauses counts."""
        until = time.monotonic() + duration_s
        if duration_s <= 0 or until <= self._paused_until:
            return
        self._paused_until = until
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(duration_s, self._resume)

    def lift(self) -> None:
        """Ends a pause: the server takes requests again."""
        if self._timer is not None:
            self._timer.cancel()
            self._paused_until = 0.0
            self._resume()

    def close(self) -> None:
        """Stops the timer of a pause, and makes room for the server's other pools."""
        self.lift()
        self._server.leave(self)

    def _resume(self) -> None:
        self._timer = None
        self._server.wake()

    def serve_one(self) -> bool:
        """Hands a slot to the first in line, if there is one."""
        while self._waiters and self._free:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._take()
                waiter.set_result(None)
                return True
        return False
