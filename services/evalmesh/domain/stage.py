"""The graph of stages that the samples of one benchmark pass: data, so that a new kind of it is no new code path.

The plainest graph is `generate -> score -> reduce`. Most stages work shard by shard: a shard goes on to what follows
as soon as everything that comes before is there. A stage with a `barrier` begins once, when every shard is in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.layout import RESERVED_STAGES, is_safe_name

MODEL = "model"
"""The role of the model under test."""


class StageKind(StrEnum):
    """What a stage does, and so which service works on it."""

    GIVEN = "given"
    """Done when the run is planned: completions made elsewhere."""
    GENERATE = "generate"
    """Asks a model, the one that has the stage's role."""
    SCORE = "score"
    """Judges completions by rule."""
    EXECUTE = "execute"
    """Runs code that a model wrote."""
    JUDGE_ASK = "judge_ask"
    """Renders requests to a judge."""
    JUDGE_READ = "judge_read"
    """Reads verdicts out of a judge's completions."""
    SEARCH = "search"
    """Ranks a corpus for queries."""
    REDUCE = "reduce"
    """Folds everything into results and metrics; every graph ends in one."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One node of a benchmark's graph."""

    name: str
    """Unique within the graph; part of keys."""
    kind: StageKind
    after: tuple[str, ...] = ()
    """Names of the stages whose outputs it reads. The first of a `generate` stage holds its requests; without any, the
    planned ones are asked."""
    role: str = ""
    """Which model of the run a `generate` stage asks."""
    barrier: bool = False
    """Begins once every shard of what it comes after is in; one item for the whole benchmark."""
    args: Mapping[str, object] = field(default_factory=dict)
    """Options of the kind."""


@dataclass(frozen=True, slots=True)
class Graph:
    """The stages of one benchmark, predecessors first."""

    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage:
        """Raises `KeyError` when there is none of this name."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    def following(self, name: str) -> tuple[Stage, ...]:
        """What comes directly after a stage."""
        return tuple(stage for stage in self.stages if name in stage.after)

    @property
    def end(self) -> Stage:
        """The `reduce` stage."""
        return self.stages[-1]

    @property
    def judged(self) -> str:
        """The stage whose output the end reads: scores, one row per request."""
        return self.end.after[0]

    @property
    def answered(self) -> str:
        """The stage whose completions the results show: the first that answers the planned requests."""
        kinds = {StageKind.GENERATE, StageKind.GIVEN}
        return next(stage.name for stage in self.stages if stage.kind in kinds and not stage.after)

    @property
    def roles(self) -> tuple[str, ...]:
        """Which models are asked, each once."""
        return tuple(dict.fromkeys(stage.role for stage in self.stages if stage.kind is StageKind.GENERATE))

    def before_barrier(self, name: str) -> tuple[Stage, ...]:
        """The last stages, from this one on, that a shard passes before a barrier; itself where one follows at once."""
        following = self.following(name)
        found = [self.stage(name)] if any(stage.barrier for stage in following) else []
        for stage in following:
            if not stage.barrier:
                found += [one for one in self.before_barrier(stage.name) if one not in found]
        return tuple(found)

    def check(self) -> None:
        """Raises `InvalidInput` for what is no graph: names, order, ends, roles."""
        known: dict[str, Stage] = {}
        for stage in self.stages:
            _check_stage(stage, known)
            known[stage.name] = stage
        ends = [stage for stage in self.stages if not self.following(stage.name)]
        if len(ends) != 1 or ends[0].kind is not StageKind.REDUCE or not ends[0].barrier:
            raise _wrong("", "must end in exactly one stage, of kind 'reduce' and with a barrier")
        if self.stages[-1] is not ends[0]:
            raise _wrong(ends[0].name, "must come last")


def _check_stage(stage: Stage, known: Mapping[str, Stage]) -> None:
    if not is_safe_name(stage.name) or "." in stage.name or stage.name in RESERVED_STAGES:
        raise _wrong(stage.name, f"needs a name of a-z, 0-9, '-' and '_' that is none of {', '.join(RESERVED_STAGES)}")
    if stage.name in known:
        raise _wrong(stage.name, "is there twice")
    for name in stage.after:
        if name not in known:
            raise _wrong(stage.name, f"comes after {name!r}, which no earlier stage is called")
        if known[name].kind is StageKind.REDUCE:
            raise _wrong(stage.name, "comes after the end")
    if bool(stage.role) != (stage.kind is StageKind.GENERATE):
        raise _wrong(stage.name, "needs a role if it asks a model, and only then")
    if stage.barrier and not stage.after:
        raise _wrong(stage.name, "has a barrier and nothing before it")


def _wrong(stage: str, problem: str) -> InvalidInput:
    what = f"graph: the stage {stage!r}" if stage else "graph: it"
    return InvalidInput(f"{what} {problem}.", {"field": "graph", "value": stage})


def chain(*kinds: StageKind) -> Graph:
    """A graph without branches over the model under test; each stage is called as its kind."""
    stages: list[Stage] = []
    for kind in kinds:
        after = (stages[-1].name,) if stages else ()
        role = MODEL if kind is StageKind.GENERATE else ""
        stages.append(Stage(kind.value, kind, after, role, barrier=kind is StageKind.REDUCE))
    return Graph(tuple(stages))


PLAIN = chain(StageKind.GENERATE, StageKind.SCORE, StageKind.REDUCE)
"""Ask, judge by rule, report."""


def given(graph: Graph) -> Graph:
    """The same graph where the planned requests are answered already: it begins later."""
    stages: Sequence[Stage] = [
        Stage(stage.name, StageKind.GIVEN) if stage.kind is StageKind.GENERATE and not stage.after else stage
        for stage in graph.stages
    ]
    return Graph(tuple(stages))
