"""Rows of published request traces, in one form.

    Azure LLM inference   CSV    TIMESTAMP, ContextTokens, GeneratedTokens
    BurstGPT              CSV    Timestamp (seconds), Model, Request tokens, Response tokens, ...
    Mooncake              JSONL  timestamp (milliseconds), input_length, output_length, hash_ids
    plain                 JSONL  timestamp (seconds or ISO 8601), and prompt, messages, body or input_tokens

Mooncake's `hash_ids` name blocks of 512 tokens; equal ids at the start of two requests are equal text, which a server
may have cached.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

BLOCK_TOKENS = 512
"""Tokens that one of Mooncake's hash ids stands for."""


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of a trace."""

    at_s: float
    """When it came; only differences mean anything."""
    input_tokens: int = 0
    """0: not told."""
    output_tokens: int = 0
    """0: not told."""
    hash_ids: tuple[int, ...] = ()
    prompt: str = ""
    messages: tuple[Mapping[str, object], ...] = ()
    body: Mapping[str, object] | None = None


def parse(row: Mapping[str, object], unit_s: float = 0.0) -> TraceRow:
    """The row in one form; raises `ValueError` that says what is wrong with it.

    `unit_s`: seconds per unit of a numeric timestamp, where it is not what the form of the trace says.
    """
    if "ContextTokens" in row:
        at_s = _time(row.get("TIMESTAMP"), unit_s or 1.0)
        return TraceRow(at_s, _tokens(row, "ContextTokens"), _tokens(row, "GeneratedTokens"))
    if "Request tokens" in row:
        at_s = _time(row.get("Timestamp"), unit_s or 1.0)
        return TraceRow(at_s, _tokens(row, "Request tokens"), _tokens(row, "Response tokens"))
    if "input_length" in row:
        at_s = _time(row.get("timestamp"), unit_s or 0.001)
        ids = _ids(row.get("hash_ids"))
        return TraceRow(at_s, _tokens(row, "input_length"), _tokens(row, "output_length"), ids)
    return _plain(row, unit_s or 1.0)


def _plain(row: Mapping[str, object], unit_s: float) -> TraceRow:
    if "timestamp" not in row:
        raise ValueError(
            "it has no timestamp; known forms are those of Azure, Mooncake and BurstGPT, and JSON lines with timestamp"
        )
    at_s = _time(row["timestamp"], unit_s)
    output = next((_tokens(row, key) for key in ("output_tokens", "completion_tokens", "max_tokens") if key in row), 0)
    body, messages, prompt = row.get("body"), row.get("messages"), row.get("prompt")
    if isinstance(body, Mapping):
        return TraceRow(at_s, output_tokens=output, body=body)
    if isinstance(messages, Sequence) and messages and all(isinstance(message, Mapping) for message in messages):
        chat = tuple(message for message in messages if isinstance(message, Mapping))
        return TraceRow(at_s, output_tokens=output, messages=chat)
    if isinstance(prompt, str) and prompt:
        return TraceRow(at_s, output_tokens=output, prompt=prompt)
    if "input_tokens" in row:
        return TraceRow(at_s, _tokens(row, "input_tokens"), output, _ids(row.get("hash_ids")))
    raise ValueError("it has a timestamp, and none of body, messages, prompt and input_tokens")


def _time(value: object, unit_s: float) -> float:
    """Seconds, out of a number in the given unit or a date."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value * unit_s
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"its timestamp is {value!r}, which is neither a number nor a date")
    text = value.strip()
    try:
        return float(text) * unit_s
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"its timestamp is {text!r}, which is neither a number nor a date in ISO 8601") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _tokens(row: Mapping[str, object], key: str) -> int:
    value = row.get(key)
    try:
        number = float(value)  # type: ignore[arg-type]  # what cannot be one is refused right here
    except (TypeError, ValueError):
        raise ValueError(f"{key} is {value!r}, not a number") from None
    if not 0 <= number < 2**31 or number != int(number):
        raise ValueError(f"{key} is {value!r}, not a number of tokens")
    return int(number)


def _ids(value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError("hash_ids is no list")  # noqa: TRY004 - a fault of the row, like all others
    ids = tuple(number for number in value if isinstance(number, int) and -(2**63) <= number < 2**63)
    if len(ids) != len(value):
        raise ValueError("hash_ids holds something else than numbers of 64 bits")
    return ids
