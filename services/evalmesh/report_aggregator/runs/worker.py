"""The report step: shards into the results, and when all are in, the report."""

import asyncio
import json
import logging
from collections import Counter
from dataclasses import replace

from evalmesh.benchmarks import registry
from evalmesh.domain import layout
from evalmesh.domain.completion import Completion, CompletionError
from evalmesh.domain.metric import BenchmarkReport
from evalmesh.domain.run import Run, RunState
from evalmesh.domain.score import Score
from evalmesh.domain.work import RunPlan, Step, WorkItem
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.run_store import RunStore
from evalmesh.report_aggregator.runs.planned_rows import planned_rows
from evalmesh.report_aggregator.runs.progress import ProgressKeeper
from evalmesh.report_aggregator.runs.report_json import build_report
from evalmesh.report_aggregator.runs.shard_counts import count_scores
from evalmesh.runtime.plans import PlanCache
from evalmesh.runtime.runs import change_run
from evalmesh.runtime.telemetry import current_trace
from evalmesh.wire.runs.shard_files import ShardFiles

_LOG = logging.getLogger(__name__)


class ReportWorker:
    """Takes in scored shards and writes reports. A shard taken in twice counts once."""

    def __init__(self, *, files: ShardFiles, runs: RunStore, bus: Bus, clock: Clock) -> None:
        self._files = files
        self._runs = runs
        self._bus = bus
        self._clock = clock
        self._plans = PlanCache(files)
        self._progress = ProgressKeeper(runs, bus, clock)
        self._warm_up: asyncio.Task[None] | None = None

    async def handle(self, item: WorkItem) -> None:
        """A shard, or with `final` the whole run."""
        if item.final:
            await self._finish(item)
            return
        if self._warm_up is None:
            # While the model is being waited for, so that the report need not wait.
            self._warm_up = asyncio.create_task(asyncio.to_thread(_load_and_warm_up))
        plan = await self._plans.get(item.run)
        if item.error and not await self._files.has_scores(item.run, item.benchmark, item.shard):
            await self._give_up_shard(item, plan)
        scores = await self._files.read_scores(item.run, item.benchmark, item.shard)
        counts = count_scores(registry.get(item.benchmark), item.shard, scores)
        if await self._progress.take_in(plan, counts):
            final = WorkItem(run=item.run, step=Step.REPORT, final=True, attempt=item.attempt, trace=current_trace())
            await self._bus.publish([final])

    async def _give_up_shard(self, item: WorkItem, plan: RunPlan) -> None:
        """A step set the shard aside: its requests become errored results, so that the run still ends."""
        place = (item.run, item.benchmark, item.shard)
        one = plan.benchmark(item.benchmark)
        rows = await planned_rows(self._files, item.run, one, one.shards[item.shard])
        reason = f"poison: {item.error}"
        known = {c.request_id: c for c in await self._files.read_checkpoints(*place)}
        if not await self._files.has_completions(*place):
            error = CompletionError("poison", item.error)
            completions = [
                known.get(request.id)
                or Completion(sample_id=request.sample_id, repeat=request.repeat, digest=request.digest, error=error)
                for row in rows
                for request in row.requests()
            ]
            await self._files.write_completions(*place, completions)
        scores = [
            Score(request.sample_id, request.repeat, "errored", reason=reason)
            for row in rows
            for request in row.requests()
        ]
        await self._files.write_scores(*place, scores)

    async def set_aside(self, item: WorkItem, error: str) -> None:
        """A shard or run whose results cannot be computed: the run has failed and says why."""

        def failed(run: Run) -> Run:
            if run.state.terminal:
                return run
            return replace(
                run, state=RunState.FAILED, error=error, error_reason="REPORT_FAILED", end_time=self._clock.now()
            )

        await change_run(self._runs, self._bus, self._clock, item.run, failed)

    async def _finish(self, item: WorkItem) -> None:
        run = (await self._runs.get_run(item.run)).value
        if run.state.terminal or run.attempt != item.attempt:
            return
        plan = await self._files.find_plan(run.id)
        ended = replace(run, state=_end_state(run), end_time=self._clock.now())
        if plan is not None:
            from evalmesh.report_aggregator.runs.collect import BenchmarkCollector  # noqa: PLC0415  (see below)

            reports = [
                await BenchmarkCollector(self._files, run.id, one, run.spec.on_error).collect()
                for one in plan.benchmarks
            ]
            ended = _failed_by_policy(ended, reports)
            await self._write_report(ended, plan, reports)

        def end(current: Run) -> Run:
            if current.state.terminal or current.attempt != item.attempt:
                return current
            return replace(
                current,
                state=ended.state,
                end_time=ended.end_time,
                error=ended.error,
                error_reason=ended.error_reason,
            )

        await change_run(self._runs, self._bus, self._clock, run.id, end)
        _LOG.info("run ended", extra={"state": str(ended.state)})

    async def _write_report(self, run: Run, plan: RunPlan, reports: list[BenchmarkReport]) -> None:
        from evalmesh.pages.runs.page import render_html  # noqa: PLC0415  (see below)

        titles = {report.name: registry.get(report.name).title for report in reports}
        document = build_report(run, plan, reports, self._clock.now(), titles=titles)
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        await self._files.store.put(layout.report_html_key(run.id), render_html(document).encode())
        await self._files.store.put(layout.report_json_key(run.id), text.encode())


def _load_and_warm_up() -> None:
    """Loads what a report is made with while the model is waited for: the platform starts sooner without it."""
    from evalmesh.pages.runs.page import warm_up  # noqa: PLC0415  (brings jinja2)
    from evalmesh.report_aggregator.runs import collect  # noqa: F401, PLC0415  (brings pyarrow)

    warm_up()


def _end_state(run: Run) -> RunState:
    return RunState.CANCELLED if run.state is RunState.CANCELLING else RunState.SUCCEEDED


def _failed_by_policy(run: Run, reports: list[BenchmarkReport]) -> Run:
    missing: Counter[str] = Counter()
    for report in reports:
        if report.metrics:
            missing[report.name] = report.metrics[0].n_errored + report.metrics[0].n_unscored
    if run.state is not RunState.SUCCEEDED or run.spec.on_error != "fail" or not missing.total():
        return run
    per_benchmark = ", ".join(f"{name}: {count}" for name, count in missing.items() if count)
    error = f"{missing.total()} requests have no score ({per_benchmark}) and the policy on_error is 'fail'."
    return replace(run, state=RunState.FAILED, error=error, error_reason="ERRORED_SAMPLES")
