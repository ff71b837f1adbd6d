"""Changing a run record: read, change, write, again if somebody else was quicker; then tell the event stream."""

import asyncio
from collections.abc import Callable

from evalmesh.domain.errors import Conflict
from evalmesh.domain.events import Event
from evalmesh.domain.run import Run
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.run_store import RunStore


async def change_run(store: RunStore, bus: Bus, clock: Clock, run_id: str, change: Callable[[Run], Run]) -> Run:
    """Applies `change` to the newest record; a change that returns its argument writes nothing. Raises `NotFound`."""
    while True:
        known = await store.get_run(run_id)
        changed = change(known.value)
        if changed == known.value:
            return known.value
        try:
            await store.update_run(changed, known.revision)
        except Conflict:
            await asyncio.sleep(0.01)
            continue
        await bus.emit(Event(run=run_id, kind="state", source="run-record", time=clock.now()))
        return changed
