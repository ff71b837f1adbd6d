"""What goes into a request's body: one meaning of null, of limits and of merged keys for everybody who asks."""

from collections.abc import Iterable, Mapping
from typing import Any

LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""Names for the longest answer. A server that knows one of them refuses another."""


def merged(body: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`extra` wins; null removes a key; mappings are merged one level deep, so that one option erases no other.

    A limit under another name takes the place of the one that is there, unless `extra` gives both.
    """
    found = dict(body)
    given = [name for name in LIMITS if extra.get(name) is not None]
    if given:
        for name in LIMITS:
            found.pop(name, None)
    for name, value in extra.items():
        present = found.get(name)
        if value is None:
            found.pop(name, None)
        elif isinstance(present, Mapping) and isinstance(value, Mapping):
            found[name] = without_nulls({**present, **value})
        else:
            found[name] = value
    return found


def without_nulls(value: Mapping[str, Any]) -> dict[str, Any]:
    """Keys that are said."""
    return {key: one for key, one in value.items() if one is not None}


def cut_at(stops: Iterable[str], text: str) -> str | None:
    """The text before the first of these, as a server would have ended it; `None`: none of them is in it."""
    places = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else None
