"""What may happen to a run, and what each change sets in motion."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

from evalmesh.domain.errors import FailedPrecondition, InvalidInput, NotFound
from evalmesh.domain.progress import BenchmarkRecord, RunRecord
from evalmesh.domain.run import OWN_ENGINES, RUN_FORMAT, BenchmarkProgress, Run, RunSpec
from evalmesh.domain.stage import StageKind
from evalmesh.domain.state import State
from evalmesh.domain.work import Task, WorkItem
from evalmesh.gateway.runs.stored import StoredRuns
from evalmesh.gateway.submission import Submissions
from evalmesh.runtime.progress import change_progress, change_run_progress, read_progress
from evalmesh.runtime.runs import RunRecords
from evalmesh.runtime.telemetry import current_trace
from evalmesh.wire.runs.checks import check_model
from evalmesh.wire.runs.shard_files import RunFiles


class SpecChecks(Protocol):
    """Ask the services that know whether a spec can work; return it complete, and what to know although it does.

    Raise what is wrong: `InvalidInput`, `NotFound`, `Unavailable`, `Unauthenticated`, `Unimplemented`.
    """

    async def check_run(self, spec: RunSpec) -> tuple[RunSpec, Sequence[str]]:
        """Data and endpoints."""
        ...

    async def check_models(self, spec: RunSpec) -> tuple[RunSpec, Sequence[str]]:
        """Endpoints alone."""
        ...


@dataclass(frozen=True, slots=True)
class Resume:
    """How a run should go on."""

    takeover: bool = False
    """Also one that says it is going on."""
    rescore: bool = False
    url: str = ""
    """Where the model is now; empty: where it was."""
    key_ref: str | None = None
    """Its key from now on; `None`: as before."""

    def moves(self, run: Run) -> Run:
        """The run with its model where it is now. Raises `InvalidInput`."""
        if not self.url and self.key_ref is None:
            return run
        if run.spec.model.engine in OWN_ENGINES:
            raise InvalidInput(
                f"url: the engine {run.spec.model.engine} of this run runs the model itself and asks no server; leave "
                "out address and key.",
                {"field": "url"},
            )
        if run.spec.model.engine == "recorded":
            raise InvalidInput("url: this run asks no model, so it needs no address; leave it out.", {"field": "url"})
        moved = replace(
            run,
            moved_url=self.url or run.moved_url,
            moved_key_ref=run.moved_key_ref if self.key_ref is None else self.key_ref,
        )
        check_model(moved.asked.model)
        return moved


@dataclass(frozen=True, slots=True)
class RunLifecycle(Submissions[RunSpec, Run]):
    """Creates, reads, lists, cancels and resumes runs."""

    book: RunRecords
    files: RunFiles
    checks: SpecChecks
    host: str = ""
    """Whose runners serve what is submitted or resumed here; see `Run.host`."""

    async def get(self, id_: str) -> Run:
        """The run with its progress. Raises `NotFound`."""
        run = await self.book.get(id_)
        rows = await asyncio.gather(*(self._progress(run.id, spec.name) for spec in run.spec.benchmarks))
        return replace(run, benchmarks=tuple(rows))

    @property
    def stored(self) -> StoredRuns:
        """What the object store says of runs."""
        return StoredRuns(self.control, self.files)

    async def _progress(self, run_id: str, benchmark: str) -> BenchmarkProgress:
        known = await read_progress(self.control, run_id, benchmark)
        return BenchmarkProgress(
            name=benchmark,
            total=known.total,
            done=known.done,
            generated=known.done,
            errored=known.errored,
            unscored=known.unscored,
            value=known.value,
            outcomes=known.outcomes,
        )

    async def resume(self, run_id: str, wish: Resume) -> Run:
        """Goes on where the run stopped.

        Raises `FailedPrecondition` when there is nothing to go on with, and what is wrong with the endpoints that are
        still needed.
        """
        notes: tuple[str, ...] = ()

        def queued(run: Run) -> Run:
            _check_resumable(run, wish)
            again = replace(
                run,
                state=State.QUEUED,
                attempt=run.attempt + 1,
                host=self.host,
                end_time=None,
                error="",
                error_reason="",
            )
            return replace(wish.moves(again), notes=notes)

        known = await self.book.get(run_id)
        _check_resumable(known, wish)
        moved = wish.moves(known)
        if known.state.terminal:
            await self.book.await_stopped(known)
        if not wish.rescore and not await self._all_answered(known):
            notes = tuple((await self.checks.check_models(moved.asked))[1])
        await self.book.bus.purge(run_id)
        if wish.rescore:
            for spec in known.spec.benchmarks:
                await self._forget_scores(run_id, spec.name)
        await self.control.set_control(run_id, "run")
        await self.control.set_active(run_id, active=True)
        run = await self.book.change(run_id, queued)
        await self.book.bus.publish([self.first(run)])
        return await self.stored.look(await self.get(run_id), size=False, answered=not wish.rescore)

    async def _all_answered(self, run: Run) -> bool:
        """Whether no model is asked any more, so that none need be there."""
        for spec in run.spec.benchmarks:
            files = self.files.of(run.id, spec.name)
            if (index := await files.find_index()) is None:
                return False
            for stage in (await files.read_plan()).graph.stages:
                if stage.role and len(await files.of(stage.name).there()) < index.shard_count:
                    return False
        return True

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
        await change_progress(self.control, run_id, benchmark, _start_again)
        await change_run_progress(self.control, run_id, _none_reduced)


def _start_again(record: BenchmarkRecord) -> bool:
    """Nothing is in, and whoever plans says again how much there is."""
    fresh = BenchmarkRecord(shards=record.shards, total=record.total)
    for field in fields(BenchmarkRecord):
        setattr(record, field.name, getattr(fresh, field.name))
    return True


def _none_reduced(record: RunRecord) -> bool:
    record.reduced = "0"
    return True


def finish_item(run: Run, cancel: str) -> WorkItem:
    """Ends a run that is being cancelled."""
    return WorkItem(run.id, Task.FINISH, error=cancel, attempt=run.attempt, trace=current_trace())


def run_lifecycle(records: RunRecords, files: RunFiles, checks: SpecChecks, host: str = "") -> RunLifecycle:
    """Planned by the data set loader, ended by the report aggregator."""

    async def draft(spec: RunSpec) -> Run:
        for earlier in spec.reuse_runs:
            await records.get(earlier)
        spec, notes = await checks.check_run(spec)
        return Run("", spec, State.QUEUED, records.clock.now(), format=RUN_FORMAT, host=host, notes=tuple(notes))

    def first(run: Run) -> WorkItem:
        return WorkItem(run.id, Task.PLAN, attempt=run.attempt, trace=current_trace())

    return RunLifecycle(records, records.store, draft, first, finish_item, files, checks, host)


def _check_resumable(run: Run, wish: Resume) -> None:
    if run.format != RUN_FORMAT:
        raise FailedPrecondition(
            f"Run {run.id} was made by an older version of evalmesh, which kept its shards in another way. Start a new "
            f"run with --use-cache {run.id}: what it has generated is copied."
        )
    if run.state is State.SUCCEEDED and not wish.rescore:
        raise FailedPrecondition(
            f"Run {run.id} has succeeded; there is nothing to resume. To ask failed requests again, start a new run "
            f"with --use-cache {run.id}: what succeeded is copied."
        )
    if not run.state.terminal and not wish.takeover:
        raise FailedPrecondition(f"Run {run.id} is going on ({run.state}); watch it with: evalmesh runs watch {run.id}")
