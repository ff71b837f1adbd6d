"""What came back from a model for one request: an answer, or the error that stands in its place."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from evalmesh.domain.content import ContentPart, ToolCall

FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "unknown"]

ErrorClass = Literal[
    "connect",  # no connection: refused, DNS, TLS
    "reset",  # the connection broke before or inside the answer
    "timeout",  # a per-try or total deadline passed
    "rate_limited",  # 429
    "server",  # 5xx
    "auth",  # 401, 403: final at once
    "bad_request",  # other 4xx: final at once
    "malformed",  # the answer could not be understood
    "truncated",  # a stream ended without its end mark
    "cancelled",  # the run was cancelled while in flight
    "missing",  # completions were given and this one is not among them
    "poison",  # the shard was set aside after its last delivery
    "internal",  # a defect in evalmesh
]


_MOST_TOKENS = 2**53
"""Beyond it a count is no count, and not every reader of JSON sees the same number."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the server reports them; `None` where it does not, or says what no count can be."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None

    def __post_init__(self) -> None:
        """Here, and not where answers are read, so that what was stored without this check is mended as well."""
        for name in ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens"):
            count = getattr(self, name)
            if count is not None and not 0 <= count <= _MOST_TOKENS:
                object.__setattr__(self, name, None)


@dataclass(frozen=True, slots=True)
class Timing:
    """When and how long, seen from the client, of the last try."""

    start_time: float
    """Unix time of the send, in seconds."""
    latency_s: float
    """Send to last byte."""
    ttft_s: float | None = None
    """Send to first content token; streamed answers only."""

    @property
    def sound(self) -> bool:
        """Whether these can be times: finite and not negative."""
        return 0 <= self.start_time < inf and 0 <= self.latency_s < inf and 0 <= (self.ttft_s or 0.0) < inf


@dataclass(frozen=True, slots=True)
class ContinuationScore:
    """How likely one continuation of a loglikelihood request is."""

    logprob: float
    """Sum over its tokens, in nats."""
    n_tokens: int = 0
    """0 where it was not recorded."""
    n_bytes: int = 0
    """Of the continuation in UTF-8; 0 where it was not recorded."""
    is_greedy: bool = False
    """Whether greedy decoding would say it."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token of an answer."""

    token: str
    logprob: float
    """In nats."""
    top: tuple[tuple[str, float], ...] = ()
    """The likeliest tokens in its place, as the server lists them."""


def as_sentence(text: str) -> str:
    """With a mark at its end, so that another sentence may follow."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


@dataclass(frozen=True, slots=True)
class CompletionError:
    """Why there is no answer."""

    error_class: ErrorClass
    message: str
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to one request. Exactly one of `text` and `error` means something."""

    sample_id: str
    repeat: int
    digest: str
    """The generation digest of the request this answers."""
    text: str = ""
    reasoning: str | None = None
    """Thinking text the server reports apart from the answer."""
    finish_reason: FinishReason = "unknown"
    continuations: tuple[ContinuationScore, ...] = ()
    """Loglikelihood requests: one per continuation, in their order."""
    embeddings: tuple[tuple[float, ...], ...] = ()
    """Embedding requests: one vector per input."""
    scores: tuple[float, ...] = ()
    """Rerank requests: how relevant each document is, in the order of the documents."""
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None
    """Why the model will not answer, where the server tells it apart from the text."""
    media: tuple[ContentPart, ...] = ()
    """What the model made beside text."""
    top_logprobs: tuple[TokenLogprob, ...] = ()
    """One per token of the answer, when `GenerationConfig.top_logprobs` asked for them."""
    usage: Usage | None = None
    timing: Timing | None = None
    tries: int = 1
    error: CompletionError | None = None
    turns: tuple[str, ...] = ()
    """Answers to the turns before the last one, which is `text`; usage, latency and tries are those of all together."""
    unfinished: bool = False
    """Only in checkpoints: more turns are to come, and `turns` are those that are answered."""
    reused_from: str | None = None
    """The run whose completion this is a copy of."""
    logprobs: tuple[float, ...] = field(default=(), repr=False)
    """Only in stored records of 0.1: becomes `continuations`; empty ever after. So do the next two."""
    is_greedy: tuple[bool, ...] = field(default=(), repr=False)
    embedding: tuple[float, ...] = field(default=(), repr=False)
    """Only in stored records of 0.1: becomes the one vector of `embeddings`."""

    def __post_init__(self) -> None:
        """Takes in what a record of 0.1 says in other fields."""
        if self.logprobs:
            greedy = self.is_greedy or (False,) * len(self.logprobs)
            scores = tuple(ContinuationScore(lp, is_greedy=g) for lp, g in zip(self.logprobs, greedy, strict=True))
            object.__setattr__(self, "continuations", scores)
            object.__setattr__(self, "logprobs", ())
            object.__setattr__(self, "is_greedy", ())
        if self.embedding:
            object.__setattr__(self, "embeddings", (self.embedding,))
            object.__setattr__(self, "embedding", ())

    @property
    def request_id(self) -> str:
        """Equal to the id of the request it answers."""
        return f"{self.sample_id}#{self.repeat}"
