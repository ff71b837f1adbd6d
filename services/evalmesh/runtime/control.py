"""What is wanted of each run or load test right now: a live view every worker keeps."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from evalmesh.domain.errors import EvalmeshError
from evalmesh.domain.work import Item
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.submission import is_over as record_is_over

_LOG = logging.getLogger(__name__)
_KEPT = 4096
"""Cancelled runs remembered. One that is forgotten has none of its items left in any queue."""

IsOver = Callable[[Item], Awaitable[bool]]
"""Whether the record behind an item says that it has ended or is being cancelled. Raises `Unavailable`."""


class ControlView:
    """Follows the control bucket; knows within a second which runs are cancelled.

    `is_over` knows the records that the worker's items are about; without it they are about runs.
    """

    def __init__(self, store: RunStore, is_over: IsOver | None = None) -> None:
        self._store = store
        self._is_over = is_over or record_is_over(store)
        self._cancelled: dict[str, None] = {}
        self._listeners: list[Callable[[str], None]] = []

    def is_cancelled(self, run: str) -> bool:
        """Whether work on the run should stop."""
        return run in self._cancelled

    async def is_unwanted(self, item: Item) -> bool:
        """Whether to drop the item, because its run was cancelled. Raises `Unavailable`.

        The view may be a moment old and the item of a run that was resumed meanwhile: dropped, it would never come
        again. So the record decides.
        """
        if item.ends or item.owner not in self._cancelled:
            return False
        return await self._is_over(item)

    def on_cancel(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Calls `listener(run)` when a run is cancelled, until the returned function is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _cancel(self, run: str) -> None:
        self._cancelled[run] = None
        if len(self._cancelled) > _KEPT:
            del self._cancelled[next(iter(self._cancelled))]
        for listener in tuple(self._listeners):
            listener(run)

    async def follow(self) -> None:
        """Runs until cancelled; a service keeps it as one of its loops."""
        while True:
            try:
                async for run, wish in self._store.watch_control():
                    if wish == "cancel":
                        self._cancel(run)
                    else:
                        self._cancelled.pop(run, None)
            except EvalmeshError as error:
                _LOG.warning("control view lost: %s", error.message)
            await asyncio.sleep(0.5)
