"""Leaves of an answer, read whatever type a server gives them. What cannot be read is absent; nothing here raises."""

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

_MOST = 2**63
_TEXTS = ("text", "thinking", "content", "reasoning", "summary")
"""Where an object keeps its text."""
_DEEPEST = 8


def count_of(value: object) -> int | None:
    """A number of tokens: whole, as a float, or as text. `None` for what is none or cannot be a count."""
    if value is None:
        return None
    if type(value) is int:
        return value if 0 <= value < _MOST else None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, float) and isfinite(value) and 0 <= value < _MOST:
        return int(value)
    return None


def number_of(value: object) -> float | None:
    """A finite or infinite number, as such or as text; `None` for NaN and what is no number."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            return None
        return found if found == found else None  # NaN  # noqa: PLR0124
    return None


def text_of(value: object, depth: int = 0) -> str:
    """Text as such, in parts, or in an object; empty for anything else."""
    if isinstance(value, str):
        return value
    if depth > _DEEPEST:
        return ""
    if isinstance(value, list):
        return "".join([text_of(one, depth + 1) for one in value])
    if isinstance(value, Mapping):
        return next((found for key in _TEXTS if (found := text_of(value.get(key), depth + 1))), "")
    return ""


def mapping_of(value: object) -> Mapping[str, Any]:
    """An object, or the only one of a list; else an empty one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, Mapping) else {}


def mappings_of(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list, or the one that stands in its place."""
    if isinstance(value, Mapping):
        return [value]
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def json_text_of(value: object) -> str:
    """Text as it is, and anything else as the JSON it was; empty for null."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def whole(text: str) -> str:
    """The text with the halves of its characters put together: servers cut an escaped pair of them between chunks.

    A half without its other half becomes U+FFFD, for nothing could store it.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
