"""How much of a run is in the results: the record the aggregator keeps and the gateway reads."""

from dataclasses import dataclass, field

from evalmesh.domain.work import RunPlan


@dataclass(frozen=True, slots=True)
class ShardCounts:
    """What one shard adds."""

    benchmark: str
    shard: int
    done: int
    errored: int
    unscored: int
    scored: int
    value_sum: float
    """Sum of the primary metric's value over scored requests."""


@dataclass(slots=True)
class BenchmarkRecord:
    """Sums over the shards of one benchmark that are in."""

    shards_in: str = "0"
    """Bit set of shard indices, in hexadecimal: makes taking in a shard twice harmless."""
    shard_count: int = 0
    total: int = 0
    done: int = 0
    errored: int = 0
    unscored: int = 0
    scored: int = 0
    value_sum: float = 0.0

    def has(self, shard: int) -> bool:
        """Whether the shard was taken in."""
        return bool(int(self.shards_in, 16) >> shard & 1)

    @property
    def complete(self) -> bool:
        """Whether every shard is in."""
        return int(self.shards_in, 16).bit_count() == self.shard_count


@dataclass(slots=True)
class ProgressRecord:
    """Per benchmark, by name."""

    benchmarks: dict[str, BenchmarkRecord] = field(default_factory=dict)

    def take_in(self, counts: ShardCounts) -> bool:
        """Adds a shard; `False`, and nothing changes, when it was in already."""
        record = self.benchmarks[counts.benchmark]
        if record.has(counts.shard):
            return False
        record.shards_in = f"{int(record.shards_in, 16) | 1 << counts.shard:x}"
        record.done += counts.done
        record.errored += counts.errored
        record.unscored += counts.unscored
        record.scored += counts.scored
        record.value_sum += counts.value_sum
        return True

    @property
    def complete(self) -> bool:
        """Whether every shard of every benchmark is in."""
        return all(record.complete for record in self.benchmarks.values())


def new_record(plan: RunPlan) -> ProgressRecord:
    """Nothing is in; rows that could not be read count as done and errored from the start."""
    return ProgressRecord(
        {
            one.name: BenchmarkRecord(
                shard_count=len(one.shards),
                total=one.requests + len(one.malformed_rows) * one.repeats,
                done=len(one.malformed_rows) * one.repeats,
                errored=len(one.malformed_rows) * one.repeats,
            )
            for one in plan.benchmarks
        }
    )
