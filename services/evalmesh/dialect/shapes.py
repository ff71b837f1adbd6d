"""What chat and text completions answer, as far as its structure goes: a chunk, or the whole.

Leaves are `object`, taken as they come and read where they are needed (`loose`): nothing but the structure itself can
fail here, so one fast decoder serves every server. Where the structure fails too, `rough` takes what is there.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `decode` raises for bytes that hold no JSON object."""
BOM = b"\xef\xbb\xbf"
NULL = msgspec.Raw(b"null")

_encode = msgspec.json.Encoder().encode
_ROUGH_BYTES = 4 << 20
"""Beyond it an odd body is not read a second time: the slow way takes several times its size in memory."""


class Message(msgspec.Struct, gc=False):
    """A message, or a part of one (`delta`)."""

    content: object = None
    reasoning_content: object = None
    reasoning: object = None
    tool_calls: object = None
    function_call: object = None
    """The older form of `tool_calls`."""
    refusal: object = None
    images: object = None
    audio: object = None
    thinking: object = None
    reasoning_details: object = None

    def has_more(self) -> bool:
        """Whether there is anything beside the content."""
        return bool(
            self.reasoning_content
            or self.reasoning
            or self.tool_calls
            or self.function_call
            or self.refusal
            or self.images
            or self.audio
            or self.thinking
            or self.reasoning_details
        )


class Choice(msgspec.Struct, gc=False):
    """One of the alternatives. Text completions have `text` alone."""

    text: object = None
    delta: Message | None = None
    message: Message | None = None
    finish_reason: object = None
    index: object = 0
    error: object = None
    """OpenRouter's place for what broke one answer off."""


class ScoredChoice(Choice, gc=False):
    """With what its tokens are worth, which a load test does not look at."""

    logprobs: msgspec.Raw = NULL
    prompt_logprobs: msgspec.Raw = NULL
    """vLLM's, of what was given."""


class Chunk(msgspec.Struct, gc=False):
    """An answer, or one piece of a streamed one. What else an error may hold is read when there is one (`errors`)."""

    choices: Sequence[Choice] | None = None
    usage: object = None
    error: object = None


class ScoredChunk(Chunk, gc=False):
    """The same with log probabilities."""

    choices: Sequence[ScoredChoice] | None = None
    prompt_logprobs: msgspec.Raw = NULL
    """Of a chat."""


_decode = msgspec.json.Decoder(Chunk).decode
_decode_scored = msgspec.json.Decoder(ScoredChunk).decode


def decode(data: bytes) -> Chunk:
    """Raises one of `UNREADABLE` for what is no JSON object."""
    try:
        return _decode(data)
    except UNREADABLE as error:
        return rough(data, error)


def decode_scored(data: bytes) -> ScoredChunk:
    """Likewise."""
    try:
        return _decode_scored(data)
    except UNREADABLE as error:
        return rough(data, error)


def loads(data: bytes, problem: Exception) -> Any:
    """JSON as lax as servers write it: with a byte order mark, NaN, lone surrogates, numbers out of range.

    Raises `problem`, which a stricter reader found, where that is no JSON either.
    """
    if len(data) > _ROUGH_BYTES:
        raise problem
    try:
        return json.loads(data.removeprefix(BOM))
    except RecursionError:
        raise
    except ValueError:
        raise problem from None


def rough(data: bytes, problem: Exception) -> ScoredChunk:
    """What can be made of an answer whose structure is not as it should be. Raises `problem` where that is nothing."""
    value = loads(data, problem)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, Mapping):
        raise problem
    found = ScoredChunk(None, value.get("usage"), value.get("error"))
    choices = value.get("choices")
    if isinstance(choices, Mapping):
        choices = [choices]
    if choices is not None:
        found.choices = [_choice(one) for one in choices if isinstance(one, Mapping)] if _is_list(choices) else []
    return found


_MESSAGE = [field.name for field in msgspec.structs.fields(Message)]


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _choice(value: Mapping[str, Any]) -> ScoredChoice:
    try:
        logprobs = msgspec.Raw(_encode(value.get("logprobs")))
    except (TypeError, ValueError):  # A lone surrogate, which UTF-8 cannot say.
        logprobs = NULL
    return ScoredChoice(
        value.get("text"),
        _message(value.get("delta")),
        _message(value.get("message")),
        value.get("finish_reason"),
        value.get("index", 0),
        value.get("error"),
        logprobs,
    )


def _message(value: object) -> Message | None:
    if isinstance(value, str):
        return Message(value)
    if isinstance(value, Mapping):
        return Message(**{name: value[name] for name in _MESSAGE if name in value})
    return None
