"""Values of free form that come from outside: bounded before anything walks through them.

JSON and YAML can be nested a thousand deep, and YAML can make a value part of itself or name one many times: whoever
then follows it by recursion fails, or never ends.
"""

import json
from collections.abc import Mapping
from typing import Any

from evalmesh.domain.errors import InvalidInput

MOST_LEVELS = 32
MOST_VALUES = 100_000
MOST_CHARS = 1 << 20
"""Of all texts together."""


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; `ValueError` also for one that is nested too deeply."""
    try:
        return json.loads(text, object_pairs_hook=_no_key_twice)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} is there a second time")
    return found


def check_bounds(value: Any, field: str) -> None:
    """Raises `InvalidInput` for what is nested too deeply, contains itself, or is too much, aliases counted each time.

    The refused value is not repeated: neither can it be shown.
    """
    count = chars = 0
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        item, level = waiting.pop()
        count += 1
        if isinstance(item, str):
            chars += len(item)
        elif isinstance(item, (Mapping, list, tuple)):
            if level >= MOST_LEVELS:
                raise _refused(field, f"is nested more than {MOST_LEVELS} levels deep, or contains itself")
            if isinstance(item, Mapping):
                chars += sum(len(key) for key in item if isinstance(key, str))
            waiting += [(inner, level + 1) for inner in (item.values() if isinstance(item, Mapping) else item)]
        if count + len(waiting) > MOST_VALUES:
            raise _refused(field, f"holds more than {MOST_VALUES} values")
        if chars > MOST_CHARS:
            raise _refused(field, f"holds more than {MOST_CHARS} characters")


def _refused(field: str, problem: str) -> InvalidInput:
    return InvalidInput(f"{field}: this value {problem}; simplify it.", {"field": field})
