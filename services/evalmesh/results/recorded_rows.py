"""What one row of completions made elsewhere says: its text, and what a completion may hold beside text."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from evalmesh.domain.completion import Completion, ContinuationScore, FinishReason
from evalmesh.domain.content import ToolCall
from evalmesh.domain.request import Request

TEXT_KEYS = ("text", "completion", "output", "prediction", "response")
_FINISH: Mapping[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
}
"""Whatever else a tool calls it, it is an end."""


class _Function(msgspec.Struct):
    name: str
    arguments: str | dict[str, Any] = "{}"


class _Call(msgspec.Struct):
    """A call as itself, or as the OpenAI API writes it."""

    id: str | None = None
    name: str | None = None
    arguments: str | dict[str, Any] = "{}"
    function: _Function | None = None

    def read(self) -> ToolCall:
        said = self.function or self
        arguments = said.arguments
        return ToolCall(
            self.id or "", said.name or "", arguments if isinstance(arguments, str) else json.dumps(arguments)
        )


class _Continuation(msgspec.Struct):
    logprob: float
    n_tokens: int | None = None
    n_bytes: int | None = None
    is_greedy: bool = False


class _Parts(msgspec.Struct):
    """What is read of a row beside its text and its place; unknown keys are skipped."""

    finish_reason: object = None
    reasoning: object = None
    refusal: object = None
    tool_calls: list[_Call] | str | None = None
    """Text: JSON of such a list, as the results of a run have it."""
    continuations: list[_Continuation | float] | None = None


class UnusableRow(ValueError):
    """What is wrong with it, as the end of a sentence that begins with its line."""


def check_row(row: Mapping[str, Any]) -> None:
    """Raises `UnusableRow` for a row that answers nothing, or with something that cannot be read."""
    parts = _parts_of(row)
    calls = _calls_of(parts)
    if _text_of(row) is None and not (calls or parts.continuations or _text(parts.refusal)):
        raise UnusableRow(
            f"has no text; give it as one of {', '.join(TEXT_KEYS)} (or tool_calls, continuations, refusal)"
        )


def completion_of(row: Mapping[str, Any], request: Request) -> Completion:
    """The answer to a request; the row has been checked."""
    parts = _parts_of(row)
    return Completion(
        sample_id=request.sample_id,
        repeat=request.repeat,
        digest=request.digest,
        text=_text_of(row) or "",
        reasoning=_text(parts.reasoning),
        refusal=_text(parts.refusal),
        finish_reason=_FINISH.get(_text(parts.finish_reason) or "", "stop"),
        tool_calls=_calls_of(parts),
        continuations=tuple(map(_score, parts.continuations or ())),
    )


def _parts_of(row: Mapping[str, Any]) -> _Parts:
    try:
        return msgspec.convert(row, _Parts)
    except msgspec.ValidationError as error:
        raise UnusableRow(f"cannot be read: {error}") from error


def _calls_of(parts: _Parts) -> tuple[ToolCall, ...]:
    given = parts.tool_calls or []
    try:
        calls = msgspec.json.decode(given, type=list[_Call]) if isinstance(given, str) else given
    except msgspec.DecodeError as error:
        raise UnusableRow(f"cannot be read: tool_calls: {error}") from error
    read = tuple(call.read() for call in calls)
    for place, call in enumerate(read):
        if not call.name:
            raise UnusableRow(f"cannot be read: tool_calls[{place}] has no name")
    return read


def _score(one: _Continuation | float) -> ContinuationScore:
    if isinstance(one, _Continuation):
        return ContinuationScore(one.logprob, one.n_tokens or 0, one.n_bytes or 0, one.is_greedy)
    return ContinuationScore(float(one))


def _text_of(row: Mapping[str, Any]) -> str | None:
    return next((row[key] for key in TEXT_KEYS if isinstance(row.get(key), str)), None)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
