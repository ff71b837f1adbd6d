"""What one look at a whole results file tells: how values are distributed, and which rows stand for the rest."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

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
        sizes.update({one["values"]: one["counts"] for one in pc.value_counts(table["subset"]).to_pylist()})
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
    if values is None or not len(values):
        return None
    p50, p99 = pc.quantile(values, [0.5, 0.99]).to_pylist()
    bounds = pc.min_max(values).as_py()
    step = _round_step((p99 - bounds["min"]) / _BINS, whole=pa.types.is_integer(values.type))
    low = math.floor(bounds["min"] / step) * step
    bins = int((p99 - low) // step) + 1
    numbers = pc.cast(pc.floor(pc.divide(pc.subtract(pc.cast(values, pa.float64()), low), step)), pa.int64())
    counts = [0] * bins
    for one in pc.value_counts(pc.min_element_wise(numbers, bins)).to_pylist():
        if one["values"] < bins:
            counts[max(one["values"], 0)] += one["counts"]
    found = {"low": low, "step": step, "counts": counts, "beyond": len(values) - sum(counts), "n": len(values)}
    return found | {"p50": p50, "p99": p99, "max": bounds["max"]}


def _values(results: ResultsFile, column: str) -> Any:
    found = list[Any]()
    for table in results.column(column, "error_class"):
        values = table.filter(pc.is_null(table["error_class"]))[column]
        lengths = pc.utf8_length(values) if pa.types.is_string(values.type) else values
        found += pc.drop_null(lengths).chunks
    return pa.chunked_array(found) if found else None


def _round_step(step: float, *, whole: bool) -> float:
    if step <= 0 or not math.isfinite(step):
        return 1.0
    size = 10.0 ** math.floor(math.log10(step))
    rounded = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= step * 0.999)
    return max(1.0, math.ceil(rounded)) if whole else rounded
