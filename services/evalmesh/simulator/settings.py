"""How the simulated model behaves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from evalmesh.domain.errors import InvalidInput
from evalmesh.simulator.distribution import ZERO, Distribution, Freeze
from evalmesh.simulator.faults import Fault
from evalmesh.simulator.render import Style
from evalmesh.simulator.skill import Skill

Overload = Literal["queue", "reject"]
RerankForm = Literal["jina", "cohere"]
"""`jina`: as vLLM and Jina answer, with usage. `cohere`: as Cohere does, with billed units in `meta`."""
LikelihoodForm = Literal["echo", "prompt_logprobs", "generate"]
"""Completions that echo, vLLM's `prompt_logprobs`, SGLang's `/generate`."""
MetricsFlavour = Literal["vllm", "sglang", "tgi", "none"]
DEFAULT_MODEL = "simulated"


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """Everything the simulator's behaviour depends on; two with equal settings behave alike."""

    skill: Skill = field(default_factory=Skill)
    """Its seed also fixes wordings, latencies and faults."""
    style: Style = field(default_factory=Style)
    ttft: Distribution = ZERO
    """Seconds from having a slot to the first token."""
    itl: Distribution = ZERO
    """Seconds between tokens."""
    output_tokens: Distribution | None = None
    """Length of every reply in tokens; an answer that is longer stays whole."""
    tokens_per_chunk: int = 1
    """Tokens in each event of a stream, which then comes after as many `itl`."""
    template_tokens: int = 0
    """Tokens that the chat template adds to each chat."""
    cached_share: float = 0.0
    """Share of prompt tokens that the usage reports as cached."""
    max_concurrency: int = 0
    """Requests worked on at a time; 0: no bound."""
    overload: Overload = "queue"
    """What happens to requests beyond that: they wait, or get 429."""
    freeze: Freeze | None = None
    faults: tuple[Fault, ...] = ()
    api_key: str = field(default="", repr=False)
    """Required as bearer token; empty: none is."""
    models: tuple[str, ...] = ()
    """Model names served; empty: every name is."""
    max_body_bytes: int = 32 * 1024 * 1024
    rerank_form: RerankForm = "jina"
    """Of `/v1/rerank`; `/v2/rerank` always answers as Cohere does."""
    likelihoods: frozenset[LikelihoodForm] = frozenset({"echo", "prompt_logprobs", "generate"})
    """By which calls it tells what a given text is worth; others are answered without."""
    metrics: MetricsFlavour = "vllm"
    """Whose names `/metrics` uses."""
    gpu_metrics: bool = False
    """Whether `/metrics` also tells of a GPU, as DCGM's exporter does."""
    kv_tokens: int = 400_000
    """Tokens that the simulated KV cache holds; more of them in work count as preemptions."""
    truth_size: int = 0
    """Requests that `/truth` remembers; 0: none."""
    benchmarks: tuple[str, ...] = ()
    """Benchmarks to learn at start."""
    dataset_args: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dataset_dir: str = ""

    def __post_init__(self) -> None:
        for name, value, least, most, way_out in (
            ("awkwardness", self.style.awkwardness, 0, 1, "use a number from 0 to 1"),
            ("max_concurrency", self.max_concurrency, 0, inf, "use 0 for no bound, or a positive number"),
            ("max_body_bytes", self.max_body_bytes, 1, inf, "use a positive number"),
            ("tokens_per_chunk", self.tokens_per_chunk, 1, inf, "a chunk carries at least 1 token"),
            ("template_tokens", self.template_tokens, 0, inf, "use 0 to do without"),
            ("cached_share", self.cached_share, 0, 1, "use a number from 0 to 1"),
            ("kv_tokens", self.kv_tokens, 1, inf, "the cache holds at least 1 token"),
            ("truth_size", self.truth_size, 0, inf, "use 0 to do without"),
        ):
            if not least <= value <= most:
                raise InvalidInput(f"{name}: {value} is not allowed; {way_out}.", {"field": name})
