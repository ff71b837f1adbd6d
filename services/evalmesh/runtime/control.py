"""What is wanted of each run right now: a live view every worker keeps."""

import asyncio
import logging
from collections.abc import Callable

from evalmesh.domain.errors import EvalmeshError
from evalmesh.ports.run_store import RunStore

_LOG = logging.getLogger(__name__)


class ControlView:
    """Follows the control bucket; knows within a second which runs are cancelled."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._cancelled: set[str] = set()
        self._listeners: list[Callable[[str], None]] = []

    def is_cancelled(self, run: str) -> bool:
        """Whether work on the run should stop."""
        return run in self._cancelled

    def on_cancel(self, listener: Callable[[str], None]) -> None:
        """Calls `listener(run)` when a run is cancelled."""
        self._listeners.append(listener)

    async def follow(self) -> None:
        """Runs until cancelled; a service keeps it as one of its loops."""
        while True:
            try:
                async for run, wish in self._store.watch_control():
                    if wish == "cancel":
                        self._cancelled.add(run)
                        for listener in self._listeners:
                            listener(run)
                    else:
                        self._cancelled.discard(run)
            except EvalmeshError as error:
                _LOG.warning("control view lost: %s", error.message)
            await asyncio.sleep(0.5)
