"""One benchmark cut into shards, as a stream: a shard is handed on as soon as it is written."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from evalmesh.benchmarks.samples import MalformedRow
from evalmesh.dataset_loader.earlier import EarlierRun
from evalmesh.domain.digest import GenerationDigest, canonical_json, pool_id, sha256_hex
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.plan import BenchmarkIndex, BenchmarkPlan, SubsetShards
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import BenchmarkSpec, RunSpec
from evalmesh.domain.shard_data import PlannedSample, ShardHeader
from evalmesh.domain.stage import given
from evalmesh.domain.work import Shard
from evalmesh.results.dataset import RunDataset
from evalmesh.results.recorded import RecordedCompletions
from evalmesh.results.reusable import ReusableCompletions
from evalmesh.runtime.work import RunCancelledError
from evalmesh.wire.runs.media_files import MediaFiles
from evalmesh.wire.runs.shard_files import BenchmarkFiles

_COPIES = "0-reused"
"""Name of the part that copies are put into; the same each time the shard is planned."""
_MALFORMED_KEPT = 1000
_MEDIA_HELD_BYTES = 64 << 20
_WRITES_AHEAD = 8
"""Shards on their way to the store at once."""


@dataclass(slots=True)
class _Subset:
    """Samples of one subset, counted as they are cut."""

    name: str
    first_shard: int
    samples: int = 0


@dataclass(frozen=True, slots=True)
class PlannerInput:
    """What the planner of one benchmark is given."""

    run: str
    spec: RunSpec
    dataset: RunDataset
    recorded: RecordedCompletions | None
    earlier: Sequence[EarlierRun]
    reusable: ReusableCompletions | None
    is_cancelled: Callable[[], bool]


@dataclass(slots=True)
class BenchmarkPlanner:
    """Cuts one benchmark. What it writes follows from spec and data alone, so that planning twice changes nothing."""

    files: BenchmarkFiles
    given: PlannerInput
    shards: int = 0
    requests: int = 0
    _subsets: list[_Subset] = field(default_factory=list)
    _malformed: list[str] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop | None = None
    _media: MediaFiles = field(init=False)

    def __post_init__(self) -> None:
        self._media = MediaFiles(self.files.store, cache_bytes=0)

    async def begin(self) -> BenchmarkPlan:
        """Pins the data and writes the plan, which everybody who works on a shard reads."""
        spec, dataset = self.given.spec, self.given.dataset
        benchmark = dataset.benchmark
        graph = benchmark.graph_of(dataset.spec)
        sources = await asyncio.to_thread(dataset.sources)
        await self.files.write_sources(sources)
        await dataset.pin(self.files.store, sources)
        plan = BenchmarkPlan(
            run=self.given.run,
            name=dataset.spec.name,
            version=benchmark.version,
            spec=dataset.spec,
            graph=given(graph) if self.given.recorded is not None else graph,
            pools={} if self.given.recorded is not None else pools_of(graph.roles, spec),
            dataset_digest=sources.digest,
            generation=merge_generation(benchmark.generation, spec.generation),
            repeats=spec.repeats,
            shard_size=spec.samples_per_shard,
            scoring_digest=scoring_digest(benchmark.name, benchmark.version, dataset.spec),
            origin=sources.origin,
        )
        await self.files.write_plan(plan)
        return plan

    async def shards_of(self, plan: BenchmarkPlan) -> AsyncIterator[Shard]:
        """Every shard, once its requests are in the store. Raises `RunCancelledError`."""
        self._loop = asyncio.get_running_loop()
        writing: deque[asyncio.Task[Shard]] = deque()
        blocks = self._blocks(plan)
        reading = asyncio.create_task(asyncio.to_thread(next, blocks, None))
        try:
            while True:
                # What is written is handed on at once, however long the next rows take.
                waiting = {reading, *list(writing)[:1]} if len(writing) < _WRITES_AHEAD else {writing[0]}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if self.given.is_cancelled():
                    raise RunCancelledError
                if writing and writing[0].done():
                    yield await writing.popleft()
                elif reading.done() and (block := await reading) is not None:
                    # The next rows are read while these are written.
                    reading = asyncio.create_task(asyncio.to_thread(next, blocks, None))
                    writing.append(asyncio.create_task(self._write(plan, *block)))
                elif reading.done() and not writing:
                    return
                elif reading.done():
                    yield await writing.popleft()
        finally:
            left = [reading, *writing]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def index(self, plan: BenchmarkPlan) -> BenchmarkIndex:
        """What there is, once every shard was handed on."""
        subsets = tuple(SubsetShards(one.name, one.first_shard, one.samples) for one in self._subsets)
        notes = self.given.dataset.notes
        # Of several benchmarks that share a file, none can tell what the others leave.
        if self.given.recorded is not None and len(self.given.spec.benchmarks) == 1:
            notes += tuple(filter(None, [self.given.recorded.unused()]))
        return BenchmarkIndex(plan.shard_size, plan.repeats, subsets, tuple(self._malformed), notes)

    def _blocks(self, plan: BenchmarkPlan) -> Iterator[tuple[Shard, list[PlannedSample]]]:
        """Runs in a thread, one shard at a time."""
        dataset = self.given.dataset
        digest = GenerationDigest(
            self.given.spec.model, plan.spec.kind, plan.version, plan.dataset_digest, plan.generation
        )
        for subset in dataset.subsets:
            known = _Subset(subset.name, self.shards)
            self._subsets.append(known)
            samples = self._good(dataset.planned(subset, stop=self._stop))
            while rows := list(islice(samples, plan.shard_size)):
                self._keep_media()
                rows = [
                    replace(row, digests=tuple(digest.of(row, repeat) for repeat in range(plan.repeats)))
                    for row in rows
                ]
                shard = Shard(self.shards, subset.name, known.samples, len(rows), len(rows) * plan.repeats)
                known.samples += len(rows)
                self.shards += 1
                self.requests += shard.requests
                yield shard, rows

    def _stop(self) -> None:
        if self.given.is_cancelled():
            raise RunCancelledError

    def _good(self, rows: Iterator[PlannedSample | MalformedRow]) -> Iterator[PlannedSample]:
        for row in rows:
            if isinstance(row, MalformedRow):
                self._note(row)
            else:
                yield row
                if self.given.dataset.media.size_bytes > _MEDIA_HELD_BYTES:
                    self._keep_media()

    def _keep_media(self) -> None:
        """Stores what samples read so far refer to, before their shard is written. Runs in the thread of `_blocks`."""
        if media := self.given.dataset.media.take():
            assert self._loop is not None  # noqa: S101  (`shards_of` has set it)
            asyncio.run_coroutine_threadsafe(self._media.keep_all(media.items()), self._loop).result()

    def _note(self, row: MalformedRow) -> None:
        if len(self._malformed) >= _MALFORMED_KEPT:
            raise InvalidInput(
                f"{self.given.dataset.spec.name}: more than {_MALFORMED_KEPT} rows cannot be read, the last one "
                f"being {row}. This does not look like the right file; check local_path and the columns."
            )
        self._malformed.append(str(row))

    async def _write(self, plan: BenchmarkPlan, shard: Shard, rows: list[PlannedSample]) -> Shard:
        reuse = tuple(one for run in self.given.earlier for one in run.overlapping(plan.spec.kind, shard))
        header = ShardHeader(plan.run, plan.name, shard.index, shard.subset, plan.generation, reuse)
        await self.files.write_requests(header, rows)
        if (recorded := self.given.recorded) is not None:
            answers = [recorded.answer(row.sample, request) for row in rows for request in row.requests()]
            await self.files.of(plan.graph.answered).write(shard.index, answers)
        elif (reusable := self.given.reusable) is not None:
            found = [reusable.of(request) for row in rows for request in row.requests()]
            if copies := [one for one in found if one is not None]:
                # As if the run had asked for them itself and been interrupted: its runner asks for the rest.
                await self.files.of(plan.graph.answered).write_part(shard.index, _COPIES, copies)
        return shard

    @property
    def malformed_rows(self) -> Sequence[str]:
        """Those rows, each with the reason."""
        return self._malformed

    @property
    def malformed(self) -> int:
        """Rows so far that could not become samples."""
        return len(self._malformed)


def pools_of(roles: Sequence[str], spec: RunSpec) -> Mapping[str, str]:
    """The pool of each role. Raises `InvalidInput` for a role that the spec gives no model."""
    pools = {}
    for role in roles:
        try:
            pools[role] = pool_id(spec.model_of(role))
        except KeyError:
            raise InvalidInput(
                f"roles: no model is given for the role {role!r}; name one in roles.{role}.", {"field": "roles"}
            ) from None
    return pools


def merge_generation(defaults: GenerationConfig, wanted: GenerationConfig) -> GenerationConfig:
    """The benchmark's options with every option the user gave put over it."""
    given_ones = {
        name: value
        for name in GenerationConfig.__slots__  # the fields, in order
        if (value := getattr(wanted, name)) not in (None, ()) and not (name == "extra_body" and not value)
    }
    return replace(defaults, **given_ones)


def scoring_digest(name: str, version: int, spec: BenchmarkSpec) -> str:
    """Changes when the same completions could be scored differently."""
    covered = {"benchmark": name, "version": version, "remove_until": spec.remove_until}
    return sha256_hex(canonical_json(covered | ({"extra": spec.extra} if spec.extra else {})))
