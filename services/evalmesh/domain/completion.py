"""What came back from a model for one request: an answer, or the error that stands in its place."""

from dataclasses import dataclass
from math import inf
from typing import Literal

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
        return all(0 <= value < inf for value in (self.start_time, self.latency_s, self.ttft_s or 0.0))


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
    logprobs: tuple[float, ...] = ()
    """Loglikelihood requests: the sum of log probabilities per continuation, in nats."""
    is_greedy: tuple[bool, ...] = ()
    """Loglikelihood requests: whether each continuation is what greedy decoding would say."""
    embedding: tuple[float, ...] = ()
    usage: Usage | None = None
    timing: Timing | None = None
    tries: int = 1
    error: CompletionError | None = None
    reused_from: str | None = None
    """The run whose completion this is a copy of."""

    @property
    def request_id(self) -> str:
        """Equal to the id of the request it answers."""
        return f"{self.sample_id}#{self.repeat}"
