"""The messages that ask for work on runs. Those of load tests are in `domain.load_work`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol, Self

from evalmesh.domain.run import ModelSpec
from evalmesh.domain.stage import StageKind


class Queue(StrEnum):
    """Where items wait; one kind of worker takes from each."""

    PLAN = "plan"
    GENERATE = "generate"
    """One queue per pool and run."""
    SCORE = "score"
    EXECUTE = "execute"
    JUDGE = "judge"
    REDUCE = "reduce"
    CONDUCT = "conduct"
    """Lead a load test through its levels; a load test has one conductor at a time."""
    LOAD = "load"
    """Hold one seat of a load test."""
    LOAD_REPORT = "load_report"


class Task(StrEnum):
    """What an item of a run asks for: a stage on a shard, or one of the steps around the stages."""

    PLAN = "plan"
    STAGE = "stage"
    ARRIVE = "arrive"
    """A shard has come to a barrier."""
    FOLD = "fold"
    """Fold a block of shards, so that the end has less to do."""
    REDUCE = "reduce"
    """Every shard of a benchmark is in: its results and metrics."""
    FINISH = "finish"
    """Every benchmark is reduced, or the run is being ended: the report and the end state."""


QUEUE_OF_KIND: Mapping[StageKind, Queue] = {
    StageKind.GENERATE: Queue.GENERATE,
    StageKind.SCORE: Queue.SCORE,
    StageKind.EXECUTE: Queue.EXECUTE,
    StageKind.JUDGE_ASK: Queue.JUDGE,
    StageKind.JUDGE_READ: Queue.JUDGE,
    StageKind.SEARCH: Queue.REDUCE,
    StageKind.REDUCE: Queue.REDUCE,
}


class Item(Protocol):
    """What every message on a work queue has."""

    @property
    def owner(self) -> str:
        """Id of the run or load test."""
        ...

    @property
    def queue(self) -> Queue:
        """Where it waits."""
        ...

    @property
    def pool(self) -> str:
        """The pool that must serve it; empty for most queues."""
        ...

    @property
    def attempt(self) -> int:
        """The owner's attempt that published it."""
        ...

    @property
    def ends(self) -> bool:
        """Whether it ends its owner, so that it is wanted although that is cancelled."""
        ...

    @property
    def place(self) -> str:
        """What is to be done, whoever asks and however often."""
        ...

    @property
    def id(self) -> str:
        """Deterministic: publishing the same wish twice is one message."""
        ...

    @property
    def trace(self) -> Mapping[str, str]:
        """W3C trace context."""
        ...

    @property
    def labels(self) -> Mapping[str, object]:
        """For logs: what it is about."""
        ...

    @property
    def step(self) -> str:
        """What kind of work it is, in one word of few."""
        ...

    @property
    def samples(self) -> int | None:
        """Of its shard; `None` where it is about none."""
        ...

    def handed_over(self) -> Self:
        """The same wish as a new message: a worker that drains gives it on, which is no failure of the item."""
        ...


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
class WorkItem:
    """Asks for one piece of work on a run. Carries references and the few facts of its shard, never data."""

    run: str
    task: Task
    benchmark: str = ""
    stage: str = ""
    """The node of the benchmark's graph; `ARRIVE`: the stage that the shard has passed."""
    kind: str = ""
    """`STAGE`: the stage's kind, which decides the queue."""
    shard: Shard | None = None
    block: int = -1
    """`FOLD`: which block of shards."""
    pool: str = ""
    """The pool that must serve a `generate` stage."""
    attempt: int = 0
    error: str = ""
    """`ARRIVE`: why the shard was set aside. `FINISH`: which cancel ends the run."""
    handovers: int = 0
    """How often a worker that drained has given it on."""
    trace: Mapping[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """The run."""
        return self.run

    @property
    def queue(self) -> Queue:
        """Where it waits."""
        if self.task is Task.PLAN:
            return Queue.PLAN
        return QUEUE_OF_KIND[StageKind(self.kind)] if self.task is Task.STAGE else Queue.REDUCE

    @property
    def ends(self) -> bool:
        """Whether it ends the run."""
        return self.task is Task.FINISH

    @property
    def place(self) -> str:
        """What is to be done, whoever asks and however often."""
        where = self.block if self.task is Task.FOLD else self.shard.index if self.shard is not None else "-"
        dead = "dead" if self.error and self.task is Task.ARRIVE else "-"
        return f"{self.run}/{self.benchmark or '-'}/{self.stage or '-'}/{where}/{self.task}/{dead}"

    @property
    def id(self) -> str:
        """Deterministic: publishing the same wish twice is one message."""
        # A queue remembers the ids of purged items too, so that each cancel ends its run with an id of its own.
        cancel = f"/{self.error}" if self.task is Task.FINISH and self.error else ""
        handover = f"/h{self.handovers}" if self.handovers else ""
        return f"{self.place}/{self.attempt}{cancel}{handover}"

    @property
    def labels(self) -> Mapping[str, object]:
        """For logs."""
        return {"run": self.run, "benchmark": self.benchmark, "stage": self.stage, "shard": self.shard_index}

    @property
    def step(self) -> str:
        """The kind of the stage; around the stages, the task."""
        if self.task is Task.STAGE:
            return self.kind
        return "report" if self.task is Task.FINISH else self.task.value

    @property
    def samples(self) -> int | None:
        """Of its shard."""
        return None if self.shard is None else self.shard.samples

    @property
    def shard_index(self) -> int:
        """Position in the benchmark's plan; -1 where the item is about no shard."""
        return -1 if self.shard is None else self.shard.index

    def handed_over(self) -> "WorkItem":
        """The same wish as a new message."""
        return replace(self, handovers=self.handovers + 1)


@dataclass(frozen=True, slots=True)
class Pool:
    """The set of runners that serve one model under one set of connection settings."""

    id: str
    model: ModelSpec


@dataclass(frozen=True, slots=True)
class PoolWish:
    """That a run needs a pool: a pool is there as long as any run wishes for it (KV bucket `pools`)."""

    pool: Pool
    run: str
    host: str = ""
    """Only runners of this host serve it for this run; empty: those of none."""
    stop_after_failures: int = 0
    """`RunSpec.stop_after_failures`."""


@dataclass(frozen=True, slots=True)
class PoolNote:
    """What a runner says of a pool: that it serves it, or why it cannot."""

    pool: str
    runner: str
    serves: bool
    message: str = ""
    time: float = 0.0
    """Unix seconds; repeated while the runner lives."""
    trouble: str = ""
    """What the pool's requests wait for."""
