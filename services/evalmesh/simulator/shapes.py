"""The bytes of an answer in the shape of an API: whole, as a stream, unfinished, and as an error."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from evalmesh.simulator.schema import DONE, Choice, ChunkWriter, Content, Head, Usage, error_body, full_body, json_body

Frame = Callable[[bytes], bytes]
"""Makes an event what goes on the wire."""

ERROR = "The simulator was told to fail in the middle of this answer."


@dataclass(frozen=True, slots=True)
class Script:
    """A stream. `opening`, `closing` and `error` are framed for the wire, the rest are events."""

    opening: bytes
    contents: Sequence[Content]
    closing: bytes
    mark: bytes
    """The event that ends a stream."""
    error: bytes
    """What a server sends that fails when the stream has begun."""


class Shape(Protocol):
    """How an API words an answer."""

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        """The answer in one piece."""
        ...

    def unfinished(self, choices: Sequence[Choice]) -> bytes:
        """A readable body with half of the answer, without a reason for the end and without usage."""
        ...


class StreamShape(Shape, Protocol):
    """The same for an API that streams."""

    def script(self, choice: Choice, usage: Usage, frame: Frame) -> Script:
        """The answer as a stream."""
        ...


def error_whole() -> bytes:
    """The body of an answer that failed after its status was sent."""
    return error_body(ERROR, "internal_error", "500")


def error_event(*, is_typed: bool = False) -> bytes:
    """The event of a stream that fails; `is_typed` in the form of the responses API."""
    if is_typed:
        body = {"type": "error", "code": "server_error", "message": ERROR, "param": None}
        return b"event: error\ndata: " + json_body(body) + b"\n\n"
    return b"data: " + error_whole() + b"\n\n"


def halved(choice: Choice) -> Choice:
    """Half of a choice, without a finish reason."""
    return replace(choice, text=choice.text[: len(choice.text) // 2], finish_reason=None, logprobs=None)


@dataclass(frozen=True, slots=True)
class OpenAiShape:
    """Chat completions and completions."""

    head: Head
    with_usage: bool
    """A stream ends with a usage chunk."""
    usage_always: bool
    """Every chunk tells the usage so far."""
    chunk_tokens: int
    """Tokens per chunk."""

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        return full_body(self.head, choices, usage)

    def unfinished(self, choices: Sequence[Choice]) -> bytes:
        return full_body(self.head, [halved(choice) for choice in choices], None)

    def script(self, choice: Choice, usage: Usage, frame: Frame) -> Script:
        writer = ChunkWriter(
            self.head,
            with_usage=self.with_usage,
            prompt_tokens=usage.prompt_tokens if self.usage_always else None,
        )
        opening = frame(writer.role()) if self.head.is_chat else b""
        contents = writer.contents(choice.reasoning, self.chunk_tokens, is_reasoning=True) if choice.reasoning else []
        contents += writer.contents(choice.text, self.chunk_tokens)
        contents += writer.calls(choice.calls, self.chunk_tokens)
        closing = frame(writer.finish(choice.finish_reason))
        if self.with_usage:
            closing += frame(writer.usage(usage))
        error = frame(error_event()) + frame(DONE)
        return Script(opening, contents, closing + frame(DONE), DONE, error)
