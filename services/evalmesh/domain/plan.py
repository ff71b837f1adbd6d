"""How a benchmark of a run is executed: what is known before its first shard goes out, and what is known at the end."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from evalmesh.domain.hub import DatasetOrigin
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import BenchmarkSpec
from evalmesh.domain.stage import Graph
from evalmesh.domain.work import Shard

BLOCK_SHARDS = 64
"""Shards that are folded together: one partial tally and one row group of the results."""


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """A source file, which the object store has under its sum."""

    name: str
    """Within its data set; of a user's own file without the folders."""
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class DatasetSources:
    """Which files the rows of a benchmark are in. What this names is never collected while the run is there."""

    digest: str
    """sha256 over the files, by subset."""
    files: tuple[PinnedFile, ...]
    origin: DatasetOrigin | None = None
    """`None`: they were on the machine already."""


@dataclass(frozen=True, slots=True)
class BenchmarkPlan:
    """Written before the first shard. Its size does not grow with the data, so every worker may keep many."""

    run: str
    name: str
    version: int
    spec: BenchmarkSpec
    graph: Graph
    pools: Mapping[str, str]
    """Pool by role."""
    dataset_digest: str
    """sha256 over the pinned files of the data set."""
    generation: GenerationConfig
    """The benchmark's defaults with the run's overrides applied."""
    repeats: int
    shard_size: int
    scoring_digest: str = ""
    """Changes when the same completions could be scored differently."""
    origin: DatasetOrigin | None = None
    """The hub that the rows are from, at the commit that was found when the run was planned."""


@dataclass(frozen=True, slots=True)
class SubsetShards:
    """Where the samples of one subset are. Its shards are aligned: each but the last holds `shard_size` samples."""

    name: str
    first_shard: int
    samples: int


@dataclass(frozen=True, slots=True)
class BenchmarkIndex:
    """Written when every shard is; planning of the benchmark is done then."""

    shard_size: int
    repeats: int
    subsets: tuple[SubsetShards, ...] = ()
    malformed_rows: tuple[str, ...] = field(default=())
    """Rows that could not become samples: `subset/row: why`; each is an errored sample of the report."""
    notes: tuple[str, ...] = ()
    """What was guessed of the files, for people."""

    @property
    def samples(self) -> int:
        """Of all shards."""
        return sum(subset.samples for subset in self.subsets)

    @property
    def requests(self) -> int:
        """Of all shards."""
        return self.samples * self.repeats

    @property
    def shard_count(self) -> int:
        """How many shards there are."""
        return sum(-(-subset.samples // self.shard_size) for subset in self.subsets)

    def shards(self) -> Iterator[Shard]:
        """All of them, in order."""
        for subset in self.subsets:
            for place, start in enumerate(range(0, subset.samples, self.shard_size)):
                samples = min(self.shard_size, subset.samples - start)
                yield Shard(subset.first_shard + place, subset.name, start, samples, samples * self.repeats)

    def overlapping(self, subset: str, start: int, samples: int) -> Iterator[int]:
        """Shards that hold some of these samples of a subset."""
        for one in self.subsets:
            if one.name == subset:
                last = min(start + samples, one.samples) - 1
                if start <= last:
                    yield from range(
                        one.first_shard + start // self.shard_size, one.first_shard + last // self.shard_size + 1
                    )
