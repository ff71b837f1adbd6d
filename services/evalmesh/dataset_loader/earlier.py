"""Earlier runs whose completions may be copied: where they keep the samples of a shard."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from evalmesh.domain.errors import NotFound
from evalmesh.domain.plan import BenchmarkIndex
from evalmesh.domain.run import Run
from evalmesh.domain.shard_data import Reusable
from evalmesh.domain.work import Shard
from evalmesh.wire.codec import decode_json
from evalmesh.wire.runs.shard_files import RunFiles


@dataclass(frozen=True, slots=True)
class _OldShard:
    index: int
    subset: str
    start: int
    samples: int


@dataclass(frozen=True, slots=True)
class _OldBenchmark:
    name: str
    shards: tuple[_OldShard, ...]


@dataclass(frozen=True, slots=True)
class _OldPlan:
    """The plan of a run of format 0: all shards of all benchmarks in one object."""

    benchmarks: tuple[_OldBenchmark, ...]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a run has of a benchmark."""

    name: str
    """Of the benchmark in that run."""
    stage: str
    """Which holds its completions."""
    index: BenchmarkIndex


@dataclass(slots=True)
class EarlierRun:
    """One earlier run, as far as its shards are known."""

    run: str
    indices: dict[str, list[_Kept]] = field(default_factory=dict)
    """By benchmark, which may stand in a run under several names."""
    old: dict[str, _OldBenchmark] = field(default_factory=dict)

    def overlapping(self, benchmark: str, shard: Shard) -> Iterator[Reusable]:
        """Outputs that may hold completions of this shard's samples."""
        if benchmark in self.indices:
            for kept in self.indices[benchmark]:
                for number in kept.index.overlapping(shard.subset, shard.start, shard.samples):
                    yield Reusable(self.run, kept.stage, number, kept.name)
        elif benchmark in self.old:
            for old in self.old[benchmark].shards:
                apart = old.start >= shard.start + shard.samples or shard.start >= old.start + old.samples
                if old.subset == shard.subset and not apart:
                    yield Reusable(self.run, "completions", old.index)


async def look_at(files: RunFiles, run: Run) -> EarlierRun:
    """What is known of a run's shards. Of a benchmark whose planning was never finished, nothing is reused."""
    earlier = EarlierRun(run.id)
    if run.format == 0:
        key = f"runs/{run.id}/plan.json"
        try:
            plan = decode_json(_OldPlan, await files.store.get(key), key)
        except NotFound:
            return earlier
        earlier.old = {one.name: one for one in plan.benchmarks}
        return earlier
    for spec in run.spec.benchmarks:
        one = files.of(run.id, spec.name)
        index = await one.find_index()
        if index is not None:
            kept = _Kept(spec.name, (await one.read_plan()).graph.answered, index)
            earlier.indices.setdefault(spec.kind, []).append(kept)
    return earlier
