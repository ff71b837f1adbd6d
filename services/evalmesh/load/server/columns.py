"""Readings of a source as columns over time, and what can be said of a counter or histogram between two moments."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from evalmesh.load.server.names import SCALES, Quantity
from evalmesh.load.server.readings import RawSeries, Reading

Key = TypeVar("Key", bound=Hashable)
Identity = tuple[tuple[str, str], ...]
"""Which engine or GPU a reading is about: the labels that tell."""

_IDENTIFYING = {
    "hostname": "",
    "pod": "",
    "gpu_uuid": "",
    "gpu": "GPU ",
    "gpu_i_id": "slice ",
    "model_name": "",
    "model": "",
    "engine": "engine ",
    "dp_rank": "rank ",
    "tp_rank": "tensor ",
    "pp_rank": "stage ",
}
"""Labels (in lower case) that tell one engine or GPU from another, in this order, and how they are introduced.
Readings that differ in others alone are added (or averaged, where they do not add up)."""


@dataclass(frozen=True, slots=True)
class ServerColumn:
    """One quantity of one engine or GPU over time."""

    times: tuple[float, ...]
    """Monotonic, rising."""
    values: tuple[float, ...]


def identity_of(metric: RawSeries) -> Identity:
    """The labels that tell which engine or GPU it is."""
    found = {key.lower(): value for key, value in metric.labels}
    return tuple((key, found[key]) for key in _IDENTIFYING if key in found)


def label_of(identity: Identity, among: Iterable[Identity]) -> str:
    """What tells this one from the others, in words; empty where there is one."""
    others = list(among)
    if len(others) < 2:
        return ""
    words = []
    for key, value in identity:
        if any(dict(other).get(key) != value for other in others):
            words.append(f"{_IDENTIFYING[key]}{value}")
    return " ".join(words)


def columns_of(readings: Sequence[Reading], name: str, *, adds: bool) -> dict[Identity, ServerColumn]:
    """One raw name's columns by identity, scaled to the unit of its quantity; NaN and infinite readings left out."""
    return _collect(readings, name, identity_of, adds=adds)


def buckets_of(readings: Sequence[Reading], name: str) -> dict[Identity, dict[float, ServerColumn]]:
    """A histogram's cumulative counts by identity and upper edge."""
    found: dict[Identity, dict[float, ServerColumn]] = {}
    for (identity, edge), column in _collect(readings, f"{name}_bucket", _identity_and_edge, adds=True).items():
        found.setdefault(identity, {})[edge] = column
    return found


def _collect(
    readings: Sequence[Reading], name: str, key_of: Callable[[RawSeries], Key | None], *, adds: bool
) -> dict[Key, ServerColumn]:
    scale = SCALES.get(name, 1.0)
    places: dict[int, list[tuple[int, Key]]] = {}
    found: dict[Key, tuple[list[float], list[float]]] = {}
    for reading in readings:
        at = places.get(id(reading.metrics))
        if at is None:
            # Most readings share one tuple of metrics: labels are looked at once for all of them.
            keys = ((n, key_of(metric)) for n, metric in enumerate(reading.metrics) if metric.name == name)
            at = places[id(reading.metrics)] = [(n, key) for n, key in keys if key is not None]
        read: dict[Key, list[float]] = {}
        for place, key in at:
            if math.isfinite(value := reading.values[place]):
                read.setdefault(key, []).append(value * scale)
        for key, values in read.items():
            times, column = found.setdefault(key, ([], []))
            times.append(reading.time_s)
            column.append(sum(values) if adds else sum(values) / len(values))
    return {key: ServerColumn(tuple(times), tuple(column)) for key, (times, column) in found.items()}


def _identity_and_edge(metric: RawSeries) -> tuple[Identity, float] | None:
    edge = _edge(metric)
    return None if edge is None else (identity_of(metric), edge)


def _edge(metric: RawSeries) -> float | None:
    try:
        return float(dict(metric.labels)["le"])
    except (KeyError, ValueError):
        return None


def grown(column: ServerColumn) -> ServerColumn:
    """A counter as what it has counted since its first reading: where it falls, its server began again at 0."""
    total, values = 0.0, [0.0] if column.values else []
    for before, after in pairwise(column.values):
        total += after - before if after >= before else after
        values.append(total)
    return ServerColumn(column.times, tuple(values))


def restarted_at(column: ServerColumn) -> float | None:
    """When a counter first fell."""
    steps = zip(column.times[1:], pairwise(column.values), strict=True)
    return next((time_s for time_s, (before, after) in steps if after < before), None)


def while_loaded(counted: ServerColumn, start_s: float, end_s: float) -> ServerColumn:
    """A counter of work (as `grown` gives it) where work was asked for between these moments alone.

    What was counted between the last reading before and the first one within came after the start, and likewise at the
    end: without this, a rate would be spread over seconds in which nothing was asked.
    """
    times, values = list(counted.times), list(counted.values)
    at = bisect_right(times, start_s)
    if 0 < at < len(times) and times[at - 1] < start_s:
        times.insert(at, start_s)
        values.insert(at, values[at - 1])
    at = bisect_left(times, end_s)
    if 0 < at < len(times) and times[at] > end_s:
        times.insert(at, end_s)
        values.insert(at, values[at])
    return ServerColumn(tuple(times), tuple(values))


def growth(counted: ServerColumn, start_s: float, end_s: float) -> tuple[float, float] | None:
    """How much a counter (as `grown` gives it) grew within these moments, and over how many seconds of them.

    Between readings it is taken to grow evenly. `None` where the readings cover none of the time.
    """
    times = counted.times
    if len(times) < 2:
        return None
    start_s, end_s = max(start_s, times[0]), min(end_s, times[-1])
    if end_s <= start_s:
        return None
    return _at(counted, end_s) - _at(counted, start_s), end_s - start_s


def _at(column: ServerColumn, time_s: float) -> float:
    after = min(max(bisect_right(column.times, time_s), 1), len(column.times) - 1)
    (t0, t1), (v0, v1) = column.times[after - 1 : after + 1], column.values[after - 1 : after + 1]
    return v0 + (v1 - v0) * (time_s - t0) / (t1 - t0) if t1 > t0 else v1


def quantile(counts: Mapping[float, float], share: float) -> float | None:
    """A quantile of cumulative counts by upper edge: within a bucket values are taken to be spread evenly.

    In the last, endless bucket it is that bucket's lower edge. `None` where nothing was counted.
    """
    edges = sorted(counts)
    if not edges or not counts[edges[-1]] > 0:
        return None
    wanted = share * counts[edges[-1]]
    low, below = 0.0, 0.0
    for edge in edges:
        upto = counts[edge]
        if upto >= wanted and upto > below:
            return low if math.isinf(edge) else low + (edge - low) * (wanted - below) / (upto - below)
        low, below = edge, max(below, upto)
    return low


def first_known(readings: Sequence[Reading], quantity: Quantity) -> int | None:
    """The place, among the quantity's names, of the first one that is there (a ratio: with its denominator)."""
    present = {metric.name for reading in {id(s.metrics): s for s in readings}.values() for metric in reading.metrics}
    for place, name in enumerate(quantity.of):
        wanted = [f"{name}_count", f"{name}_sum"] if quantity.form == "histogram" else [name]
        if quantity.form == "ratio":
            wanted.append(quantity.over[place])
        if present.issuperset(wanted):
            return place
    return None
