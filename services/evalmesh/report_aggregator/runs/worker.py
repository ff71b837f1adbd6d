"""Reducing: shards come to barriers, blocks are folded, benchmarks are joined, and the run ends with its report."""

import asyncio
import json
import logging
from collections import Counter
from dataclasses import replace
from pathlib import PurePath

from evalmesh.benchmarks import registry
from evalmesh.domain import layout
from evalmesh.domain.completion import Completion, CompletionError
from evalmesh.domain.errors import InternalError, NotFound
from evalmesh.domain.metric import BenchmarkReport
from evalmesh.domain.plan import BLOCK_SHARDS, BenchmarkPlan
from evalmesh.domain.progress import BenchmarkRecord, RunRecord, ShardCounts
from evalmesh.domain.run import Run, RunState
from evalmesh.domain.score import Score
from evalmesh.domain.stage import StageKind
from evalmesh.domain.work import Shard, Task, WorkItem
from evalmesh.report_aggregator.runs.planned_rows import planned_rows
from evalmesh.report_aggregator.runs.progress import ProgressKeeper
from evalmesh.report_aggregator.runs.report_json import build_report
from evalmesh.report_aggregator.runs.shard_counts import count_scores
from evalmesh.runtime.plans import PlanCache
from evalmesh.runtime.progress import change_run_progress
from evalmesh.runtime.runs import RunRecords
from evalmesh.runtime.telemetry import current_trace, trace_id
from evalmesh.wire.runs.shard_files import RunFiles

_LOG = logging.getLogger(__name__)


