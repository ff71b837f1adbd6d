"""What an OpenAI-compatible server answers, whole or in pieces. Unknown fields are skipped, nulls are absent."""

import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from evalmesh.adapters.openai.errors import Failure, Redactor, failure_in_answer
from evalmesh.adapters.openai.pieces import Audio, Call, CallBuilder, Function, media_bytes, whole_calls
from evalmesh.domain.completion import ContinuationScore, FinishReason, TokenLogprob, Usage
from evalmesh.domain.content import ToolCall
from evalmesh.domain.media import decode_base64

_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
_BROKEN_OFF = frozenset({"abort", "error"})
"""Finish reasons of servers that were stopped in the middle (vLLM, SGLang)."""


_THOUGHTS = frozenset({"thinking", "reasoning"})
"""Types of content parts whose text is not the answer."""
_NULL = msgspec.Raw(b"null")


class _Part(msgspec.Struct, gc=False):
    kind: str | None = msgspec.field(default=None, name="type")
    text: str | None = None
    refusal: str | None = None
    thinking: str | list["_Part"] | None = None
    image_url: object = None


class _Message(msgspec.Struct, gc=False):
    content: str | list[_Part] | None = None
    reasoning_content: str | None = None
    reasoning: object = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None
    images: list[_Part] | None = None
    audio: Audio | None = None

    def plain(self) -> str | None:
        """Its text, where it has nothing else."""
        text = self.content
        more = self.reasoning_content or self.reasoning or self.refusal or self.tool_calls or self.function_call
        return text if isinstance(text, str) and not (more or self.images or self.audio) else None


class Choice(msgspec.Struct, gc=False):
    """One of the alternatives; only index 0 is used, except where several prompts were sent."""

    index: int | None = 0
    message: _Message | None = None
    delta: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = _NULL
    """Read only where asked for; chat answers have another form of it."""


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: int | None = None
    """DeepSeek's name for cached tokens."""


class Body(msgspec.Struct, gc=False):
    """An answer, or one piece of a streamed one."""

    choices: list[Choice] | None = None
    usage: _Usage | None = None
    error: object = None
    kind: str | None = msgspec.field(default=None, name="object")
    message: str | None = None
    code: int | str | None = None


class Answer(msgspec.Struct, gc=False):
    """A complete answer."""

    text: str
    reasoning: str | None
    finish_reason: FinishReason
    usage: Usage | None
    choices: list[Choice]
    first_token_at: float | None = None
    """`time.perf_counter` of the first content or reasoning; streamed answers only."""
    done_at: float | None = None
    """`time.perf_counter` of the end mark; streamed answers only."""
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None
    media: list[bytes] = []
    """Images and sounds, not yet kept."""
    logprobs: list[msgspec.Raw] = []
    """As sent; read only where asked for."""
    top_logprobs: tuple[TokenLogprob, ...] = ()
    continuations: tuple[ContinuationScore, ...] = ()


_decode = msgspec.json.Decoder(Body).decode


def parse_answer(body: bytes, redact: Redactor) -> Answer | Failure:
    """Reads an answer that was not streamed."""
    try:
        content = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _malformed(error, body, redact)
    if (failure := _reported(content, redact)) is not None:
        return failure
    if not content.choices:
        return Failure("malformed", redact("The answer has no choices: " + body[:200].decode("utf-8", "replace")))
    choice = content.choices[0]
    finish = choice.finish_reason
    if finish in _BROKEN_OFF:
        return _broken_off(finish)
    message = choice.message
    if message is None and choice.text is None:
        return Failure("malformed", redact("The answer has no text: " + body[:200].decode("utf-8", "replace")))
    return _whole(content, choice, message or _Message(choice.text))


def _whole(content: Body, choice: Choice, message: _Message) -> Answer | Failure:
    finish, logprobs = _FINISH.get(choice.finish_reason or "", "unknown"), [choice.logprobs]
    text = message.plain()
    if text is not None:
        return Answer(text, None, finish, _usage(content.usage), content.choices or [], logprobs=logprobs)
    try:
        media = _media(message)
    except ValueError as error:
        return _no_media(error)
    return Answer(
        _content(message),
        _reasoning(message) or None,
        finish,
        _usage(content.usage),
        content.choices or [],
        tool_calls=whole_calls(message.tool_calls or (), message.function_call),
        refusal=_refusal(message) or None,
        media=media,
        logprobs=logprobs,
    )


