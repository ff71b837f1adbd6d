"""What is wanted of each run right now: a live view every worker keeps."""

import asyncio
import logging
from collections.abc import Callable

from evalmesh.domain.errors import EvalmeshError, NotFound
from evalmesh.domain.run import RunState
from evalmesh.domain.work import WorkItem
from evalmesh.ports.run_store import RunStore

_LOG = logging.getLogger(__name__)
_KEPT = 4096
"""Cancelled runs remembered. One that is forgotten has none of its items left in any queue."""


class ControlView:
    """Follows the control bucket; knows within a second which runs are cancelled."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._cancelled: dict[str, None] = {}
        self._listeners: list[Callable[[str], None]] = []

    def is_cancelled(self, run: str) -> bool:
        """Whether work on the run should stop."""
        return run in self._cancelled

    async def is_unwanted(self, item: WorkItem) -> bool:
        """Whether to drop the item, because its run was cancelled. Raises `Unavailable`.

        The view may be a moment old and the item of a run that was resumed meanwhile: dropped, it would never come
        again. So the record decides.
        """
        if item.final or item.run not in self._cancelled:
            return False
        try:
            run = (await self._store.get_run(item.run)).value
        except NotFound:
            return True
        return run.attempt >= item.attempt and (run.state.terminal or run.state is RunState.CANCELLING)

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
