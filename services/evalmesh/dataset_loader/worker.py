"""Planning a run: data sets pinned, samples rendered, shards written and put on the queue as they are cut."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from threading import Event

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.spec import validate_spec
from evalmesh.dataset_loader.bringing import Bringer
from evalmesh.dataset_loader.earlier import EarlierRun, look_at
from evalmesh.dataset_loader.estimating import estimate
from evalmesh.dataset_loader.planner import BenchmarkPlanner, PlannerInput, merge_generation, pools_of
from evalmesh.domain import layout
from evalmesh.domain.errors import DeadlineExceeded, EvalmeshError, InvalidInput, NotFound
from evalmesh.domain.estimate import BenchmarkEstimate
from evalmesh.domain.hub import DatasetOrigin
from evalmesh.domain.needs import Needs
from evalmesh.domain.plan import BenchmarkIndex, BenchmarkPlan
from evalmesh.domain.progress import BenchmarkRecord
from evalmesh.domain.run import BenchmarkSpec, Run, RunSpec, RunState
from evalmesh.domain.stage import StageKind
from evalmesh.domain.work import Pool, PoolWish, Shard, Task, WorkItem
from evalmesh.results.dataset import RunDataset
from evalmesh.results.finding import Datasets
from evalmesh.results.recorded import RecordedCompletions, fetch_recorded
from evalmesh.results.reusable import ReusableCompletions, fetch_reusable
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.progress import change_progress, read_progress
from evalmesh.runtime.runs import RunRecords
from evalmesh.runtime.stages import Publishing
from evalmesh.runtime.telemetry import current_trace
from evalmesh.runtime.work import RunCancelledError
from evalmesh.wire.runs.shard_files import BenchmarkFiles, RunFiles

_LOG = logging.getLogger(__name__)
_FLUSH_ITEMS = 64
_FLUSH_S = 0.2
_SHOWN_ROWS = 3
_CALLER_WAITS_S = 12.0
"""For a hub; the gateway gives a check 20 s."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """A shard that is there, and which stages are done on it."""

    publishing: Publishing
    shard: Shard
    done: frozenset[str] = frozenset()


class PlanWorker:
    """Plans runs. What it writes follows from the spec and the data alone, so that planning twice changes nothing."""

    def __init__(
        self,
        *,
        files: RunFiles,
        records: RunRecords,
        control: ControlView,
        datasets: Datasets,
        dataset_dir: str = "",
    ) -> None:
        self._files = files
        self._records = records
        self._control = control
        self._datasets = datasets
        self._dataset_dir = dataset_dir

    async def handle(self, item: WorkItem) -> None:
        """Plans a run, or takes up the plan there is, and queues every shard that is not in the results."""
        run = (await self._records.store.get(item.run)).value
        try:
            if not (run.state.terminal or run.state is RunState.CANCELLING):
                await self._change(run.id, RunState.PLANNING)
                await _Planning(self, run, item.attempt).work()
                _LOG.info("planned")
        finally:
            # Pools that were wished for after the run had ended would be kept open for it for ever.
            if (await self._records.store.get(item.run)).value.state.terminal:
                await self._records.release_pools(item.run)

    async def set_aside(self, item: WorkItem, error: str) -> None:
        """A run that cannot be planned has failed."""
        await self._records.fail(item.run, error, "PLAN_FAILED")

    async def _change(self, run_id: str, state: RunState) -> None:
        def changed(run: Run) -> Run:
            if run.state.terminal or run.state is RunState.CANCELLING:
                return run
            return replace(run, state=state, start_time=run.start_time or self._records.clock.now())

        await self._records.change(run_id, changed)

    def with_defaults(self, spec: RunSpec) -> RunSpec:
        """The spec with this service's own settings where it leaves a choice."""
        return spec if spec.dataset_dir else replace(spec, dataset_dir=self._dataset_dir)

    async def open_dataset(
        self, one: BenchmarkSpec, spec: RunSpec, origin: DatasetOrigin | None = None, *, patient: bool = False
    ) -> RunDataset:
        """The data set a run would use; what it has of a hub may still have to be brought.

        `patient`: nobody waits for the answer, so a hub that is busy may have its pause.
        """
        benchmark = registry.get(one.kind)
        validate_spec(benchmark, one)
        datasets = self._datasets if patient else replace(self._datasets, patience_s=_CALLER_WAITS_S)
        return await datasets.open(benchmark, one, self.with_defaults(spec), origin)

    async def check(self, spec: RunSpec) -> list[Needs]:
        """What each benchmark needs of the endpoint of the model under test.

        Raises what planning would raise about names, options, roles and data that is missing or cannot be used at all;
        reads no more rows than it takes to find one that can, and none that would have to be downloaded for it.
        """
        needs = []
        for one in spec.benchmarks:
            dataset = await self.open_dataset(one, spec)
            if one.local_path or not dataset.benchmark.dataset.packaged:
                await asyncio.to_thread(_check_rows, dataset)
            benchmark = dataset.benchmark
            graph = benchmark.graph_of(one)
            graph.check()
            if not spec.completions_digest:
                pools_of(graph.roles, spec)
            longest = merge_generation(benchmark.generation, spec.generation).max_tokens
            needs.append(benchmark.needs(spec.model.kind, longest))
        return needs

    async def estimate(self, spec: RunSpec, gone: Event) -> list[BenchmarkEstimate]:
        """What a run would ask, per benchmark; gives up once `gone` is set. Raises as `check` does."""

        def stop() -> None:
            if gone.is_set():
                raise DeadlineExceeded("Nobody waits for this count any more.")

        found = []
        for one in spec.benchmarks:
            dataset = await self.open_dataset(one, spec)
            await dataset.bring()
            found.append(await asyncio.to_thread(estimate, dataset, spec, stop))
        return found


