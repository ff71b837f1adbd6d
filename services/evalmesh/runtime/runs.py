"""The records of runs, and what goes with the end of one."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from evalmesh.domain.run import Run
from evalmesh.domain.state import State
from evalmesh.domain.work import Task, WorkItem
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.submission import RecordBook

_STOPPED_WITHIN_S = 10.0
"""Whoever ends a run needs a moment after its state says so."""


@dataclass(frozen=True, slots=True)
class RunRecords(RecordBook[Run]):
    """Run records, and what goes with a change of their state."""

    store: RunStore

    async def create(self, record: Run) -> None:
        """Raises `AlreadyExists`."""
        # First, so that no run is ever forgotten; a mark without a run is harmless.
        await self.store.set_active(record.id, active=True)
        await super(RunRecords, self).create(record)

    async def fail(self, id_: str, error: str, reason: str) -> Run:
        """Ends a run that cannot go on, and with it what it spends. What is finished stays; it can be resumed."""
        run = await super(RunRecords, self).fail(id_, error, reason)
        if run.state is State.FAILED:
            await self.stop(run)
        return run

    async def wind_up(self, id_: str, error: str, reason: str) -> None:
        """Ends a run as FAILED once there is a report of what is finished; what is not is not run, and can be resumed.

        Until then it is CANCELLING, and says why. Of many that say so at once the first one counts.
        """
        first = False

        def failing(known: Run) -> Run:
            nonlocal first
            first = not known.winding_up
            return replace(known, state=State.CANCELLING, error=error, error_reason=reason) if first else known

        run = await self.change(id_, failing)
        if first:
            # What a runner that dies here leaves undone, the reconciler does.
            await self.store.set_control(id_, "cancel")
            await self.bus.purge(id_)
            await self.bus.publish([WorkItem(id_, Task.FINISH, error=f"failed-{reason}", attempt=run.attempt)])

    async def stop(self, run: Run) -> None:
        """Nobody works on an ended run any more. Doing it twice changes nothing; the last step says that it is done.

        Until that is said nobody resumes it (`await_stopped`); whoever comes late to it leaves a resumed one alone.
        """
        if run.notice:
            await self.change(run.id, lambda known: replace(known, notice="") if known.state.terminal else known)
        steps: list[Callable[[], Awaitable[object]]] = [
            partial(self.release_pools, run.id),
            partial(self.store.set_active, run.id, active=False),
        ]
        if run.state is not State.SUCCEEDED:
            steps[:0] = [partial(self.store.set_control, run.id, "cancel"), partial(self.bus.purge, run.id)]
        for step in steps:
            now = (await self.store.get(run.id)).value
            if now.attempt != run.attempt or not now.state.terminal:
                return
            await step()

    async def await_stopped(self, run: Run) -> None:
        """Returns when an ended run is stopped; one whose stopping was left undone is stopped."""
        deadline = time.monotonic() + _STOPPED_WITHIN_S
        while run.id in await self.store.list_active():
            if time.monotonic() > deadline:
                await self.stop(run)
                return
            await asyncio.sleep(0.05)

    async def release_pools(self, run_id: str) -> None:
        """The run needs no pool any more; its queues there go."""
        for wish in await self.store.list_pools(run_id):
            await self.bus.retire(wish.pool.id, run_id)
        await self.store.withdraw_pools(run_id)
