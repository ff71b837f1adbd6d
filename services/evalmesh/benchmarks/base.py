"""What a benchmark is: data, not behaviour. Behaviour comes from its shape.

A benchmark file is a header docstring (what, paper, licence) and one `Benchmark(...)`. If it needs code, that is one
pure function for exactly one stage.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, TypeVar

from evalmesh.benchmarks.columns import Column
from evalmesh.benchmarks.media import MediaSink
from evalmesh.domain.completion import Completion
from evalmesh.domain.content import ToolDefinition
from evalmesh.domain.needs import TEXT, Modality, Needs
from evalmesh.domain.request import GenerationConfig, Message, RequestKind
from evalmesh.domain.run import BenchmarkSpec
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.domain.stage import PLAIN, Graph
from evalmesh.scoring.reducers import Reducer

Row = Mapping[str, Any]
T = TypeVar("T")


class NumberedRow(NamedTuple):
    """A row of a file, or why it cannot be read."""

    number: int
    """From 0, over all files of the subset."""
    row: Row | str
    where: str = ""
    """For people: `exam.csv: line 7`."""


@dataclass(frozen=True, slots=True)
class RowContext:
    """Where a row comes from."""

    subset: str
    index: int
    """0-based row number in the subset's split."""
    media: MediaSink = field(default_factory=MediaSink, compare=False)
    """Takes the bytes of the row's media (`rows.media`)."""


RowMapper = Callable[[Row, RowContext], Sample]
"""Turns a row into a sample; a malformed one raises `KeyError`, `ValueError` or `TypeError` that names the column."""


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """Where the rows are published, and how."""

    huggingface: str = ""
    modelscope: str = ""
    revision: str = ""
    """Commit on Hugging Face; empty: the main branch, as it is when a run is planned."""
    modelscope_revision: str = ""
    """The same there."""
    files: str = ""
    """Path of a split of a subset at these revisions: `{subset}/{split}-00000-of-00001.parquet`."""
    license: str = ""
    packaged: str = ""
    """File inside `evalmesh.benchmarks.data` for benchmarks that ship with the package."""
    columns: tuple[str, ...] = ()
    """Column names of header-less files."""
    subset_column: str = ""
    """Column that says which subset a row belongs to, where all `Benchmark.subsets` share one file."""


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One number to report: how the per-completion value `score` becomes a metric."""

    name: str
    score: str
    """Key in `Score.values`."""
    kind: str = "mean"
    """`mean`: over all repeats of all samples. `pass_at_k`, `majority_at_k`, `pass_hat_k`: by sample, k = repeats.

    `amount`: a mean of values that are no shares of 1. `perplexity`: 2 to the power of such a mean, of bits.
    """
    higher_is_better: bool = True
    weight: str = ""
    """Of the means: the key in `Score.values` that says how often a value counts (a whole number); empty: once."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent for a sample: messages for chat, text for completion kinds."""

    messages: tuple[Message, ...] = ()
    text: str = ""
    continuations: tuple[str, ...] = ()
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: str = ""
    rolling: bool = False
    """The continuations are texts to be scored whole (`domain.request.Request.rolling`)."""
    contexts: tuple[str, ...] = ()
    """Comes after `text` and before the continuation of the same place."""
    followups: tuple[str, ...] = ()
    """What the user says after each answer; for chat."""


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """How to render: the benchmark's own settings with the user's overrides applied."""

    template: str
    """`{question}`, `{choices}`, `{letters}` and what the shape documents; braces of other names stay as they are."""
    system: str = ""
    shots: tuple[Sample, ...] = ()
    """Solved examples, in order."""
    kind: RequestKind = "chat"
    _made: list[Any] = field(default_factory=list, init=False, compare=False, repr=False)

    def once(self, make: Callable[[], T]) -> T:
        """What a shape makes of the settings alone, the same for every sample: made for the first one.

        One thing for one settings object; a shape that needs two makes a tuple.
        """
        if not self._made:
            self._made.append(make())
        made: T = self._made[0]
        return made


