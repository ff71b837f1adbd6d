"""How far a run has come: one record per benchmark, and one that knows which benchmarks are done.

Neither grows with the number of samples, but for one bit per shard (and benchmark).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from evalmesh.domain.plan import BLOCK_SHARDS


@dataclass(frozen=True, slots=True)
class ShardCounts:
    """What one shard adds when it has come to a barrier."""

    stage: str
    """The last stage it passed."""
    shard: int
    done: int = 0
    errored: int = 0
    unscored: int = 0
    scored: int = 0
    value_sum: float = 0.0
    """Sum of the primary metric's value over scored requests."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """Scored requests by outcome."""


@dataclass(slots=True)
class BenchmarkRecord:
    """One benchmark of a run (KV bucket `progress`)."""

    planned: bool = False
    """Whether the counts of shards and requests are final."""
    shards: int = 0
    total: int = 0
    done: int = 0
    errored: int = 0
    unscored: int = 0
    scored: int = 0
    value_sum: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)
    arrived: dict[str, str] = field(default_factory=dict)
    """By the stage before a barrier: bit set of shards that are in, in hexadecimal; taking one in twice is harmless."""

    def has(self, stage: str, shard: int) -> bool:
        """Whether the shard was taken in."""
        return bool(int(self.arrived.get(stage, "0"), 16) >> shard & 1)

    def take_in(self, counts: ShardCounts) -> bool:
        """Adds a shard; `False`, and nothing changes, when it was in already."""
        bits = int(self.arrived.get(counts.stage, "0"), 16)
        if bits >> counts.shard & 1:
            return False
        self.arrived[counts.stage] = f"{bits | 1 << counts.shard:x}"
        self.done += counts.done
        self.errored += counts.errored
        self.unscored += counts.unscored
        self.scored += counts.scored
        self.value_sum += counts.value_sum
        for word, count in counts.outcomes.items():
            self.outcomes[word] = self.outcomes.get(word, 0) + count
        return True

    def take_in_all(self, batch: Iterable[ShardCounts]) -> bool:
        """Adds shards; whether any was new."""
        return sum([self.take_in(counts) for counts in batch]) > 0

    def complete(self, stage: str) -> bool:
        """Whether every shard has passed the stage."""
        return self.planned and int(self.arrived.get(stage, "0"), 16).bit_count() == self.shards

    def full_block(self, stage: str, shard: int) -> int | None:
        """The block of this shard, when all of it is in and it is not the last one, which the end folds."""
        block = shard // BLOCK_SHARDS
        mask = (1 << BLOCK_SHARDS) - 1
        bits = int(self.arrived.get(stage, "0"), 16) >> block * BLOCK_SHARDS & mask
        return block if bits == mask else None

    @property
    def value(self) -> float | None:
        """Running mean of the primary metric."""
        return self.value_sum / self.scored if self.scored else None


@dataclass(slots=True)
class RunRecord:
    """Which benchmarks of a run have their results (KV bucket `progress`)."""

    reduced: str = "0"
    """Bit set over the benchmarks in the order of the spec, in hexadecimal."""

    def add(self, place: int) -> None:
        """One more."""
        self.reduced = f"{int(self.reduced, 16) | 1 << place:x}"

    def complete(self, benchmarks: int) -> bool:
        """Whether all are."""
        return int(self.reduced, 16).bit_count() == benchmarks
