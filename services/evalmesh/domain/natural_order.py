"""The order in which people expect names: 2 before 10."""

import re
from collections.abc import Iterable, Mapping
from typing import Any


def natural(text: str) -> list[tuple[int, int, str]]:
    """What to sort a name by."""
    parts = re.split(r"(\d{1,18})", text.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def by_name(parts: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Subsets or categories of a document."""
    return sorted(parts, key=lambda part: natural(part["name"]))
