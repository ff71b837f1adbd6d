"""How many requests are worked on at a time."""

import asyncio
from collections import deque


class Gate:
    """Slots, given in the order of arrival."""

    def __init__(self, limit: int) -> None:
        """`limit` 0: no bound."""
        self._limit = limit
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def running(self) -> int:
        """Slots taken."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self._waiting)

    def try_enter(self) -> bool:
        """Takes a slot if one is free and nobody waits for it."""
        if self._limit and (self._running >= self._limit or self._waiting):
            return False
        self._running += 1
        return True

    async def enter(self) -> None:
        """Takes a slot, waiting for one."""
        if self.try_enter():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def leave(self) -> None:
        """Gives the slot to the next in line."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1