class Shape(Protocol):
    """The behaviour shared by all benchmarks of one kind. Pure: no I/O, no clock."""

    @property
    def name(self) -> str:
        """Kebab-case: `multiple-choice`, `final-answer`, ..."""
        ...

    @property
    def kinds(self) -> tuple[RequestKind, ...]:
        """The kinds of request it can be asked in, the usual one first."""
        ...

    @property
    def template(self) -> str:
        """The prompt template used when the benchmark has none."""
        ...

    @property
    def metrics(self) -> tuple[MetricSpec, ...]:
        """What is reported; the first is the primary one."""
        ...

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Names a template must hold in braces, or the model would not see the question whole."""
        ...

    def render(self, sample: Sample, settings: PromptSettings) -> Prompt:
        """The prompt for a sample."""
        ...

    def score_fast(self, sample: Sample, completion: Completion) -> Score | None:
        """The score if it takes microseconds; `None`: ask `score`, in a process that may be killed."""
        ...

    def score(self, sample: Sample, completion: Completion) -> Score:
        """The score, however long it takes. `completion.error` is `None` here."""
        ...


SCORING = "scoring"
"""Key of `BenchmarkSpec.extra` that chooses one of `Benchmark.modes`."""
_MODE = "mode"
"""What runs of before called it."""
GENERATE = "generate"
"""The mode of a benchmark as it stands."""


def scoring_of(spec: BenchmarkSpec) -> str:
    """Which of a benchmark's modes a run has chosen."""
    return str(spec.extra.get(SCORING, spec.extra.get(_MODE, GENERATE)))


def scoring_keys(spec: BenchmarkSpec) -> frozenset[str]:
    """The keys of `BenchmarkSpec.extra` that choose a mode."""
    return frozenset({SCORING} if SCORING in spec.extra else {SCORING, _MODE})


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A named, versioned evaluation."""

    name: str
    version: int
    """Grows whenever a score could change."""
    title: str
    description: str
    dataset: DatasetInfo
    shape: Shape
    to_sample: RowMapper
    subsets: tuple[str, ...] = ()
    """Empty: the data set has none (one subset called `default`), or they are found in the data."""
    split: str = "test"
    few_shot_split: str = ""
    few_shot_num: int = 0
    few_shot_max: int = 64
    template: str = ""
    """Empty: the shape's."""
    system: str = ""
    modes: Mapping[str, Shape] = field(default_factory=dict)
    """Other ways to ask its questions, beside `generate`; a run chooses with `extra["scoring"]`."""
    mode: str = GENERATE
    """The one it is in."""
    modalities: frozenset[Modality] = TEXT
    """What its prompts hold."""
    tools: bool = False
    """Whether the model is to call tools."""
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    categories: Mapping[str, str] = field(default_factory=dict)
    """Subset to category."""
    tags: tuple[str, ...] = ()
    needs_local_path: bool = False
    """Whether the user must bring the data (general benchmarks)."""
    columns: tuple[Column, ...] = ()
    """What rows of users' own files hold, which may be called otherwise there; empty: names are as published."""
    graph: Graph = PLAIN
    """The stages that samples pass."""
    reducers: tuple[Reducer, ...] = ()
    """What is computed over all of them together, beside the metrics of the shape."""

    def graph_of(self, spec: BenchmarkSpec) -> Graph:  # noqa: ARG002  (a benchmark may offer several)
        """The stages under a user's overrides."""
        return self.graph

    @property
    def metrics(self) -> Sequence[MetricSpec]:
        """What is reported; the first is the primary one."""
        return self.shape.metrics

    @property
    def needs_target(self) -> bool:
        """Whether its scorer compares with an accepted answer; one that does not say so may score by a reference."""
        return bool(getattr(self.shape, "needs_target", False))

    def for_spec(self, spec: BenchmarkSpec) -> "Benchmark":
        """The benchmark in the mode that the spec chooses; `spec.validate_spec` has checked that there is one."""
        return self.in_mode(scoring_of(spec))

    def in_mode(self, mode: str) -> "Benchmark":
        """The benchmark in one of its modes; as it stands where it has none of this name."""
        shape = self.modes.get(mode)
        if shape is None:
            return self
        # What is computed over all samples is computed of the values that a shape gives.
        return replace(self, shape=shape, mode=mode, template="", reducers=tuple(getattr(shape, "reducers", ())))

    def request_kind(self, model_kind: RequestKind) -> RequestKind:
        """How a model of this kind is asked: in its own kind where the shape can, else in the shape's usual one."""
        kinds = self.shape.kinds
        return model_kind if model_kind in kinds else kinds[0]

    def needs(self, model_kind: RequestKind, max_tokens: int | None = None) -> Needs:
        """What the endpoint of such a model must be able to do; `max_tokens` is the longest answer asked for."""
        kind = self.request_kind(model_kind)
        scores = kind == "loglikelihood"
        return Needs(self.name, kind, self.modalities, scores, self.tools, None if scores else max_tokens)

    def prompt_settings(
        self, spec: BenchmarkSpec, shots: tuple[Sample, ...], model_kind: RequestKind = "chat"
    ) -> PromptSettings:
        """The benchmark's settings with the user's overrides, for a model of this kind."""
        return PromptSettings(
            template=spec.prompt_template or self.template or self.shape.template,
            system=self.system if spec.system_prompt is None else spec.system_prompt,
            shots=shots,
            kind=self.request_kind(model_kind),
        )
