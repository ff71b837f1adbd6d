"""One submitted execution: its immutable wish, and how far it has come."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from evalmesh.domain.hub import HubChoice
from evalmesh.domain.request import WHEN_SET, GenerationConfig
from evalmesh.domain.row_form import RowForm
from evalmesh.domain.state import State, Submission

RUN_FORMAT = 1
"""What `Run.format` of a new run is. 0: a fixed chain of steps, as runs were before stages."""

OnError = Literal["exclude", "zero", "fail"]
Engine = Literal["openai", "recorded", "transformers", "vllm", "anthropic", "litellm"]
OWN_ENGINES: frozenset[Engine] = frozenset({"transformers", "vllm"})
"""They run the model themselves: `ModelSpec.name` is a folder or a name of a hub, and there is no address."""
ModelKind = Literal["chat", "completion", "embedding", "rerank", "image"]
"""What a model is asked; log-likelihoods are asked of the first two."""


RunState = State
MOST_SHARD_REQUESTS = 4096
"""They are in memory at once: samples times repeats."""
_SHARD_SAMPLES = 64


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The model under test and how it is reached. Holds references to keys, never keys."""

    name: str
    """What the endpoint calls it."""
    engine: Engine = "openai"
    display_name: str = ""
    """What reports call it; the last part of `name` when empty."""
    url: str = ""
    """Base URL, with the version: `http://host:8000/v1`; or the address of a call, which may be the responses API."""
    key_ref: str = ""
    """`env:NAME` or `secret:name/key`; empty for an endpoint without a key, or with that of `connection`."""
    kind: ModelKind = "chat"
    stream: bool = False
    concurrency: int = 64
    """The most requests in flight; the runner goes below it when the endpoint asks it to."""
    max_tries: int = 6
    try_timeout_s: float = 600.0
    """From send to last byte of one try."""
    total_timeout_s: float = 3600.0
    """From the first send to giving up, waits included, but for outages."""
    headers: Mapping[str, str] = field(default_factory=dict)
    args: Mapping[str, object] = field(default_factory=dict)
    """Engine-specific options (`--model-args`)."""
    connection: str = field(default="", metadata=WHEN_SET)
    """A connection that the model runner's operator declared: its key and headers are sent, `url` may be left out."""
    ca_file: str = field(default="", metadata=WHEN_SET)
    """PEM file with the authorities to trust, on the model runner's machine; empty: the system's."""
    verify_tls: bool = field(default=True, metadata=WHEN_SET)
    outage_timeout_s: float = field(default=600.0, metadata=WHEN_SET)
    """So long an endpoint that answers nobody is waited for before the runs that need it end as FAILED."""
    weights: str = field(default="", metadata=WHEN_SET)
    """Our own engines: what the model's files held when the run was accepted, as a digest; an engine with others
    refuses the run. Whoever submits leaves it empty."""

    @property
    def label(self) -> str:
        """The name to show."""
        return self.display_name or self.name.rstrip("/").rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class BenchmarkSpec:
    """One benchmark of a run, with the user's overrides (`--dataset-args`); `None` keeps the benchmark's own."""

    name: str
    """What it is called in the run; the benchmark's own name unless `benchmark` says otherwise."""
    local_path: str | None = None
    """File or folder to read instead of a hub; for general benchmarks the only source."""
    dataset_id: str | None = None
    revision: str | None = None
    subsets: tuple[str, ...] | None = None
    split: str | None = None
    few_shot_split: str | None = None
    few_shot_num: int | None = None
    few_shot_random: bool | None = None
    prompt_template: str | None = None
    system_prompt: str | None = None
    shuffle: bool = False
    shuffle_choices: bool = False
    limit: int | float | None = None
    """Per subset: a count, or a fraction below 1. Overrides the run's."""
    remove_until: str | None = None
    """Drop the completion up to and including the last occurrence, e.g. an end-of-thinking tag."""
    extra: Mapping[str, object] = field(default_factory=dict)
    benchmark: str = ""
    """Which benchmark it is, where the run gives it another name: one benchmark may stand in a run several times."""
    form: RowForm = field(default_factory=RowForm)
    """How the rows of the user's own files are to be read."""

    @property
    def kind(self) -> str:
        """The benchmark's name in the registry."""
        return self.benchmark or self.name


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What was asked for; never changes once submitted."""

    model: ModelSpec
    benchmarks: tuple[BenchmarkSpec, ...]
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    """Overrides of every benchmark's own defaults."""
    limit: int | float | None = None
    """Per subset: a count (int), or a fraction (float) of the rows."""
    repeats: int = 1
    seed: int = 42
    on_error: OnError = "exclude"
    reuse_runs: tuple[str, ...] = ()
    """Runs whose completions with equal digests are copied instead of generated."""
    reuse_completions: tuple[str, ...] = ()
    """sha256 of imported results of other runs; likewise."""
    completions_digest: str = ""
    """sha256 of imported completions (engine `recorded`): nothing is generated."""
    dataset_dir: str = ""
    """Folder searched for each benchmark's data set before any hub."""
    dataset_hub: HubChoice = "modelscope"
    """Asked for what is in no folder; `local`: none is."""
    shard_size: int = 0
    """Samples per shard; 0 leaves it to the planner."""
    display_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, ModelSpec] = field(default_factory=dict)
    """Other models that stages ask, by role: a judge, an embedder, a baseline."""

    client_config: str = ""
    """JSON object with the keys of `evalmesh eval -c`: the client's own words, for people to ask for the same again."""
    stop_after_failures: int = 20
    """So many requests that fail alike, with no success since the first of them, end the run as FAILED; 0: none do."""

    def model_of(self, role: str) -> ModelSpec:
        """The model that has a role; `KeyError` when the spec names none."""
        return self.model if role == "model" else self.roles[role]

    @property
    def samples_per_shard(self) -> int:
        """As asked for; else 64, or fewer where many repeats would make too many requests of them."""
        return self.shard_size or max(1, min(_SHARD_SAMPLES, MOST_SHARD_REQUESTS // self.repeats))


@dataclass(frozen=True, slots=True)
class BenchmarkProgress:
    """Requests of one benchmark, by how far they have come."""

    name: str
    total: int = 0
    done: int = 0
    """Scored, unscored or errored: in the results."""
    in_flight: int = 0
    generated: int = 0
    """Completions that exist, results included."""
    errored: int = 0
    unscored: int = 0
    value: float | None = None
    """Running mean of the primary metric over what is done."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """Scored requests by outcome (`scoring.outcomes`)."""

    @property
    def not_run(self) -> int:
        """Of an ended run: planned and neither answered nor errored."""
        return max(0, self.total - max(self.generated, self.done))


@dataclass(frozen=True, slots=True)
class Run(Submission[RunSpec]):
    """A submitted run."""

    COLLECTION: ClassVar[str] = "runs"
    NOUN: ClassVar[str] = "run"

    benchmarks: tuple[BenchmarkProgress, ...] = ()
    notice: str = ""
    """What the run waits for, when somebody should know."""
    size_bytes: int = 0
    """Of its objects, where somebody asked for that."""
    format: int = 0
    """Which layout its objects have; see `RUN_FORMAT`."""
    notes: tuple[str, ...] = ()
    """What was noticed before it was accepted or resumed."""
    moved_url: str = ""
    """Where the model is since the run was resumed at another address; the spec says where it was."""
    moved_key_ref: str | None = None
    """The key since then; `None`: the spec's."""

    @property
    def asked(self) -> RunSpec:
        """The spec with the model where it is now. What makes completions the same does not depend on that."""
        model = self.spec.model
        if self.moved_url:
            model = replace(model, url=self.moved_url)
        if self.moved_key_ref is not None:
            model = replace(model, key_ref=self.moved_key_ref)
        return self.spec if model is self.spec.model else replace(self.spec, model=model)