def _check_rows(dataset: RunDataset) -> None:
    if not dataset.missing:
        dataset.check_rows()


class _Planning:
    """One run being planned."""

    def __init__(self, worker: PlanWorker, run: Run, attempt: int) -> None:
        self._worker = worker
        self._records = worker._records  # noqa: SLF001  (one thing in two classes)
        self._files = worker._files  # noqa: SLF001  (likewise)
        self._run = run
        self._spec = run.asked
        self._attempt = attempt
        self._ready: list[WorkItem] = []
        self._counted: dict[str, BenchmarkPlanner] = {}
        self._flushing = asyncio.Lock()
        self._total = 0

    def _is_cancelled(self) -> bool:
        return self._worker._control.is_cancelled(self._run.id)  # noqa: SLF001  (likewise)

    async def work(self) -> None:
        spec = self._spec
        datasets = [await self._open(one) for one in spec.benchmarks]
        await Bringer(self._records, self._run.id, self._is_cancelled).bring(datasets)
        recorded = None
        if spec.completions_digest:
            key = layout.imported_completions_key(spec.completions_digest)
            recorded = await fetch_recorded(self._files.store, key)
        reusable = None
        try:
            keys = [layout.imported_completions_key(one) for one in spec.reuse_completions]
            reusable = await fetch_reusable(self._files.store, keys)
            await self._cut_all(datasets, recorded, reusable)
        finally:
            for opened in (recorded, reusable):
                if opened is not None:
                    opened.close()

    async def _open(self, one: BenchmarkSpec) -> RunDataset:
        """A moving revision is what it was when planning began, however often that was broken off."""
        sources = await self._files.of(self._run.id, one.name).find_sources()
        origin = sources.origin if sources is not None else None
        return await self._worker.open_dataset(one, self._spec, origin, patient=True)

    async def _cut_all(
        self,
        datasets: Sequence[RunDataset],
        recorded: RecordedCompletions | None,
        reusable: ReusableCompletions | None,
    ) -> None:
        spec = self._spec
        earlier = [one for name in spec.reuse_runs if (one := await self._earlier(name)) is not None]
        if recorded is None:
            await self._wish_pools(datasets)
        planners = []
        for dataset in datasets:
            given = PlannerInput(self._run.id, spec, dataset, recorded, earlier, reusable, self._is_cancelled)
            planners.append(BenchmarkPlanner(self._files.of(self._run.id, dataset.spec.name), given))
        streams = [self._cut(planner) for planner in planners]
        flushing = asyncio.create_task(self._flush_now_and_then())
        try:
            await self._interleave(streams)
        finally:
            flushing.cancel()
            await asyncio.gather(flushing, return_exceptions=True)
            for stream in streams:
                await stream.aclose()  # type: ignore[attr-defined]  # they are generators
        await self._flush()
        if not self._total:
            names = ", ".join(one.name for one in spec.benchmarks)
            reasons = [reason for planner in planners for reason in planner.malformed_rows][:_SHOWN_ROWS]
            why = f" Rows that cannot be used: {'; '.join(reasons)}." if reasons else ""
            raise InvalidInput(
                f"There is not a single sample to evaluate in {names}; check the data and the limit.{why}"
            )

    async def _earlier(self, name: str) -> EarlierRun | None:
        try:
            return await look_at(self._files, (await self._records.store.get(name)).value)
        except NotFound:
            _LOG.warning("run %s, whose completions were to be reused, has been deleted", name)
            return None

    async def _wish_pools(self, datasets: Sequence[RunDataset]) -> None:
        spec = self._spec
        roles = dict.fromkeys(role for one in datasets for role in one.benchmark.graph_of(one.spec).roles)
        for role, pool in pools_of(tuple(roles), spec).items():
            wish = PoolWish(Pool(pool, spec.model_of(role)), self._run.id, self._run.host, spec.stop_after_failures)
            await self._records.store.wish_pool(wish)

    async def _interleave(self, streams: Sequence[AsyncIterator[_Cut]]) -> None:
        """One shard of each benchmark in turn, so that none is left for the end, where it would drain the pool."""
        going = list(streams)
        while going:
            for stream in tuple(going):
                cut = await anext(stream, None)
                if cut is None:
                    going.remove(stream)
                    continue
                self._ready += cut.publishing.ready(cut.shard, cut.done)
                if len(self._ready) >= _FLUSH_ITEMS:
                    await self._flush()
                if self._is_cancelled():
                    raise RunCancelledError

    async def _flush_now_and_then(self) -> None:
        """What is ready goes out although the rows that follow take long. What fails here is tried again by others."""
        while True:
            await asyncio.sleep(_FLUSH_S)
            with contextlib.suppress(EvalmeshError):
                await self._flush()

    async def _flush(self) -> None:
        async with self._flushing:
            await self._flush_alone()

    async def _flush_alone(self) -> None:
        """Counts first, items second: whoever counts a shard's results finds it counted as planned."""
        ready = tuple(self._ready)
        for name, planner in self._counted.items():

            def count(record: BenchmarkRecord, planner: BenchmarkPlanner = planner) -> bool:
                total = planner.requests + planner.malformed * self._run.spec.repeats
                if record.planned or record.total >= total:
                    return False
                record.total, record.shards = total, max(record.shards, planner.shards)
                return True

            await change_progress(self._records.store, self._run.id, name, count)
        if ready:
            await self._records.bus.publish(ready)
            del self._ready[: len(ready)]
            await self._worker._change(self._run.id, RunState.RUNNING)  # noqa: SLF001  (likewise)

    async def _cut(self, planner: BenchmarkPlanner) -> AsyncIterator[_Cut]:
        """The shards of one benchmark that are not in the results."""
        files = planner.files
        index = await files.find_index()
        if index is not None:
            plan = await self._with_pools_of_now(files, await files.read_plan())
            self._total += index.requests
            await self._planned(plan, index)
            async for cut in self._left(files, plan, index):
                yield cut
        else:
            plan = await planner.begin()
            self._counted[plan.name] = planner
            publishing = Publishing(plan, self._attempt, current_trace())
            record = await read_progress(self._records.store, plan.run, plan.name)
            async for shard in planner.shards_of(plan):
                self._total += shard.requests
                if not record.has(plan.graph.judged, shard.index):
                    yield _Cut(publishing, shard)
            index = planner.index(plan)
            await self._flush()
            await files.write_index(index)
            await self._planned(plan, index)

    async def _with_pools_of_now(self, files: BenchmarkFiles, plan: BenchmarkPlan) -> BenchmarkPlan:
        """A run that is resumed at another address asks other pools."""
        pools = {**plan.pools, **(pools_of(tuple(plan.pools), self._spec) if plan.pools else {})}
        if pools != plan.pools:
            plan = replace(plan, pools=pools)
            await files.write_plan(plan)
        return plan

    async def _left(self, files: BenchmarkFiles, plan: BenchmarkPlan, index: BenchmarkIndex) -> AsyncIterator[_Cut]:
        """Shards of an earlier attempt, each taken up where it is."""
        record = await read_progress(self._records.store, plan.run, plan.name)
        publishing = Publishing(plan, self._attempt, current_trace())
        made = [
            (stage.name, await files.of(stage.name).there())
            for stage in plan.graph.stages
            if stage.kind not in {StageKind.GIVEN, StageKind.REDUCE}
        ]
        for shard in index.shards():
            if not record.has(plan.graph.judged, shard.index):
                yield _Cut(publishing, shard, frozenset(name for name, there in made if shard.index in there))

    async def _planned(self, plan: BenchmarkPlan, index: BenchmarkIndex) -> None:
        """The counts are final; whoever sees that everything is in asks for the end, this one included."""
        malformed = len(index.malformed_rows) * plan.repeats

        def final(record: BenchmarkRecord) -> bool:
            if record.planned:
                return False
            record.planned = True
            record.shards = index.shard_count
            record.total = index.requests + malformed
            record.done += malformed
            record.errored += malformed
            return True

        record = await change_progress(self._records.store, plan.run, plan.name, final)
        if record.complete(plan.graph.judged):
            reduce = WorkItem(
                run=plan.run, task=Task.REDUCE, benchmark=plan.name, attempt=self._attempt, trace=current_trace()
            )
            self._ready.append(reduce)
