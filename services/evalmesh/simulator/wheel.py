"""One timer for everything that waits: streams are paced by callbacks, since a task's turn per token costs more."""

import asyncio
import math
import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

_TICK_S = 1e-3
"""What uvloop's timers can resolve. The truth has the times at which things happened, not those that were meant."""


class Wheel:
    """Calls back at moments of `time.monotonic()`, up to a tick late, never early."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_s = math.inf
        self._is_turning = False
        self.late_max_s = 0.0
        """The latest it ever was, a tick included: how far the machine lets this process keep time."""

    def at(self, due_s: float, call: Callable[[], None]) -> None:
        """Once, and for good: what is not wanted any more must do nothing when it is called."""
        heappush(self._due, (due_s, next(self._numbers), call))
        if due_s < self._wakes_s and not self._is_turning:
            self._wind()

    async def sleep_until(self, due_s: float) -> None:
        """Waits; returns at once when the moment has passed."""
        if due_s <= time.monotonic():
            return
        woken: asyncio.Future[None] = self._loop.create_future()
        self.at(due_s, lambda: None if woken.done() else woken.set_result(None))
        await woken

    def stop(self) -> None:
        """Calls nobody any more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _wind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_s = self._due[0][0]
        wait_s = max(0.0, self._wakes_s - time.monotonic())
        self._timer = self._loop.call_later(math.ceil(wait_s / _TICK_S) * _TICK_S, self._turn)

    def _turn(self) -> None:
        """Calls what is due now; what becomes due meanwhile has to wait for sockets to be read first."""
        self._timer = None
        self._is_turning = True
        due, now = self._due, time.monotonic()
        if due:
            self.late_max_s = max(self.late_max_s, now - due[0][0])
        try:
            while due and due[0][0] <= now:
                heappop(due)[2]()
        finally:
            self._is_turning = False
            self._wakes_s = math.inf
            if due:
                self._wind()
