"""Deleting a run: its record goes first, so that nobody sees half of one, and what is left is found by its mark."""

import logging
from dataclasses import dataclass

from evalmesh.domain import layout
from evalmesh.domain.errors import Conflict, FailedPrecondition, NotFound
from evalmesh.domain.run import Run
from evalmesh.domain.state import State
from evalmesh.gateway.runs.stored import StoredRuns
from evalmesh.runtime.runs import RunRecords
from evalmesh.wire.runs.shard_files import forget

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunDeletion:
    """Deletes runs, and makes up for a gateway that died while it did."""

    records: RunRecords
    stored: StoredRuns

    async def delete(self, run_id: str, *, takeover: bool = False, validate_only: bool = False) -> int:
        """Bytes that are free now, or would be.

        Args:
            run_id: Which.
            takeover: Also a run whose state says it is going on, because its platform is known to have died.
            validate_only: Only say what would happen.

        Raises:
            NotFound: There is no such run.
            FailedPrecondition: It is going on, or somebody counts on its completions.
        """
        while True:
            known = await self.records.store.get(run_id)
            _check_ended(known.value, takeover=takeover)
            await self._check_unused(run_id)
            if validate_only:
                return await self.stored.size(run_id)
            # The mark of a run without a record: the reconciler finishes what this call may leave.
            await self.records.store.set_active(run_id, active=True)
            try:
                await self.records.store.remove(run_id, known.revision)
            except Conflict:
                continue  # somebody resumed it
            return await self.finish(run_id)

    async def finish_orphan(self, run_id: str) -> None:
        """For a run that is marked as going on and has had no record for long: was it being deleted, or being made?"""
        spec = layout.spec_key(run_id)
        if [info.key async for info in self.stored.files.store.list(layout.run_prefix(run_id))] == [spec]:
            # Whoever makes it may only be slow, and its record must not come to stand without what was asked for.
            await self.records.store.set_active(run_id, active=False)
        else:
            await self.finish(run_id)

    async def finish(self, run_id: str) -> int:
        """Frees what is left of a run without a record; doing it twice changes nothing."""
        await self.records.bus.purge(run_id)
        await self.records.release_pools(run_id)
        freed = await self.stored.size(run_id)
        await forget(self.stored.files.store, layout.run_prefix(run_id))
        await self.records.store.forget(run_id)
        await self.records.store.set_active(run_id, active=False)
        _LOG.info("run deleted, %d bytes freed", freed, extra={"run": run_id})
        return freed

    async def _check_unused(self, run_id: str) -> None:
        """A run that has succeeded holds copies of what it reuses; any other may still have to make them."""
        for other in await self.records.store.list_ids():
            if other <= run_id:
                return  # older ones, which cannot name it
            try:
                run = (await self.records.store.get(other)).value
            except NotFound:
                continue
            if run_id in run.spec.reuse_runs and run.state is not State.SUCCEEDED:
                raise FailedPrecondition(
                    f"Run {run_id} is reused by {other}, which has not succeeded yet and would ask everything again; "
                    f"resume or delete {other} first."
                )


def _check_ended(run: Run, *, takeover: bool) -> None:
    if not run.state.terminal and not takeover:
        raise FailedPrecondition(
            f"Run {run.id} is going on ({run.state}); end it first with: evalmesh runs cancel {run.id}"
        )
