"""What may happen to a run, and what each change sets in motion."""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from evalmesh.domain import layout
from evalmesh.domain.errors import FailedPrecondition
from evalmesh.domain.progress import ProgressRecord
from evalmesh.domain.run import BenchmarkProgress, Run, RunSpec, RunState
from evalmesh.domain.work import Step, WorkItem
from evalmesh.gateway.acceptance import Acceptance
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.runs import change_run
from evalmesh.runtime.telemetry import current_trace
from evalmesh.wire.codec import decode_json

_LOG = logging.getLogger(__name__)


class SpecCheck(Protocol):
    """Asks the services that know whether a spec can work; raises what is wrong with it."""

    async def __call__(self, spec: RunSpec) -> None:
        """`InvalidInput`, `NotFound`, `Unavailable`, `Unauthenticated`, `Unimplemented`."""
        ...


@dataclass(frozen=True, slots=True)
class RunLifecycle:
    """Creates, reads, cancels and resumes runs."""

    runs: RunStore
    bus: Bus
    objects: ObjectStore
    clock: Clock
    check: SpecCheck

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
            return Run(id=run_id, spec=spec, state=RunState.QUEUED, create_time=now, request_id=request_id)

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
            create=self.runs.create_run,
            is_fresh=lambda run: run.state is RunState.QUEUED and run.attempt == 0,
            queue=self._queue_plan,
        )

    async def _record(self, run_id: str) -> Run:
        return (await self.runs.get_run(run_id)).value

    async def _queue_plan(self, run: Run) -> None:
        await self.bus.publish([WorkItem(run=run.id, step=Step.PLAN, attempt=run.attempt, trace=current_trace())])

    async def get(self, run_id: str) -> Run:
        """The run with its progress. Raises `NotFound`."""
        run = (await self.runs.get_run(run_id)).value
        known = await self.runs.get_progress(run_id)
        record = decode_json(ProgressRecord, known.value) if known.value else ProgressRecord()
        return replace(run, benchmarks=_progress(run, record))

    async def list_ids(self) -> Sequence[str]:
        """All runs, newest first."""
        return await self.runs.list_runs()

    async def cancel(self, run_id: str) -> Run:
        """Stops work on the run; what is finished is reported. Raises `FailedPrecondition` when it has ended."""

        def cancelling(run: Run) -> Run:
            if run.state.terminal:
                raise FailedPrecondition(f"Run {run_id} has ended already ({run.state}); there is nothing to cancel.")
            return replace(run, state=RunState.CANCELLING)

        run = await change_run(self.runs, self.bus, self.clock, run_id, cancelling)
        await self.runs.set_control(run_id, "cancel")
        await self.bus.purge(run_id)
        final = WorkItem(
            run=run_id,
            step=Step.REPORT,
            final=True,
            error=f"cancel-{secrets.token_hex(4)}",
            attempt=run.attempt,
            trace=current_trace(),
        )
        await self.bus.publish([final])
        return await self.get(run_id)

    async def resume(self, run_id: str, *, takeover: bool = False, rescore: bool = False) -> Run:
        """Goes on where the run stopped. Raises `FailedPrecondition` when there is nothing to go on with."""

        def queued(run: Run) -> Run:
            _check_resumable(run, takeover=takeover, rescore=rescore)
            return replace(
                run, state=RunState.QUEUED, attempt=run.attempt + 1, end_time=None, error="", error_reason=""
            )

        _check_resumable((await self.runs.get_run(run_id)).value, takeover=takeover, rescore=rescore)
        await self.bus.purge(run_id)
        if rescore:
            await self._forget_scores(run_id)
        await self.runs.set_control(run_id, "run")
        run = await change_run(self.runs, self.bus, self.clock, run_id, queued)
        await self._queue_plan(run)
        return await self.get(run_id)

    async def _forget_scores(self, run_id: str) -> None:
        keys = [info.key async for info in self.objects.list(layout.run_prefix(run_id)) if "/scores/" in info.key]
        await self.objects.delete(keys)
        known = await self.runs.get_progress(run_id)
        if known.value:
            await self.runs.update_progress(run_id, b"", known.revision)


def _check_resumable(run: Run, *, takeover: bool, rescore: bool) -> None:
    if run.state is RunState.SUCCEEDED and not rescore:
        raise FailedPrecondition(
            f"Run {run.id} has succeeded; there is nothing to resume. To ask failed requests again, start a new run "
            f"with --use-cache {run.id}: what succeeded is copied."
        )
    if not run.state.terminal and not takeover:
        raise FailedPrecondition(f"Run {run.id} is going on ({run.state}); watch it with: evalmesh runs watch {run.id}")


def _progress(run: Run, record: ProgressRecord) -> tuple[BenchmarkProgress, ...]:
    rows = []
    for spec in run.spec.benchmarks:
        known = record.benchmarks.get(spec.name)
        if known is None:
            rows.append(BenchmarkProgress(name=spec.name))
            continue
        rows.append(
            BenchmarkProgress(
                name=spec.name,
                total=known.total,
                done=known.done,
                generated=known.done,
                errored=known.errored,
                unscored=known.unscored,
                value=known.value_sum / known.scored if known.scored else None,
            )
        )
    return tuple(rows)