class ReduceWorker:
    """Takes in shards and writes reports. A shard taken in twice counts once."""

    def __init__(self, files: RunFiles, records: RunRecords) -> None:
        self._files = files
        self._records = records
        self._plans = PlanCache(files)
        self._progress = ProgressKeeper(records.store, records.bus, records.clock)
        self._turn = asyncio.Semaphore(1)
        self._warm_up: asyncio.Task[None] | None = None

    async def handle(self, item: WorkItem) -> None:
        """A shard at a barrier, a block, a benchmark, or the whole run."""
        if self._warm_up is None:
            # While the model is being waited for, so that the report need not wait.
            self._warm_up = asyncio.create_task(asyncio.to_thread(_load_and_warm_up))
        if item.task is Task.ARRIVE:
            await self._arrive(item)
        elif item.task is Task.FOLD:
            await self._fold(item)
        elif item.task is Task.REDUCE:
            await self._reduce(item)
        else:
            await self._finish(item)

    async def set_aside(self, item: WorkItem, error: str) -> None:
        """A shard or benchmark whose results cannot be computed: the run has failed and says why."""
        if item.task is not Task.FOLD:  # what was not folded in time is folded at the end
            await self._records.fail(item.run, error, "REPORT_FAILED")

    # Shards

    async def _arrive(self, item: WorkItem) -> None:
        plan = await self._plans.get(item.run, item.benchmark, item.attempt)
        assert item.shard is not None  # noqa: S101  (arrivals are about shards)
        counts = ShardCounts(item.stage, item.shard.index)
        judged = item.stage == plan.graph.judged
        if item.error and not await self._files.of(item.run, item.benchmark).of(item.stage).has(item.shard.index):
            await self._give_up_shard(item, item.shard, plan)
        if judged:
            scores = await self._files.of(item.run, item.benchmark).read_scores(item.stage, item.shard.index)
            benchmark = registry.get(plan.spec.kind).for_spec(plan.spec)
            counts = count_scores(benchmark, item.stage, item.shard.index, scores)
        record = await self._progress.take_in(item.run, item.benchmark, counts)
        await self._records.bus.publish(self._after(item, plan, record))

    def _after(self, item: WorkItem, plan: BenchmarkPlan, record: BenchmarkRecord) -> list[WorkItem]:
        """What begins because this shard is in."""
        begun = []
        common = WorkItem(item.run, Task.REDUCE, item.benchmark, attempt=item.attempt, trace=current_trace())
        for stage in plan.graph.following(item.stage):
            if stage.barrier and all(record.complete(name) for name in stage.after):
                if stage.kind is StageKind.REDUCE:
                    begun.append(common)
                else:
                    begun.append(replace(common, task=Task.STAGE, stage=stage.name, kind=stage.kind))
        if begun or item.stage != plan.graph.judged:
            return begun
        block = record.full_block(item.stage, item.shard_index)
        return [] if block is None else [replace(common, task=Task.FOLD, block=block)]

    async def _give_up_shard(self, item: WorkItem, shard: Shard, plan: BenchmarkPlan) -> None:
        """A stage set the shard aside: its requests become errored results, so that the run still ends."""
        files = self._files.of(item.run, item.benchmark)
        answered = files.of(plan.graph.answered)
        rows = await planned_rows(files, shard)
        requests = [request for row in rows for request in row.requests()]
        if not await answered.has(shard.index):
            known = {c.request_id: c for c in await answered.read_parts(shard.index)}
            error = CompletionError("poison", item.error)
            completions = [
                known.get(request.id)
                or Completion(sample_id=request.sample_id, repeat=request.repeat, digest=request.digest, error=error)
                for request in requests
            ]
            await answered.write(shard.index, completions)
        if item.stage != plan.graph.answered:
            reason = f"poison: {item.error}"
            scores = [Score(request.sample_id, request.repeat, "errored", reason=reason) for request in requests]
            await files.of(item.stage).write(shard.index, scores)

    # Blocks and benchmarks

    async def _fold(self, item: WorkItem) -> None:
        from evalmesh.report_aggregator.runs.fold import Folder  # noqa: PLC0415  (brings pyarrow)

        files = self._files.of(item.run, item.benchmark)
        folder = Folder(files, await self._plans.get(item.run, item.benchmark, item.attempt), self._turn)
        first = item.block * BLOCK_SHARDS
        try:
            # What else there is to know of a shard is in its rows.
            await folder.keep(item.block, [Shard(first + place, "", 0, 0, 0) for place in range(BLOCK_SHARDS)])
        except (NotFound, InternalError) as error:
            _LOG.warning("block %d is left to the end: %s", item.block, error.message)

    async def _reduce(self, item: WorkItem) -> None:
        from evalmesh.report_aggregator.runs.fold import Folder  # noqa: PLC0415  (brings pyarrow)
        from evalmesh.report_aggregator.runs.join import Joiner  # noqa: PLC0415  (likewise)

        run = (await self._records.store.get(item.run)).value
        if run.state.terminal or run.attempt != item.attempt:
            return
        plan = await self._plans.get(item.run, item.benchmark, item.attempt)
        joiner = Joiner(Folder(self._files.of(item.run, item.benchmark), plan, self._turn), run.spec.on_error)
        if await joiner.kept() is None:
            await joiner.join(complete=True)
        place = next(place for place, spec in enumerate(run.spec.benchmarks) if spec.name == item.benchmark)

        def reduced(record: RunRecord) -> bool:
            before = record.reduced
            record.add(place)
            return record.reduced != before

        record = await change_run_progress(self._records.store, item.run, reduced)
        if record.complete(len(run.spec.benchmarks)):
            await self._finish(item)

    # The run

    async def _finish(self, item: WorkItem) -> None:
        run = (await self._records.store.get(item.run)).value
        if run.state.terminal or run.attempt != item.attempt:
            return
        state = RunState.SUCCEEDED
        if run.state is RunState.CANCELLING:
            state = RunState.FAILED if run.error else RunState.CANCELLED
        ended = replace(run, state=state, end_time=self._records.clock.now())
        plans, reports = await self._benchmark_reports(run)
        if plans:
            ended = _failed_by_policy(ended, reports)
            await self._write_report(ended, plans, reports)

        def end(current: Run) -> Run:
            if current.state.terminal or current.attempt != item.attempt:
                return current
            return replace(
                current,
                state=ended.state,
                end_time=ended.end_time,
                error=ended.error,
                error_reason=ended.error_reason,
                notice="",
            )

        await self._records.stop(await self._records.change(run.id, end))
        _LOG.info("run ended", extra={"state": str(ended.state)})

    async def _benchmark_reports(self, run: Run) -> tuple[list[BenchmarkPlan], list[BenchmarkReport]]:
        """What there is of each benchmark; of a run that was cancelled, what is finished."""
        from evalmesh.report_aggregator.runs.fold import Folder  # noqa: PLC0415  (brings pyarrow)
        from evalmesh.report_aggregator.runs.join import Joiner  # noqa: PLC0415  (likewise)

        plans, reports = [], []
        for spec in run.spec.benchmarks:
            try:
                plan = await self._plans.get(run.id, spec.name, run.attempt)
            except NotFound:
                continue
            joiner = Joiner(Folder(self._files.of(run.id, spec.name), plan, self._turn), run.spec.on_error)
            plans.append(plan)
            reports.append(await joiner.kept() or await joiner.join(complete=False))
        return plans, reports

    async def _write_report(self, run: Run, plans: list[BenchmarkPlan], reports: list[BenchmarkReport]) -> None:
        from evalmesh.report_aggregator.runs.page_file import write_page  # noqa: PLC0415  (brings jinja2 and pyarrow)

        titles = {plan.name: _title(plan) for plan in plans}
        document = build_report(run, plans, reports, self._records.clock.now(), titles=titles, trace_id=trace_id())
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        await write_page(document, self._files.store)
        await self._files.store.put(layout.report_json_key(run.id), text.encode())


def _title(plan: BenchmarkPlan) -> str:
    """Own data are known by their file, not by what reads it."""
    benchmark = registry.get(plan.spec.kind)
    if not benchmark.needs_local_path:
        return benchmark.title
    named = [] if plan.spec.kind == plan.name else [plan.name]
    return ", ".join([*named, PurePath(plan.spec.local_path or "").name]) + f" ({benchmark.title})"


def _load_and_warm_up() -> None:
    """Loads what a report is made with while the model is waited for: the platform starts sooner without it."""
    from evalmesh.pages.runs.page import warm_up  # noqa: PLC0415  (brings jinja2)
    from evalmesh.report_aggregator.runs import join, page_file  # noqa: F401, PLC0415  (bring pyarrow)

    warm_up()


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