class StreamedAnswer:
    """Puts the pieces of a streamed answer together."""

    __slots__ = (
        "_audio",
        "_calls",
        "_done_at",
        "_finish",
        "_first_token_at",
        "_held",
        "_logprobs",
        "_media",
        "_reasoning",
        "_redact",
        "_refusal",
        "_text",
        "_usage",
    )

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls = CallBuilder()
        self._media: list[bytes] = []
        self._audio = bytearray()
        self._logprobs: list[msgspec.Raw] = []
        self._finish: str | None = None
        self._usage: _Usage | None = None
        self._first_token_at: float | None = None
        self._done_at: float | None = None
        self._held = 0

    @property
    def held_bytes(self) -> int:
        """What is kept of the stream up to now, a character counted as a byte."""
        return self._held

    @property
    def complete(self) -> bool:
        """Whether the server said how the answer ended; only usage may be missing then."""
        return self._finish is not None or self._done_at is not None

    @property
    def done(self) -> bool:
        """Whether the end mark has come."""
        return self._done_at is not None

    def add(self, payload: bytes) -> Failure | None:
        """Takes the data of one event; `None` unless it makes the answer a failure."""
        if payload.strip() == b"[DONE]":
            self._done_at = time.perf_counter()
            return None
        try:
            content = _decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _malformed(error, payload, self._redact)
        if (failure := _reported(content, self._redact)) is not None:
            return failure
        if content.usage is not None:
            self._usage = content.usage
        try:
            for choice in content.choices or ():
                if not choice.index:
                    self._add_choice(choice)
        except ValueError as error:
            return _no_media(error)
        return None

    def _add_choice(self, choice: Choice) -> None:
        delta = choice.delta or choice.message
        if delta is None:
            text, more = choice.text, False
        else:
            text, more = _content(delta), self._add_pieces(delta)
        if text:
            self._text.append(text)
            self._held += len(text)
        if self._first_token_at is None and (text or more):
            self._first_token_at = time.perf_counter()
        if choice.logprobs != _NULL:
            self._logprobs.append(choice.logprobs)
            self._held += len(choice.logprobs)
        if choice.finish_reason is not None:
            self._finish = choice.finish_reason

    def _add_pieces(self, delta: _Message) -> bool:
        """Everything but text; whether there was any."""
        reasoning, refusal = _reasoning(delta), _refusal(delta)
        calls = delta.tool_calls or ([Call(function=delta.function_call)] if delta.function_call else [])
        if reasoning:
            self._reasoning.append(reasoning)
        if refusal:
            self._refusal.append(refusal)
        self._calls.add(calls)
        if delta.audio is not None and delta.audio.data:
            # A stream sends one sound in pieces, each in base64 by itself.
            sound = decode_base64(delta.audio.data)
            self._audio += sound
            self._held += len(sound)
            delta.audio.data = None
        media = _media(delta)
        self._media += media
        self._held += len(reasoning or "") + len(refusal) + sum(map(len, media))
        self._held += sum(len(call.function.arguments) for call in calls if call.function is not None)
        return bool(reasoning or refusal or calls or media)

    def end(self) -> Answer | Failure:
        """The answer, now that the stream has ended."""
        if not self.complete:
            chars = sum(map(len, self._text))
            return Failure("truncated", f"The stream ended without an end mark, after {chars} characters of text.")
        if self._finish in _BROKEN_OFF:
            return _broken_off(self._finish)
        return Answer(
            "".join(self._text),
            "".join(self._reasoning) or None,
            _FINISH.get(self._finish or "", "unknown"),
            _usage(self._usage),
            [],
            self._first_token_at,
            self._done_at,
            tool_calls=self._calls.calls(),
            refusal="".join(self._refusal) or None,
            media=[*self._media, bytes(self._audio)] if self._audio else self._media,
            logprobs=self._logprobs,
        )


def _content(message: _Message) -> str:
    content = message.content
    if content is None:
        return (message.audio.transcript if message.audio is not None else None) or ""
    return content if isinstance(content, str) else _text_of(part for part in content if part.kind not in _THOUGHTS)


def _text_of(parts: Iterable[_Part]) -> str:
    return "".join(part.text or "" for part in parts)


def _reasoning(message: _Message) -> str | None:
    if message.reasoning_content:
        return message.reasoning_content
    if isinstance(message.reasoning, str) and message.reasoning:
        return message.reasoning
    thoughts = [part.thinking or part.text or "" for part in _parts(message) if part.kind in _THOUGHTS]
    return "".join(thought if isinstance(thought, str) else _text_of(thought) for thought in thoughts)


def _refusal(message: _Message) -> str:
    return message.refusal or "".join(part.refusal or "" for part in _parts(message))


def _media(message: _Message) -> list[bytes]:
    """Raises `ValueError` for a medium that cannot be taken over."""
    parts = [*_parts(message), *(message.images or ())]
    found = [media_bytes(part.image_url) for part in parts if part.image_url is not None]
    if message.audio is not None and message.audio.data:
        found.append(decode_base64(message.audio.data))
    return found


def _parts(message: _Message) -> Sequence[_Part]:
    return message.content if isinstance(message.content, list) else ()


def _no_media(error: ValueError) -> Failure:
    return Failure("malformed", f"The answer holds a medium that cannot be read: {error}.", retryable=False)


def _usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    sent, said = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        None if said is None else said.reasoning_tokens,
        usage.prompt_cache_hit_tokens if sent is None else sent.cached_tokens,
    )


def _reported(content: Body, redact: Redactor) -> Failure | None:
    if content.error:
        return failure_in_answer(content.error, redact)
    if content.kind == "error":
        return failure_in_answer({"message": content.message, "code": content.code}, redact)
    return None


def _broken_off(finish: str | None) -> Failure:
    return Failure("truncated", f"The server broke the answer off (finish_reason {finish!r}).")


def _malformed(error: Exception, body: bytes, redact: Redactor) -> Failure:
    seen = body[:200].decode("utf-8", "replace")
    return Failure("malformed", redact(f"The answer cannot be read ({error}); it begins with: {seen}"))
