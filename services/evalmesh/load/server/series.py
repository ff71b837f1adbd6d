"""What servers and GPUs said during a level: the `server` object of its document.

Counters are shown as rates between two readings, at the middle between them; histograms as the mean of what was added
between two readings. What a counter of work gained around the level's edges is taken to belong to the level. The
summary is about the window that the level's figures are about: counters and histograms by their growth within it
(evenly between readings), gauges by the readings in it.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from evalmesh.load.server.columns import (
    Identity,
    Key,
    ServerColumn,
    buckets_of,
    columns_of,
    first_known,
    grown,
    growth,
    label_of,
    quantile,
    restarted_at,
    while_loaded,
)
from evalmesh.load.server.names import GPU_KINDS, GPU_QUANTITIES, QUANTITIES, Quantity, kind_of
from evalmesh.load.server.readings import Reading

_BESIDE_S = 5.0
"""Readings this long before and after the level are used where it needs a neighbour."""
_NEAR_S = 1.5
"""A window without a reading of its own takes one this near."""
_MOST_POINTS = 600
"""Points of a series in a document; longer ones are averaged down."""
_COVERED = 0.9
"""Share of the window that energy must be known for before tokens are divided by it."""
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class _Span:
    """Where the level and its window lie on the clock of the readings."""

    start_s: float
    end_s: float
    window_start_s: float
    window_end_s: float


@dataclass(frozen=True, slots=True)
class _Found:
    """One quantity as one source has it."""

    quantity: Quantity
    source: str
    gauges: dict[Identity, ServerColumn]
    """Of `gauge` quantities, else empty."""
    counters: dict[Identity, ServerColumn]
    """As `grown` gives them: counters, numerators, sums of a histogram."""
    over: dict[Identity, ServerColumn]
    """Likewise: denominators, counts of a histogram."""
    buckets: dict[Identity, dict[float, ServerColumn]]


def build_server(
    readings: Iterable[Reading], start_s: float, end_s: float, window: tuple[float, float], output_tokens: int
) -> dict[str, Any]:
    """The `server` object of a level's document (`docs/perf.schema.json`).

    Args:
        readings: Of all sources, in any order; those that are not of this level are left out.
        start_s: The level's start on the readings' clock.
        end_s: Its end, likewise.
        window: What the level's figures are about, in seconds since its start.
        output_tokens: That arrived within the window; for tokens per joule.
    """
    span = _Span(start_s, end_s, start_s + window[0], start_s + window[1])
    by_source: dict[str, list[Reading]] = {}
    for reading in sorted(readings, key=lambda reading: reading.time_s):
        if start_s - _BESIDE_S <= reading.time_s <= end_s + _BESIDE_S:
            by_source.setdefault(reading.source, []).append(reading)
    found = list(_find(by_source, span))
    failed = {source: _failed_at(of_source) for source, of_source in by_source.items()}
    return {
        "sources": [_source(source, of_source, span) for source, of_source in by_source.items()],
        "series": [series for one in found for series in _series(one, span, failed[one.source], found)],
        "summary": _summary(found, span, output_tokens),
    }


def _find(by_source: dict[str, list[Reading]], span: _Span) -> Iterator[_Found]:
    """Each quantity of each source that has it, in the order of the vocabulary."""
    said = {source: [one for one in of_source if one.metrics] for source, of_source in by_source.items()}
    said = {source: of_source for source, of_source in said.items() if of_source}
    for quantity in QUANTITIES:
        places = {source: place for source in said if (place := first_known(said[source], quantity)) is not None}
        if quantity.name in GPU_QUANTITIES and places:
            places = _believed(quantity, places, {source: of_source[-1].kind for source, of_source in said.items()})
        for source, place in places.items():
            found = _read(said[source], source, quantity, place)
            # A GPU draws power without being asked for anything.
            yield found if quantity.form in {"gauge", "total"} else _while_loaded(found, span)


def _believed(quantity: Quantity, places: dict[str, int], kinds: dict[str, str]) -> dict[str, int]:
    """The sources that count for a quantity of GPUs, which several of them may report."""
    # By the name, not the page: a collector tells an engine's figures and its GPUs' at one address.
    tellers = {source: kind_of((quantity.of[place],)) for source, place in places.items()}
    first = next((kind for kind in GPU_KINDS if kind in tellers.values()), "")
    alike = {source: place for source, place in places.items() if tellers[source] == first}
    exporters = {source: place for source, place in alike.items() if kinds[source] == first}
    return exporters or alike


def _while_loaded(found: _Found, span: _Span) -> _Found:
    def cut(columns: dict[Key, ServerColumn]) -> dict[Key, ServerColumn]:
        return {key: while_loaded(column, span.start_s, span.end_s) for key, column in columns.items()}

    buckets = {identity: cut(edges) for identity, edges in found.buckets.items()}
    return replace(found, counters=cut(found.counters), over=cut(found.over), buckets=buckets)


def _read(readings: Sequence[Reading], source: str, quantity: Quantity, place: int) -> _Found:
    name = quantity.of[place]
    if quantity.form == "gauge":
        return _Found(quantity, source, columns_of(readings, name, adds=quantity.adds), {}, {}, {})
    if quantity.form == "histogram":
        sums, counts = _counted(readings, f"{name}_sum"), _counted(readings, f"{name}_count")
        buckets = {
            identity: {edge: grown(column) for edge, column in edges.items()}
            for identity, edges in buckets_of(readings, name).items()
        }
        return _Found(quantity, source, {}, sums, counts, buckets)
    over = _counted(readings, quantity.over[place]) if quantity.over else {}
    return _Found(quantity, source, {}, _counted(readings, name), over, {})


def _counted(readings: Sequence[Reading], name: str) -> dict[Identity, ServerColumn]:
    return {identity: grown(column) for identity, column in columns_of(readings, name, adds=True).items()}


def _source(source: str, readings: Sequence[Reading], span: _Span) -> dict[str, str]:
    during = [one for one in readings if span.start_s - _NEAR_S <= one.time_s <= span.end_s + _NEAR_S] or readings
    failures = [one for one in during if one.error]
    kind = next((one.kind for one in reversed(readings) if one.kind), "")
    error = failures[-1].error if failures else ""
    if failures and len(failures) < len(during):
        error = f"{len(failures)} of {len(during)} readings are wanting: {error}"
    fell = _restart(readings)
    if fell is not None and span.start_s <= fell <= span.end_s:
        again = f"its counters began again after {fell - span.start_s:.0f} s: it was restarted"
        error = f"{error}; {again}" if error else again
    return {"url": source, "kind": kind, "error": error}


def _restart(readings: Sequence[Reading]) -> float | None:
    said = [one for one in readings if one.metrics]
    for quantity in QUANTITIES:
        place = first_known(said, quantity) if quantity.form in {"rate", "total"} else None
        for column in columns_of(said, quantity.of[place], adds=True).values() if place is not None else ():
            if (fell := restarted_at(column)) is not None:
                return fell
    return None


def _failed_at(readings: Sequence[Reading]) -> list[float]:
    """When a source began to say nothing, each time: its lines are broken there."""
    times, silent = [], False
    for reading in readings:
        if not reading.metrics and not silent:
            times.append(reading.time_s)
        silent = not reading.metrics
    return times


def _series(one: _Found, span: _Span, failed: Sequence[float], found: Sequence[_Found]) -> Iterator[dict[str, Any]]:
    alike = {other.source for other in found if other.quantity is one.quantity}
    prefix = f"{one.source.removeprefix('http://').removeprefix('https://').partition('/')[0]} " * (len(alike) > 1)
    identities = list(one.gauges or one.counters)
    for identity in identities:
        points = [(t, v) for t, v in _points(one, identity, span) if span.start_s <= t <= span.end_s]
        if not points:
            continue
        gaps: list[tuple[float, float | None]] = [(t, None) for t in failed if points[0][0] < t < points[-1][0]]
        thinned = _thin(sorted([*points, *gaps], key=lambda point: point[0]))
        yield {
            "name": one.quantity.name,
            "unit": one.quantity.unit,
            "label": f"{prefix}{label_of(identity, identities)}".strip(),
            "t_s": [round(t - span.start_s, 3) for t, _ in thinned],
            "value": [_rounded(v) for _, v in thinned],
        }


def _points(one: _Found, identity: Identity, span: _Span) -> Iterator[tuple[float, float]]:
    """Moments and values of one line."""
    form = one.quantity.form
    if form == "gauge":
        column = one.gauges[identity]
        yield from zip(column.times, column.values, strict=True)
        return
    counted = one.counters[identity]
    if form == "total":
        before = growth(counted, -math.inf, span.start_s)
        for time_s, value in zip(counted.times, counted.values, strict=True):
            yield time_s, value - (before[0] if before else 0.0)
        return
    over = one.over.get(identity)
    for t0, t1 in pairwise(counted.times):
        up = growth(counted, t0, t1)
        if form == "rate":
            if up:
                yield (t0 + t1) / 2, up[0] / up[1]
        elif over is not None and up and (down := growth(over, t0, t1)) and down[0] > 0:
            yield (t0 + t1) / 2, up[0] / down[0] * (1000 if form == "histogram" else 1)


def _thin(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """At most `_MOST_POINTS` of them: neighbours are averaged."""
    size = -(-len(points) // _MOST_POINTS)
    if size <= 1:
        return list(points)
    thinned: list[tuple[float, float | None]] = []
    for at in range(0, len(points), size):
        part = points[at : at + size]
        values = [value for _, value in part if value is not None]
        mean_s = sum(time_s for time_s, _ in part) / len(part)
        thinned.append((mean_s, sum(values) / len(values) if values else None))
    return thinned


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def _summary(found: Sequence[_Found], span: _Span, output_tokens: int) -> dict[str, float | None]:
    summary: dict[str, float | None] = {}
    energies: list[float] = []
    for quantity in QUANTITIES:
        alike = [one for one in found if one.quantity is quantity]
        if not alike:
            continue
        if quantity.form == "gauge":
            summary.update(_gauge_summary(quantity, alike, span))
        elif quantity.form == "rate":
            summary.update(_rate_summary(quantity, alike, span))
        elif quantity.form == "total":
            energies = _window_totals(alike, span)
            if energies:
                summary[quantity.name] = sum(energies)
        else:
            summary.update(_shared_summary(quantity, alike, span))
    if not energies:
        energies = _integrated([one for one in found if one.quantity.name == "power_w"], span)
        if energies:
            summary["energy_j"] = sum(energies)
    if output_tokens > 0 and sum(energies) > 0:
        summary["tokens_per_joule"] = output_tokens / sum(energies)
    return {name: _rounded(value) for name, value in summary.items()}


def _within(column: ServerColumn, span: _Span) -> list[float]:
    """The readings within the window; without one, the nearest beside it."""
    start_s, end_s = span.window_start_s, span.window_end_s
    points = list(zip(column.times, column.values, strict=True))
    inside = [value for time_s, value in points if start_s <= time_s <= end_s]
    if inside or not points:
        return inside
    away = [(max(start_s - time_s, time_s - end_s), value) for time_s, value in points]
    nearest = min(away, key=lambda one: one[0])
    return [nearest[1]] if nearest[0] <= _NEAR_S else []


def _gauge_summary(quantity: Quantity, alike: Sequence[_Found], span: _Span) -> dict[str, float | None]:
    """Mean and greatest. Where values add up, of their sum: the greatest is then the sum of each one's greatest."""
    readings = [_within(column, span) for one in alike for column in one.gauges.values()]
    readings = [values for values in readings if values]
    if not readings:
        return {}
    means = [sum(values) / len(values) for values in readings]
    highest = [max(values) for values in readings]
    mean = sum(means) if quantity.adds else sum(means) / len(means)
    return {f"{quantity.name}_mean": mean, f"{quantity.name}_max": sum(highest) if quantity.adds else max(highest)}


