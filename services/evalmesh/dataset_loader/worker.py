"""The plan step: data sets pinned, samples rendered, shards written and put on the queue."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import Benchmark
from evalmesh.benchmarks.samples import MalformedRow
from evalmesh.benchmarks.spec import validate_spec
from evalmesh.dataset_loader.dataset import RunDataset, SubsetFiles
from evalmesh.dataset_loader.order import interleave
from evalmesh.domain import layout
from evalmesh.domain.digest import GenerationDigest, canonical_json, pool_id, sha256_hex
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.needs import Needs
from evalmesh.domain.progress import ProgressRecord, new_record
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import BenchmarkSpec, Run, RunSpec, RunState
from evalmesh.domain.shard_data import PlannedSample, ShardHeader
from evalmesh.domain.work import BenchmarkPlan, Pool, RunPlan, Shard, Step, WorkItem
from evalmesh.ports.bus import Bus
from evalmesh.ports.dataset_source import DatasetSource
from evalmesh.ports.environment import Clock
from evalmesh.ports.run_store import RunStore
from evalmesh.results.recorded import RecordedCompletions, fetch_recorded
from evalmesh.runtime.runs import change_run
from evalmesh.runtime.telemetry import current_trace
from evalmesh.wire.codec import decode_json, encode_json
from evalmesh.wire.runs.shard_files import ShardFiles

_LOG = logging.getLogger(__name__)
_MALFORMED_KEPT = 1000


class PlanWorker:
    """Plans runs. What it writes follows from the spec and the data alone, so that planning twice changes nothing."""

    def __init__(
        self, *, files: ShardFiles, runs: RunStore, bus: Bus, source: DatasetSource, clock: Clock, dataset_dir: str = ""
    ) -> None:
        self._files = files
        self._runs = runs
        self._bus = bus
        self._source = source
        self._clock = clock
        self._dataset_dir = dataset_dir

    async def handle(self, item: WorkItem) -> None:
        """Plans a run, or takes up the plan there is, and queues every shard that is not in the results."""
        run = (await self._runs.get_run(item.run)).value
        if run.state.terminal:
            return
        await self._change(run.id, RunState.PLANNING)
        plan = await self._files.find_plan(run.id)
        if plan is None:
            plan = await self._plan(run)
            await self._files.write_plan(plan)
        await self._runs.put_pool(Pool(plan.pool, run.spec.model))
        await self._change(run.id, RunState.RUNNING)
        await self._queue(run, plan, item.attempt)

    async def set_aside(self, item: WorkItem, error: str) -> None:
        """A run that cannot be planned has failed."""

        def failed(run: Run) -> Run:
            if run.state.terminal:
                return run
            return replace(
                run, state=RunState.FAILED, error=error, error_reason="PLAN_FAILED", end_time=self._clock.now()
            )

        await change_run(self._runs, self._bus, self._clock, item.run, failed)

    async def _change(self, run_id: str, state: RunState) -> None:
        def changed(run: Run) -> Run:
            if run.state.terminal or run.state is RunState.CANCELLING:
                return run
            return replace(run, state=state, start_time=run.start_time or self._clock.now())

        await change_run(self._runs, self._bus, self._clock, run_id, changed)

    async def _plan(self, run: Run) -> RunPlan:
        spec = self.with_defaults(run.spec)
        recorded = None
        if spec.completions_digest:
            key = layout.imported_completions_key(spec.completions_digest)
            recorded = await fetch_recorded(self._files.store, key)
        earlier = [plan for name in spec.reuse_runs if (plan := await self._files.find_plan(name)) is not None]
        try:
            plans = [
                await _BenchmarkPlanner(self._files, self._open(one, spec), run.id, spec, recorded, earlier).plan()
                for one in spec.benchmarks
            ]
        finally:
            if recorded is not None:
                recorded.close()
        if not any(plan.requests for plan in plans):
            names = ", ".join(plan.name for plan in plans)
            raise InvalidInput(f"There is not a single sample to evaluate in {names}; check the data and the limit.")
        return RunPlan(run=run.id, pool=pool_id(spec.model), benchmarks=tuple(plans))

    def with_defaults(self, spec: RunSpec) -> RunSpec:
        """The spec with this service's own settings where it leaves a choice."""
        return spec if spec.dataset_dir else replace(spec, dataset_dir=self._dataset_dir)

    def _open(self, one: BenchmarkSpec, spec: RunSpec) -> RunDataset:
        benchmark = registry.get(one.name)
        validate_spec(benchmark, one)
        return RunDataset(self._source, benchmark, one, spec)

    def check(self, spec: RunSpec) -> list[Needs]:
        """What each benchmark needs of the model's endpoint.

        Raises what planning would raise about names, options and missing data; reads no rows.
        """
        return [self._needs(self._open(one, self.with_defaults(spec)).benchmark, spec) for one in spec.benchmarks]

    def _needs(self, benchmark: Benchmark, spec: RunSpec) -> Needs:
        return benchmark.needs(spec.model.kind, merge_generation(benchmark.generation, spec.generation).max_tokens)

    def open_dataset(self, one: BenchmarkSpec, spec: RunSpec) -> RunDataset:
        """The data set a run would use, for a look at it."""
        return self._open(one, self.with_defaults(spec))

    async def _progress(self, plan: RunPlan) -> ProgressRecord:
        """What is in the results; the record is made here, so that totals are known before the first result."""
        known = await self._runs.get_progress(plan.run)
        if known.value:
            return decode_json(ProgressRecord, known.value)
        record = new_record(plan)
        await self._runs.update_progress(plan.run, encode_json(record), known.revision)
        return record

    async def _queue(self, run: Run, plan: RunPlan, attempt: int) -> None:
        step = Step.SCORE if run.spec.completions_digest else Step.GENERATE
        trace = current_trace()
        progress = await self._progress(plan)
        items = []
        for benchmark, shard in interleave(plan.benchmarks):
            record = progress.benchmarks.get(benchmark.name)
            if record is not None and record.has(shard.index):
                continue
            pool = plan.pool if step is Step.GENERATE else ""
            items.append(
                WorkItem(
                    run=run.id,
                    step=step,
                    benchmark=benchmark.name,
                    shard=shard.index,
                    pool=pool,
                    attempt=attempt,
                    trace=trace,
                )
            )
        if not items:
            # Everything is in the results already: only the report is missing.
            items.append(WorkItem(run=run.id, step=Step.REPORT, final=True, attempt=attempt, trace=trace))
        await self._bus.publish(items)
        _LOG.info("planned", extra={"shards": len(items), "pool": plan.pool})


