"""What an OpenAI-compatible server answers, whole or in pieces. Unknown fields are skipped, nulls are absent."""

import time
from collections.abc import Mapping

import msgspec

from evalmesh.adapters.openai.errors import Failure, Redactor, failure_in_answer
from evalmesh.domain.completion import FinishReason, Usage

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


class _Part(msgspec.Struct, gc=False):
    text: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: str | list[_Part] | None = None
    reasoning_content: str | None = None
    reasoning: object = None


class Logprobs(msgspec.Struct, gc=False):
    """Of the legacy completions API; all lists have one entry per token, the first token's value is null."""

    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None
    text_offset: list[int] | None = None


class Choice(msgspec.Struct, gc=False):
    """One of the alternatives; only index 0 is used, except where several prompts were sent."""

    index: int | None = 0
    message: _Message | None = None
    delta: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = msgspec.Raw(b"null")
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
    logprobs: tuple[float, ...] = ()
    is_greedy: tuple[bool, ...] = ()


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
    if message is None:
        if choice.text is None:
            return Failure("malformed", redact("The answer has no text: " + body[:200].decode("utf-8", "replace")))
        text, reasoning = choice.text, None
    else:
        text, reasoning = _content(message), _reasoning(message)
    return Answer(text, reasoning or None, _FINISH.get(finish or "", "unknown"), _usage(content.usage), content.choices)


class StreamedAnswer:
    """Puts the pieces of a streamed answer together."""

    __slots__ = ("_done_at", "_finish", "_first_token_at", "_reasoning", "_redact", "_text", "_usage")

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._finish: str | None = None
        self._usage: _Usage | None = None
        self._first_token_at: float | None = None
        self._done_at: float | None = None

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
        for choice in content.choices or ():
            if not choice.index:
                self._add_choice(choice)
        return None

    def _add_choice(self, choice: Choice) -> None:
        delta = choice.delta or choice.message
        text, reasoning = (choice.text, None) if delta is None else (_content(delta), _reasoning(delta))
        if text:
            self._text.append(text)
        if reasoning:
            self._reasoning.append(reasoning)
        if self._first_token_at is None and (text or reasoning):
            self._first_token_at = time.perf_counter()
        if choice.finish_reason is not None:
            self._finish = choice.finish_reason

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
        )


def _content(message: _Message) -> str:
    content = message.content
    if content is None:
        return ""
    return content if isinstance(content, str) else "".join(part.text or "" for part in content)


def _reasoning(message: _Message) -> str | None:
    if message.reasoning_content:
        return message.reasoning_content
    return message.reasoning if isinstance(message.reasoning, str) else None


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
