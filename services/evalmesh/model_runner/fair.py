"""One pool's work taken fairly: every run has a queue of its own, and the runs take turns."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence

from evalmesh.domain.errors import EvalmeshError
from evalmesh.ports.bus import Consumer, Delivery

_STANDING_S = 30.0
"""How long a request for the next item of a run stands while there is none."""
_MOST_STANDING = 16
"""Runs that may have something ready at once and so be taken from at once; the others have their turn after them."""


class FairConsumer:
    """Takes the next item of the run whose turn it is; a run without work costs no turn.

    One request per run stands at the bus while work is wanted, and everything that has come is handed on at once. So a
    runner holds at most one item per run beyond what it works on; it is kept alive until it is asked for.
    """

    def __init__(self, open_queue: Callable[[str], Awaitable[Consumer]], heartbeat_s: float) -> None:
        self._open_queue = open_queue
        self._heartbeat_s = heartbeat_s
        self._keeper: asyncio.Task[None] | None = None
        self._queues: OrderedDict[str, Consumer] = OrderedDict()
        self._standing: dict[asyncio.Task[Sequence[Delivery]], str] = {}
        self._wanted: set[str] = set()
        self._changed = asyncio.Event()

    @property
    def runs(self) -> frozenset[str]:
        """Those whose work is taken."""
        return frozenset(self._wanted)

    def add(self, run: str) -> None:
        """Work of this run may come."""
        self._wanted.add(run)
        self._changed.set()

    def remove(self, run: str) -> None:
        """No more work of this run will come."""
        self._wanted.discard(run)
        self._changed.set()

    async def fetch(self, max_items: int, wait_s: float) -> Sequence[Delivery]:  # noqa: ARG002  (one of each run)
        """See the port; one item per run that has any. Raises `Unavailable`."""
        self._keeper = self._keeper or asyncio.create_task(self._keep_alive())
        self._changed.clear()
        await self._follow_wishes()
        standing = set(self._standing.values())
        for run in [run for run in self._queues if run not in standing][: max(0, _MOST_STANDING - len(standing))]:
            self._queues.move_to_end(run)
            self._standing[asyncio.create_task(self._queues[run].fetch(1, _STANDING_S))] = run
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait({*self._standing, changed}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
        return self._take_finished()

    def _take_finished(self) -> Sequence[Delivery]:
        found: list[Delivery] = []
        trouble: EvalmeshError | None = None
        for task in [task for task in self._standing if task.done()]:
            run = self._standing.pop(task)
            if task.cancelled():
                continue
            error = task.exception()
            if isinstance(error, EvalmeshError):
                trouble = error
            elif error is not None:
                raise error
            else:
                found += task.result()
                if run in self._queues:
                    self._queues.move_to_end(run)
        if trouble is not None and not found:
            raise trouble
        return found

    async def _follow_wishes(self) -> None:
        for run in self._wanted - set(self._queues):
            self._queues[run] = await self._open_queue(run)
        for run in set(self._queues) - self._wanted:
            await self._close(run)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            for delivery in self._untaken(self._standing):
                with contextlib.suppress(EvalmeshError):
                    await delivery.heartbeat()

    @staticmethod
    def _untaken(tasks: Iterable[asyncio.Task[Sequence[Delivery]]]) -> list[Delivery]:
        done = [task for task in tasks if task.done() and not task.cancelled() and task.exception() is None]
        return [delivery for task in done for delivery in task.result()]

    async def _close(self, run: str) -> None:
        queue = self._queues.pop(run)
        tasks = [task for task, whose in self._standing.items() if whose == run]
        for task in tasks:
            # A cancelled fetch loses nothing: what it had taken goes back with the close.
            task.cancel()
            del self._standing[task]
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(EvalmeshError):
            for delivery in self._untaken(tasks):
                await delivery.nak(0.0)
            await queue.close()

    async def close(self) -> None:
        """Stops taking; what has come and was not taken goes back."""
        if self._keeper is not None:
            self._keeper.cancel()
        self._wanted.clear()
        for run in list(self._queues):
            await self._close(run)
