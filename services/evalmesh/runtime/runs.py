"""Changing a run record, and whether what it asks for is still wanted."""

from collections.abc import Awaitable, Callable

from evalmesh.domain.errors import NotFound
from evalmesh.domain.events import Event
from evalmesh.domain.run import Run
from evalmesh.domain.state import State
from evalmesh.domain.work import WorkItem
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.records import change_record


async def change_run(store: RunStore, bus: Bus, clock: Clock, run_id: str, change: Callable[[Run], Run]) -> Run:
    """Applies `change` to the newest record; a change that returns its argument writes nothing. Raises `NotFound`."""
    return await change_record(
        lambda: store.get_run(run_id),
        store.update_run,
        change,
        lambda: bus.emit(Event(run=run_id, kind="state", source="record", time=clock.now())),
    )


def run_is_over(store: RunStore) -> Callable[[WorkItem], Awaitable[bool]]:
    """For `ControlView`: whether the run of an item has ended or is being cancelled."""

    async def is_over(item: WorkItem) -> bool:
        try:
            run = (await store.get_run(item.run)).value
        except NotFound:
            return True
        return run.attempt >= item.attempt and (run.state.terminal or run.state is State.CANCELLING)

    return is_over
