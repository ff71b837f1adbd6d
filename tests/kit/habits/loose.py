"""Every field of an answer that is not its text, with every type of value: the text survives all of them."""

import json
from collections.abc import Iterator
from typing import Any

from tests.kit.habits.what import PIECES, SPENT, Habit, Reply, Right, answer, chunk, json_of, stream_of

VALUES: dict[str, Any] = {
    "null": None, "text": "x", "number in text": "7", "float": 7.0, "fraction": 0.5, "negative": -3, "huge": 10**30,
    "true": True, "list": [], "list of text": ["x"], "list of numbers": [1], "list of lists": [[]], "object": {},
    "object with a key": {"a": 1}, "list of objects": [{"a": 1}],
}  # fmt: skip
TOP = ("id", "object", "created", "model", "system_fingerprint", "service_tier", "usage", "prompt_filter_results",
       "message", "code", "type", "status", "detail")  # fmt: skip
CHOICE = ("index", "logprobs", "content_filter_results", "stop_reason", "matched_stop", "token_ids")
MESSAGE = ("role", "name", "reasoning_content", "reasoning", "thinking", "reasoning_details", "refusal", "tool_calls",
           "function_call", "audio", "images", "annotations", "tool_call_id")  # fmt: skip
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details",
          "prompt_cache_hit_tokens", "reasoning_tokens", "cached_tokens")  # fmt: skip
DETAILS = ("cached_tokens", "audio_tokens", "reasoning_tokens")
CALL = ("index", "id", "type", "function")
FUNCTION = ("name", "arguments")


def loose_habits() -> Iterator[Habit]:
    """A habit for each field and value; of counts and other beside matters nothing is expected."""
    for kind, value in VALUES.items():
        for name in TOP:
            yield _habit(f"{name} is {kind}", top={name: value})
        for name in CHOICE:
            yield _habit(f"choices[].{name} is {kind}", choice={name: value})
        for name in MESSAGE:
            yield _habit(f"message.{name} is {kind}", message={name: value})
        for name in COUNTS:
            yield _habit(f"usage.{name} is {kind}", top={"usage": {**SPENT, name: value}})
        for name in DETAILS:
            details = {"prompt_tokens_details": {name: value}, "completion_tokens_details": {name: value}}
            yield _habit(f"usage details.{name} is {kind}", top={"usage": {**SPENT, **details}})
        for name in CALL:
            yield _habit(f"tool_calls[].{name} is {kind}", message={"tool_calls": [{name: value}]})
        for name in FUNCTION:
            called = {"name": "f", "arguments": "{}", name: value}
            yield _habit(f"function.{name} is {kind}", message={"tool_calls": [{"index": 0, "function": called}]})


def _habit(name: str, *, top: Any = None, choice: Any = None, message: Any = None) -> Habit:
    streamed = [_with(chunk(delta={"content": piece, **(message or {})}), top, choice) for piece in PIECES]
    return Habit(
        name,
        stream_of(*streamed, _with(chunk(finish="stop"), top, choice)),
        _odd_json(_with(answer(message=message), top, choice)),
        Right(),
    )


def _odd_json(value: Any) -> Reply:
    return json_of(json.dumps(value).encode())


def _with(value: dict[str, Any], top: Any, choice: Any) -> dict[str, Any]:
    [one] = value["choices"]
    return {**value, **(top or {}), "choices": [{**one, **(choice or {})}]}
