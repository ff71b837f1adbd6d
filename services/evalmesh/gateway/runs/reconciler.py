"""No run is stuck: what a crash left between a state and its message is made up for, what cannot go on is ended.

One gateway does this at a time, by lease. It looks at the runs that go on and at nothing else.
"""

import asyncio
import logging
import secrets
from dataclasses import dataclass, field, replace

from evalmesh.domain.errors import EvalmeshError, NotFound
from evalmesh.domain.run import Run, RunState
from evalmesh.domain.work import PoolNote, PoolWish, Task, WorkItem
from evalmesh.gateway.runs.deletion import RunDeletion
from evalmesh.gateway.runs.lifecycle import finish_item
from evalmesh.runtime.runs import RunRecords
from evalmesh.runtime.telemetry import current_trace

_LOG = logging.getLogger(__name__)
_LEASE = "reconciler"
_LOOKS = 2
"""So many looks in a row must find nothing queued before a run counts as forgotten."""


@dataclass(frozen=True, slots=True)
class ReconcilerPolicy:
    """How often, and how patient."""

    interval_s: float = 2.0
    settle_s: float = 4.0
    """A run whose state changed more recently is left alone."""
    pool_wait_s: float = 60.0
    """So long a pool may be served by nobody before that is said, or ends the run if runners refuse it."""
    note_fresh_s: float = 45.0
    """What a runner said of a pool holds so long."""
    orphan_s: float = 60.0
    """A mark of a run whose record does not come within this is of one that was never made, or was being deleted."""


@dataclass(slots=True)
class _Seen:
    """What is remembered of a run between two looks."""

    missing_since: float | None = None
    empty_looks: int = 0
    unserved_since: dict[str, float] = field(default_factory=dict)


class Reconciler:
    """Looks after runs that go on."""

    def __init__(self, records: RunRecords, policy: ReconcilerPolicy, deletion: RunDeletion) -> None:
        self._records = records
        self._deletion = deletion
        self._policy = policy
        self._name = secrets.token_hex(8)
        self._seen: dict[str, _Seen] = {}

    async def run(self) -> None:
        """Never ends."""
        while True:
            try:
                lease_s = 5 * self._policy.interval_s
                now = self._records.clock.now()
                if await self._records.store.take_lease(_LEASE, self._name, now, lease_s):
                    await self._look()
            except EvalmeshError as error:
                _LOG.warning("runs could not be looked after: %s", error.message)
            await asyncio.sleep(self._policy.interval_s)

    async def _look(self) -> None:
        active = await self._records.store.list_active()
        self._seen = {run: self._seen.get(run, _Seen()) for run in active}
        for run in active:
            await self._reconcile(run, self._seen[run])

    async def _reconcile(self, run_id: str, seen: _Seen) -> None:
        now = self._records.clock.now()
        try:
            run = (await self._records.store.get(run_id)).value
        except NotFound:
            seen.missing_since = seen.missing_since or now
            if now - seen.missing_since > self._policy.orphan_s:
                await self._deletion.finish_orphan(run_id)
            return
        if run.state.terminal:
            await self._records.stop(run)
            return
        if run.state is RunState.RUNNING and not await self._look_at_pools(run, seen, now):
            return
        if now - run.change_time < self._policy.settle_s:
            return
        if await self._records.bus.pending(run.id):
            seen.empty_looks = 0
            return
        seen.empty_looks += 1
        if seen.empty_looks >= _LOOKS:
            seen.empty_looks = 0
            await self._take_up(run, now)

    async def _take_up(self, run: Run, now: float) -> None:
        """Nothing of the run is queued or in hand, and it goes on: whoever was to publish the next item has died."""
        _LOG.warning("run %s was forgotten in state %s; taking it up", run.id, run.state)
        if run.state is RunState.CANCELLING:
            await self._records.store.set_control(run.id, "cancel")
            await self._records.bus.publish([finish_item(run, f"cancel-{secrets.token_hex(4)}")])
            return
        # With an id of its own: the queue may still remember the one that was lost.
        again = WorkItem(run.id, Task.PLAN, attempt=run.attempt, handovers=int(now) % 2**31, trace=current_trace())
        await self._records.bus.publish([again])

    async def _look_at_pools(self, run: Run, seen: _Seen, now: float) -> bool:
        """Says in the run what it waits for; `False` when it cannot go on and was ended."""
        notice = ""
        for wish in await self._records.store.list_pools(run.id):
            notes = await self._records.store.pool_notes(wish.pool.id)
            fresh = sorted(
                (note for note in notes if now - note.time < self._policy.note_fresh_s), key=lambda note: note.time
            )
            notice = next((note.trouble for note in reversed(fresh) if note.trouble), notice)
            found = self._unserved(wish, fresh, seen, now)
            if found is None:
                continue
            if found:
                await self._records.fail(run.id, _refused(wish, found), "POOL_REFUSED")
                return False
            notice = (
                f"No model runner serves {wish.pool.model.label} (pool {wish.pool.id}) yet; the run goes on as soon as "
                "one does."
            )
        if notice != run.notice:
            await self._records.change(
                run.id, lambda current: current if current.winding_up else replace(current, notice=notice)
            )
        return True

    def _unserved(self, wish: PoolWish, fresh: list[PoolNote], seen: _Seen, now: float) -> str | None:
        """Why runners refuse a pool nobody has served for too long, "" if none says; `None`: it is served, or new.

        `fresh`: notes on the pool, the newest last.
        """
        if any(note.serves for note in fresh):
            seen.unserved_since.pop(wish.pool.id, None)
            return None
        since = seen.unserved_since.setdefault(wish.pool.id, now)
        if now - since < self._policy.pool_wait_s:
            return None
        return fresh[-1].message if fresh else ""


def _refused(wish: PoolWish, why: str) -> str:
    return (
        f"No model runner can serve {wish.pool.model.label}: {why} Put that right and resume the run; nothing that was "
        "generated is lost."
    )