def _rate_summary(quantity: Quantity, alike: Sequence[_Found], span: _Span) -> dict[str, float | None]:
    grown_by = [growth(column, span.window_start_s, span.window_end_s) for column in _counters(alike)]
    known = [one for one in grown_by if one is not None]
    if not known:
        return {}
    if quantity.name == "preemptions":
        return {quantity.name: sum(count for count, _ in known)}
    return {f"{quantity.name}_mean": sum(count / duration_s for count, duration_s in known)}


def _counters(alike: Sequence[_Found]) -> Iterator[ServerColumn]:
    for one in alike:
        yield from one.counters.values()


def _window_totals(alike: Sequence[_Found], span: _Span) -> list[float]:
    """Growth of each within the window; empty where one of them is not known for nearly all of it."""
    grown_by = [growth(column, span.window_start_s, span.window_end_s) for column in _counters(alike)]
    duration_s = span.window_end_s - span.window_start_s
    if any(one is None or one[1] < _COVERED * duration_s for one in grown_by):
        return []
    # What is not covered is taken to be like what is.
    return [one[0] * duration_s / one[1] for one in grown_by if one is not None]


def _integrated(alike: Sequence[_Found], span: _Span) -> list[float]:
    """Energy from readings of power, where nobody counts energy: straight lines between readings."""
    sums = []
    for column in (column for one in alike for column in one.gauges.values()):
        total, values = 0.0, [0.0]
        points = list(zip(column.times, column.values, strict=True))
        for (t0, v0), (t1, v1) in pairwise(points):
            total += (t1 - t0) * (v0 + v1) / 2
            values.append(total)
        sums.append(ServerColumn(column.times, tuple(values)))
    quantity = Quantity("energy_j", "J", "total", ())
    counted: dict[Identity, ServerColumn] = {(("column", str(place)),): column for place, column in enumerate(sums)}
    return _window_totals([_Found(quantity, "", {}, counted, {}, {})], span)


def _shared_summary(quantity: Quantity, alike: Sequence[_Found], span: _Span) -> dict[str, float | None]:
    """Ratios, and histograms with their quantiles, over all engines together."""
    start_s, end_s = span.window_start_s, span.window_end_s
    up = [growth(column, start_s, end_s) for column in _counters(alike)]
    down = [growth(column, start_s, end_s) for one in alike for column in one.over.values()]
    below = sum(count for count, _ in filter(None, down))
    if not below > 0:
        return {}
    share = sum(count for count, _ in filter(None, up)) / below
    if quantity.form == "ratio":
        return {quantity.name: share}
    summary: dict[str, float | None] = {f"{quantity.name}_mean": share * 1000}
    counts: dict[float, float] = {}
    for edges in (edges for one in alike for edges in one.buckets.values()):
        for edge, column in edges.items():
            if (one := growth(column, start_s, end_s)) is not None:
                counts[edge] = counts.get(edge, 0.0) + one[0]
    for name, at in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        if (value := quantile(counts, at)) is not None:
            summary[f"{quantity.name}_{name}"] = value * 1000
    return summary
