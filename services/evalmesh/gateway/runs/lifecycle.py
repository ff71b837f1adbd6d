"""What may happen to a run, and what each change sets in motion."""

import asyncio
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

from evalmesh.domain.errors import FailedPrecondition, NotFound
from evalmesh.domain.progress import BenchmarkRecord, RunRecord
from evalmesh.domain.run import RUN_FORMAT, BenchmarkProgress, Run, RunSpec, RunState
from evalmesh.domain.stage import StageKind
from evalmesh.domain.work import Task, WorkItem
from evalmesh.gateway.acceptance import Acceptance
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.progress import change_progress, change_run_progress, read_progress
from evalmesh.runtime.runs import RunRecords
from evalmesh.runtime.telemetry import current_trace
from evalmesh.wire.runs.shard_files import RunFiles

_LOG = logging.getLogger(__name__)


class SpecCheck(Protocol):
    """Asks the services that know whether a spec can work; raises what is wrong with it."""

    async def __call__(self, spec: RunSpec) -> None:
        """`InvalidInput`, `NotFound`, `Unavailable`, `Unauthenticated`, `Unimplemented`."""
        ...


@dataclass(frozen=True, slots=True)
class RunLifecycle:
    """Creates, reads, cancels and resumes runs."""

    records: RunRecords
    files: RunFiles
    check: SpecCheck

    @property
    def runs(self) -> RunStore:
        """Where the records are."""
        return self.records.store

    @property
    def bus(self) -> Bus:
        """Where events come from."""
        return self.records.bus

    @property
    def clock(self) -> Clock:
        """What time it is."""
        return self.records.clock

    async def create(self, spec: RunSpec, request_id: str = "", *, validate_only: bool = False) -> Run:
        """Accepts a run, or refuses it before anything is spent. The same `request_id` gives the same run."""
        acceptance = self._acceptance()
        if (known := await acceptance.known(request_id)) is not None:
            return known
        for earlier in spec.reuse_runs:
            await self.runs.get_run(earlier)
        await self.check(spec)
        now = self.clock.now()

        def make(run_id: str) -> Run:
            return Run(
                id=run_id,
                spec=spec,
                state=RunState.QUEUED,
                create_time=now,
                request_id=request_id,
                format=RUN_FORMAT,
                change_time=now,
            )

        if validate_only:
            return replace(make(""), request_id="")
        run = await acceptance.accept(request_id, now, make)
        _LOG.info("run accepted", extra={"run": run.id})
        return run

    def _acceptance(self) -> Acceptance[Run]:
        return Acceptance(
            find_request=self.runs.find_request,
            claim_request=self.runs.claim_request,
            get=self._record,
            create=self._create,
            is_fresh=lambda run: run.state is RunState.QUEUED and run.attempt == 0,
            queue=self._queue_plan,
        )

    async def _record(self, run_id: str) -> Run:
        return (await self.runs.get_run(run_id)).value

    async def _create(self, run: Run) -> None:
        # First, so that no run is ever forgotten; a mark without a run is harmless.
        await self.runs.set_active(run.id, active=True)
        await self.runs.create_run(run)

    async def _queue_plan(self, run: Run) -> None:
        await self.bus.publish([WorkItem(run.id, Task.PLAN, attempt=run.attempt, trace=current_trace())])

    async def get(self, run_id: str) -> Run:
        """The run with its progress. Raises `NotFound`."""
        run = (await self.runs.get_run(run_id)).value
        rows = await asyncio.gather(*(self._progress(run.id, spec.name) for spec in run.spec.benchmarks))
        return replace(run, benchmarks=tuple(rows))

    async def _progress(self, run_id: str, benchmark: str) -> BenchmarkProgress:
        known = await read_progress(self.runs, run_id, benchmark)
        return BenchmarkProgress(
            name=benchmark,
            total=known.total,
            done=known.done,
            generated=known.done,
            errored=known.errored,
            unscored=known.unscored,
            value=known.value,
        )

    async def list_ids(self) -> Sequence[str]:
        """All runs, newest first."""
        return await self.runs.list_runs()

    async def cancel(self, run_id: str) -> Run:
        """Stops work on the run; what is finished is reported. Raises `FailedPrecondition` when it has ended."""

        def cancelling(run: Run) -> Run:
            if run.state.terminal:
                raise FailedPrecondition(f"Run {run_id} has ended already ({run.state}); there is nothing to cancel.")
            return replace(run, state=RunState.CANCELLING)

        run = await self.records.change(run_id, cancelling)
        await self.runs.set_control(run_id, "cancel")
        await self.bus.purge(run_id)
        await self.bus.publish([finish_item(run)])
        return await self.get(run_id)

    async def resume(self, run_id: str, *, takeover: bool = False, rescore: bool = False) -> Run:
        """Goes on where the run stopped. Raises `FailedPrecondition` when there is nothing to go on with."""

        def queued(run: Run) -> Run:
            _check_resumable(run, takeover=takeover, rescore=rescore)
            return replace(
                run, state=RunState.QUEUED, attempt=run.attempt + 1, end_time=None, error="", error_reason=""
            )

        known = (await self.runs.get_run(run_id)).value
        _check_resumable(known, takeover=takeover, rescore=rescore)
        await self.bus.purge(run_id)
        if rescore:
            for spec in known.spec.benchmarks:
                await self._forget_scores(run_id, spec.name)
        await self.runs.set_control(run_id, "run")
        await self.runs.set_active(run_id, active=True)
        run = await self.records.change(run_id, queued)
        await self._queue_plan(run)
        return await self.get(run_id)

    async def _forget_scores(self, run_id: str, benchmark: str) -> None:
        """Everything that a judgement has touched, of this benchmark and no other; what models said stays."""
        files = self.files.of(run_id, benchmark)
        try:
            plan = await files.read_plan()
        except NotFound:
            return
        for stage in plan.graph.stages:
            if stage.kind not in {StageKind.GENERATE, StageKind.GIVEN}:
                await files.of(stage.name).forget()
        await files.forget_folded()
        await change_progress(self.runs, run_id, benchmark, _start_again)
        await change_run_progress(self.runs, run_id, _none_reduced)


def _start_again(record: BenchmarkRecord) -> bool:
    """Nothing is in, and whoever plans says again how much there is."""
    fresh = BenchmarkRecord(shards=record.shards, total=record.total)
    for field in fields(BenchmarkRecord):
        setattr(record, field.name, getattr(fresh, field.name))
    return True


def _none_reduced(record: RunRecord) -> bool:
    record.reduced = "0"
    return True


def finish_item(run: Run) -> WorkItem:
    """Ends a run that is being cancelled. Each has an id of its own: a queue remembers those of purged items."""
    return WorkItem(
        run.id,
        Task.FINISH,
        error=f"cancel-{secrets.token_hex(4)}",
        attempt=run.attempt,
        trace=current_trace(),
    )


def _check_resumable(run: Run, *, takeover: bool, rescore: bool) -> None:
    if run.format != RUN_FORMAT:
        raise FailedPrecondition(
            f"Run {run.id} was made by an older version of evalmesh, which kept its shards in another way. Start a new "
            f"run with --use-cache {run.id}: what it has generated is copied."
        )
    if run.state is RunState.SUCCEEDED and not rescore:
        raise FailedPrecondition(
            f"Run {run.id} has succeeded; there is nothing to resume. To ask failed requests again, start a new run "
            f"with --use-cache {run.id}: what succeeded is copied."
        )
    if not run.state.terminal and not takeover:
        raise FailedPrecondition(f"Run {run.id} is going on ({run.state}); watch it with: evalmesh runs watch {run.id}")
