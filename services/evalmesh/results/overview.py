"""What one look at a whole results file tells: how values are distributed, and which rows stand for the rest."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice, pairwise
from typing import Any

from evalmesh.results.query import ResultsFile

_BINS = 24
_MOST_GROUPS = 40
"""Row groups that are read for the sake of few rows each."""


def fair_shares(sizes: Mapping[str, int], most: int) -> dict[str, int]:
    """As much of each as there is room for: what the small ones leave is the large ones'."""
    room, left = most, sorted(sizes.values(), reverse=True)
    while left and left[-1] * len(left) <= room:
        room -= left.pop()
    each, more = divmod(room, len(left)) if left else (most, 0)
    shares = {name: min(size, each) for name, size in sizes.items()}
    for name in islice((name for name, size in sizes.items() if size > each), more):
        shares[name] += 1
    return shares


def first_of_each_subset(results: ResultsFile, most: int) -> Sequence[int]:
    """Places of at most so many rows, ascending: all of them, or of each subset as many of its first ones as fit."""
    if results.n_rows <= most:
        return range(results.n_rows)
    sizes = Counter[str]()
    for table in results.column("subset"):
        sizes.update(table["subset"].to_pylist())
    quota = fair_shares(sizes, most)
    places, start, touched = list[int](), 0, 0
    for table in results.column("subset"):
        before = len(places)
        for place, subset in enumerate(table["subset"].to_pylist() if any(quota.values()) else (), start):
            if quota[subset]:
                quota[subset] -= 1
                places.append(place)
        start += table.num_rows
        touched += len(places) > before
        if touched == _MOST_GROUPS:
            break
    return places


def histogram(results: ResultsFile, column: str) -> dict[str, Any] | None:
    """How often which value occurs among the completions that came; of a text, how long it is. `None` without values.

    `counts[i]` lie in [low + i step, low + (i + 1) step); `beyond` more lie above the last of them.
    """
    values = _values(results, column)
    if not values:
        return None
    values.sort()
    p50, p99 = (values[max(0, -(-len(values) * percent // 100) - 1)] for percent in (50, 99))  # nearest rank
    step = _round_step((p99 - values[0]) / _BINS, whole=isinstance(p99, int))
    low = math.floor(values[0] / step) * step
    bins = int((p99 - low) // step) + 1
    ends = [bisect_left(values, low + place * step) for place in range(bins + 1)]
    counts = [after - before for before, after in pairwise(ends)]
    found = {"low": low, "step": step, "counts": counts, "beyond": len(values) - ends[-1], "n": len(values)}
    return found | {"p50": p50, "p99": p99, "max": values[-1]}


def _values(results: ResultsFile, column: str) -> list[int] | list[float]:
    found = list[Any]()
    for table in results.column(column, "error_class"):
        pairs = zip(table[column].to_pylist(), table["error_class"].to_pylist(), strict=True)
        values = [value for value, error in pairs if error is None and value is not None]
        found += map(len, values) if values and isinstance(values[0], str) else values
    return found


def _round_step(step: float, *, whole: bool) -> float:
    if step <= 0 or not math.isfinite(step):
        return 1.0
    size = 10.0 ** math.floor(math.log10(step))
    rounded = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= step * 0.999)
    return max(1.0, math.ceil(rounded)) if whole else rounded
