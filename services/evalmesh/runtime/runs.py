"""Changing a run record, ending a run, and whether what it asks for is still wanted."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from evalmesh.domain.errors import NotFound
from evalmesh.domain.events import Event
from evalmesh.domain.run import Run, RunState
from evalmesh.domain.work import Item
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.records import change_record


@dataclass(frozen=True, slots=True)
class RunRecords:
    """Run records, and what goes with a change of their state."""

    store: RunStore
    bus: Bus
    clock: Clock

    async def change(self, run_id: str, change: Callable[[Run], Run]) -> Run:
        """Applies `change` to the newest record; one that returns its argument writes nothing. Raises `NotFound`."""

        def timed(run: Run) -> Run:
            changed = change(run)
            return changed if changed.state is run.state else replace(changed, change_time=self.clock.now())

        return await change_record(
            lambda: self.store.get_run(run_id),
            self.store.update_run,
            timed,
            lambda: self.bus.emit(Event(run=run_id, kind="state", source="run-record", time=self.clock.now())),
        )

    async def fail(self, run_id: str, error: str, reason: str) -> None:
        """Ends a run that cannot go on, and with it what it spends. What is finished stays; it can be resumed."""

        def failed(run: Run) -> Run:
            if run.state.terminal:
                return run
            now = self.clock.now()
            return replace(run, state=RunState.FAILED, error=error, error_reason=reason, end_time=now, notice="")

        run = await self.change(run_id, failed)
        if run.state is RunState.FAILED:
            await self.stop(run)

    async def stop(self, run: Run) -> None:
        """Nobody works on an ended run any more. Doing it twice changes nothing; the last step says that it is done."""
        if run.state is not RunState.SUCCEEDED:
            await self.store.set_control(run.id, "cancel")
            await self.bus.purge(run.id)
        for wish in await self.store.list_pools(run.id):
            await self.bus.retire(wish.pool.id, run.id)
        await self.store.withdraw_pools(run.id)
        await self.store.set_active(run.id, active=False)


def run_is_over(store: RunStore) -> Callable[[Item], Awaitable[bool]]:
    """For `ControlView`: whether the run of an item has ended or is being cancelled."""

    async def is_over(item: Item) -> bool:
        try:
            run = (await store.get_run(item.owner)).value
        except NotFound:
            return True
        return run.attempt >= item.attempt and (run.state.terminal or run.state is RunState.CANCELLING)

    return is_over
