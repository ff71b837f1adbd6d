"""Tool calls in the forms in which open models write them into their text."""

import json
import re
from typing import Any

from evalmesh.domain.content import ToolCall

_TAGGED = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)
"""Hermes, Qwen, and many that were trained after them."""
_LISTED = re.compile(r"\[TOOL_CALLS\]\s*(\[.*\])", re.DOTALL)
"""Mistral."""
_MARKS = ("<|python_tag|>",)
"""Llama 3 puts it before calls of built-in tools."""


def calls_in(text: str) -> tuple[tuple[ToolCall, ...], str]:
    """The calls, and the text around them. Text that is no call in one of these forms stays text."""
    for form in (_TAGGED, _LISTED):
        if found := form.findall(text):
            calls = [call for one in found for call in _calls(one)]
            if calls:
                return tuple(calls), form.sub("", text).strip()
    bare = text.strip()
    for mark in _MARKS:
        bare = bare.removeprefix(mark)
    calls = _calls(bare) if bare.startswith(("{", "[")) else []
    return (tuple(calls), "") if calls else ((), text)


def _calls(text: str) -> list[ToolCall]:
    try:
        value = json.loads(text)
    except ValueError:
        return []
    found = [_call(place, one) for place, one in enumerate(value if isinstance(value, list) else [value])]
    return [call for call in found if call is not None] if all(found) else []


def _call(place: int, value: Any) -> ToolCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        return ToolCall(f"call_{place}", value["name"], arguments)
    if isinstance(arguments, dict):
        return ToolCall(f"call_{place}", value["name"], json.dumps(arguments, ensure_ascii=False))
    return None
