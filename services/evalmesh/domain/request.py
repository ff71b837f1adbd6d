"""What is asked of a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

RequestKind = Literal["chat", "completion", "loglikelihood", "embedding"]
Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """Sampling options; `None` leaves the choice to the server."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    """Seed of repeat 0; repeat k asks with `seed + k`, so that repeats differ and runs repeat."""
    reasoning_effort: str | None = None
    extra_body: Mapping[str, object] = field(default_factory=dict)
    """Server-specific keys, merged into the request body as they are."""


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model. A loglikelihood request scores each of `continuations` after the prompt."""

    sample_id: str
    repeat: int
    """0-based number of the generation for this sample."""
    kind: RequestKind
    digest: str
    """Generation digest: equal digests may share a completion (see `domain.digest`)."""
    messages: tuple[Message, ...] = ()
    """Chat only."""
    prompt: str = ""
    """Completion, loglikelihood and embedding only."""
    continuations: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Unique within a benchmark of a run."""
        return f"{self.sample_id}#{self.repeat}"