class _BenchmarkPlanner:
    """Cuts one benchmark into shards, streaming."""

    def __init__(
        self,
        files: ShardFiles,
        dataset: RunDataset,
        run: str,
        spec: RunSpec,
        recorded: RecordedCompletions | None,
        earlier: Sequence[RunPlan],
    ) -> None:
        self._files = files
        self._dataset = dataset
        self._run = run
        self._spec = spec
        self._recorded = recorded
        self._earlier = earlier
        self._shards: list[Shard] = []
        self._malformed: list[str] = []
        self._generation = merge_generation(dataset.benchmark.generation, spec.generation)

    async def plan(self) -> BenchmarkPlan:
        benchmark = self._dataset.benchmark
        dataset_digest = await self._dataset.pin(self._files.store)
        digest = GenerationDigest(self._spec.model, benchmark.name, benchmark.version, dataset_digest, self._generation)
        for subset in self._dataset.subsets:
            await self._plan_subset(subset, digest)
        return BenchmarkPlan(
            name=benchmark.name,
            version=benchmark.version,
            spec=self._dataset.spec,
            dataset_digest=dataset_digest,
            generation=self._generation,
            repeats=self._spec.repeats,
            scoring_digest=scoring_digest(benchmark.name, benchmark.version, self._dataset.spec),
            shards=tuple(self._shards),
            malformed_rows=tuple(self._malformed),
        )

    async def _plan_subset(self, subset: SubsetFiles, digest: GenerationDigest) -> None:
        rows: list[PlannedSample] = []
        start = 0
        for planned in self._dataset.planned(subset):
            if isinstance(planned, MalformedRow):
                self._note(planned)
                continue
            digests = tuple(digest.of(planned, repeat) for repeat in range(self._spec.repeats))
            rows.append(replace(planned, digests=digests))
            if len(rows) == self._spec.samples_per_shard:
                await self._write(subset.name, start, rows)
                start += len(rows)
                rows = []
        if rows:
            await self._write(subset.name, start, rows)

    def _note(self, row: MalformedRow) -> None:
        if len(self._malformed) >= _MALFORMED_KEPT:
            raise InvalidInput(
                f"{self._dataset.benchmark.name}: more than {_MALFORMED_KEPT} rows cannot be read, the last one being "
                f"{row}. This does not look like the right file; check local_path and the columns."
            )
        self._malformed.append(str(row))

    async def _write(self, subset: str, start: int, rows: Sequence[PlannedSample]) -> None:
        name = self._dataset.benchmark.name
        index = len(self._shards)
        shard = Shard(index, subset, start, len(rows), len(rows) * self._spec.repeats)
        reuse = tuple(
            (plan.run, old.index)
            for plan in self._earlier
            for benchmark in plan.benchmarks
            if benchmark.name == name
            for old in benchmark.shards
            if old.subset == subset and old.start < start + len(rows) and start < old.start + old.samples
        )
        header = ShardHeader(self._run, name, index, subset, self._generation, reuse)
        await self._files.write_requests(header, rows)
        if self._recorded is not None:
            answers = [self._recorded.answer(row.sample, request) for row in rows for request in row.requests()]
            await self._files.write_completions(self._run, name, index, answers)
        self._shards.append(shard)


def merge_generation(defaults: GenerationConfig, wanted: GenerationConfig) -> GenerationConfig:
    """The benchmark's options with every option the user gave put over it."""
    given = {
        name: value
        for name in GenerationConfig.__slots__  # the fields, in order
        if (value := getattr(wanted, name)) not in (None, ()) and not (name == "extra_body" and not value)
    }
    return replace(defaults, **given)


def scoring_digest(name: str, version: int, spec: BenchmarkSpec) -> str:
    """Changes when the same completions could be scored differently."""
    return sha256_hex(canonical_json({"benchmark": name, "version": version, "remove_until": spec.remove_until}))
