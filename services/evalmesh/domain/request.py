"""What is asked of a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from evalmesh.domain.content import Content, ToolCall, ToolDefinition, content_text

RequestKind = Literal["chat", "completion", "loglikelihood", "embedding", "rerank", "image"]
Role = Literal["system", "user", "assistant", "tool"]

WHEN_SET: Mapping[str, str] = MappingProxyType({"digest": "when set"})
"""Metadata of fields added after the first release: digests leave them out while they hold their default, so that
requests asked before the field existed keep their digest."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: Content
    tool_calls: tuple[ToolCall, ...] = ()
    """Assistant turns: what the model asked for."""
    tool_call_id: str = ""
    """Tool turns: the call that `content` is the result of."""

    @property
    def text(self) -> str:
        """The text of it, without media."""
        return content_text(self.content)

    @property
    def plain(self) -> bool:
        """Whether it is nothing but a role and a text."""
        return isinstance(self.content, str) and not self.tool_calls and not self.tool_call_id


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
    top_logprobs: int | None = field(default=None, metadata=WHEN_SET)
    """Ask for the log probability of each token of the answer, and of this many alternatives (0: of none)."""


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
    """All but chat: the text to go on with, the context, the one text to embed, the query, the image's description."""
    continuations: tuple[str, ...] = ()
    tools: tuple[ToolDefinition, ...] = ()
    """Chat only: what the model may call."""
    tool_choice: str = ""
    """`auto`, `none`, `required` or the name of the tool that must be called; empty leaves it to the server."""
    rolling: bool = False
    """Loglikelihood with an empty prompt only: each continuation is a text that is scored whole, however long it is.

    Its tokens (as the tokenizer makes them without being told about special ones) are cut into windows of the model's
    context, so that each is predicted once: the first window begins with one token of context, the tokenizer's BOS or
    else its EOS; each later one holds as many new tokens, the last as many as are left, after as much of the text
    before them as there is room for.
    """
    contexts: tuple[str, ...] = ()
    """Loglikelihood only: what stands between the prompt and the continuation of the same place; empty: nothing."""
    followups: tuple[str, ...] = ()
    """Chat only: what the user says next, each once the model has answered. Endpoints never see it
    (`model_runner.turns`)."""

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Of a loglikelihood request: each continuation, after the text that it is judged after."""
        contexts = self.contexts or ("",) * len(self.continuations)
        return tuple((self.prompt + before, one) for before, one in zip(contexts, self.continuations, strict=True))

    inputs: tuple[str, ...] = ()
    """Embedding: several texts, instead of a prompt. Rerank: the documents."""

    @property
    def id(self) -> str:
        """Unique within a benchmark of a run."""
        return f"{self.sample_id}#{self.repeat}"

    @property
    def texts(self) -> tuple[str, ...]:
        """What is embedded or ranked."""
        return self.inputs or (self.prompt,)
