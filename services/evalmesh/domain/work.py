"""The messages that ask for work, and the units it is cut into."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import BenchmarkSpec, ModelSpec


class Step(StrEnum):
    """One stage of the path of a sample; also the queue that feeds it."""

    PLAN = "plan"
    GENERATE = "generate"
    SCORE = "score"
    REPORT = "report"
    CONDUCT = "conduct"
    """Lead a load test through its levels; a load test has one conductor at a time."""
    LOAD = "load"
    """Hold one seat of a load test: send its share of the load."""


@dataclass(frozen=True, slots=True)
class WorkItem:
    """Asks for one step on one shard (plan: on the whole run). Carries references, never data.

    Load tests use the same messages: `run` is then the id of the load test.
    """

    run: str
    """Id of the run; for conduct and load, and for the report of a load test, the id of the load test."""
    step: Step
    benchmark: str = ""
    shard: int = -1
    """Position of the shard in the benchmark's plan; -1 where the item is about the whole run. Load: the seat."""
    pool: str = ""
    """Generate only: the pool that must serve it."""
    attempt: int = 0
    """The run's attempt that published it."""
    error: str = ""
    """Report: why the shard was set aside. With `final`: which cancel ends the run or load test."""
    final: bool = False
    """Report: every shard is in (or the run is being ended); write the report. Conduct: a cancel ends the load test."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """W3C trace context."""

    def then(self, step: Step, trace: Mapping[str, str], error: str = "") -> "WorkItem":
        """The item that passes the same shard on to another step."""
        return WorkItem(self.run, step, self.benchmark, self.shard, attempt=self.attempt, error=error, trace=trace)

    @property
    def place(self) -> str:
        """What is to be done, whoever asks and however often."""
        kind = "final" if self.final else ("dead" if self.error else "-")
        if self.step is Step.CONDUCT:
            kind = "-"  # Whoever ends a load test waits for its conductor, if that is at work in the same process.
        return f"{self.run}/{self.benchmark or '-'}/{self.shard}/{self.step}/{kind}"

    @property
    def id(self) -> str:
        """Deterministic: publishing the same wish twice is one message."""
        # A queue remembers the ids of purged items too, so that each cancel ends its run with an id of its own.
        cancel = f"/{self.error}" if self.final and self.error else ""
        return f"{self.place}/{self.attempt}{cancel}"


@dataclass(frozen=True, slots=True)
class Shard:
    """Contiguous slice of one subset of one benchmark in one run."""

    index: int
    subset: str
    start: int
    """Position of its first sample within the subset's selected samples."""
    samples: int
    requests: int
    """samples x repeats."""


@dataclass(frozen=True, slots=True)
class BenchmarkPlan:
    """How one benchmark of a run is executed; complete once written, so every later step needs only this."""

    name: str
    version: int
    spec: BenchmarkSpec
    dataset_digest: str
    """sha256 over the pinned files of the data set."""
    generation: GenerationConfig
    """The benchmark's defaults with the run's overrides applied."""
    repeats: int
    scoring_digest: str
    shards: tuple[Shard, ...]
    malformed_rows: tuple[str, ...] = ()
    """Rows that could not become samples: `subset/row: why`; each is an errored sample of the report."""

    @property
    def requests(self) -> int:
        """Requests of all shards."""
        return sum(shard.requests for shard in self.shards)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """All benchmarks of a run, cut into shards."""

    run: str
    pool: str
    benchmarks: tuple[BenchmarkPlan, ...]

    def benchmark(self, name: str) -> BenchmarkPlan:
        """The plan of one benchmark; KeyError if the run has no such benchmark."""
        for plan in self.benchmarks:
            if plan.name == name:
                return plan
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Pool:
    """The wish for a set of runners that serve one model (KV bucket `pools`)."""

    id: str
    model: ModelSpec
