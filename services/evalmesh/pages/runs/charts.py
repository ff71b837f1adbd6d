"""Geometry of the report's charts: where each bar, whisker and label goes. Drawing is the template's.

Positions are shares of the plot's width in percent, so that a chart is as wide as its page.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalmesh.domain.natural_order import natural

ROW_HEIGHT = 24
_ROWS_WITHOUT_TOP_AXIS = 16


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to horizontal positions."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def x(self, value: float) -> float:
        """Position of a value; values outside the scale stop at its ends."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)


@dataclass(frozen=True, slots=True)
class Mark:
    """One metric, placed."""

    x: float
    whisker: tuple[float, float] | None
    bounds: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class ChartRow:
    """One line of a chart: a heading when `heading`, else a label with its mark (`None`: nothing was scored).

    `note` is read out and shown on hover, `short_note` stands beside the value.
    """

    label: str
    mark: Mark | None = None
    value: str = ""
    note: str = ""
    short_note: str = ""
    heading: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart ready to draw; `kind` is `interval` (dots) or `bars`."""

    kind: str
    title: str
    description: str
    scale: Scale
    rows: tuple[ChartRow, ...]
    reference: float | None = None
    """Position of the overall value."""

    @property
    def top_axis(self) -> bool:
        """Whether it is so tall that it needs tick labels at both ends."""
        return len(self.rows) > _ROWS_WITHOUT_TOP_AXIS


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values occur, ready to draw."""

    title: str
    description: str
    bars: tuple[tuple[float, str], ...]
    """Height in percent of the tallest, and what it says."""
    ends: tuple[str, str]
    """Where the first bar begins and the last one ends."""
    note: str


def number(value: float | None, digits: int = 4) -> str:
    """A value as readers see it: fixed digits for scores, fewer where the number is large."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits if size < 10 else 2}f}"


def scale_of(metrics: Sequence[Mapping[str, Any]]) -> Scale:
    """0 to 1 when everything lies within; otherwise round numbers around all values, and zero with them."""
    values = [0.0]
    for metric in metrics:
        values += [v for v in (metric["value"], *(metric["ci95"] or ())) if v is not None]
    low, high = min(values), max(values)
    if low >= 0.0 and high <= 1.0:
        return Scale(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))
    step = _round_step((high - low) / 4)
    first, last = math.floor(low / step), math.ceil(high / step)
    return Scale(first * step, last * step, tuple(n * step for n in range(first, last + 1)))


def _round_step(step: float) -> float:
    size: float = 10.0 ** math.floor(math.log10(step))
    return next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= step * 0.999)


def mark(metric: Mapping[str, Any], scale: Scale) -> Mark | None:
    """Places a metric; `None` when nothing was scored."""
    if metric["value"] is None:
        return None
    ci95, bounds = metric["ci95"], metric.get("bounds")
    return Mark(
        x=scale.x(metric["value"]),
        whisker=(scale.x(ci95[0]), scale.x(ci95[1])) if ci95 else None,
        bounds=(scale.x(bounds[0]), scale.x(bounds[1])) if bounds and bounds[0] != bounds[1] else None,
    )


def interval_chart(title: str, metrics: Sequence[Mapping[str, Any]]) -> Chart:
    """One dot with its interval per metric."""
    scale = scale_of(metrics)
    rows = tuple(_row(m["name"], m, scale) for m in metrics)
    described = "; ".join(f"{row.label} {row.value} ({row.note})" for row in rows)
    return Chart("interval", title, described, scale, rows)


def bar_chart(title: str, slices: Sequence[Mapping[str, Any]], overall: Mapping[str, Any]) -> Chart:
    """One bar with whiskers per subset, best first; under a heading per category where there are categories.

    Args:
        title: What the chart shows.
        slices: Subsets or categories of the report, each with the metric called `overall["name"]`.
        overall: The benchmark's metric, drawn as the reference line.
    """
    pairs = [(part, metric) for part in slices if (metric := named_metric(part, overall["name"])) is not None]
    scale = scale_of([overall, *(metric for _, metric in pairs)])
    rows: list[ChartRow] = []
    groups = _by_category(pairs)
    for category, members in groups:
        if len(groups) > 1:
            rows.append(ChartRow(category, heading=True))
        rows += [_row(part["name"], metric, scale) for part, metric in members]
    measured = [(m["value"], part["name"]) for part, m in pairs if m["value"] is not None]
    described = f"{len(pairs)} bars with 95% confidence intervals"
    if measured:
        (worst, worst_name), (best, best_name) = min(measured), max(measured)
        described += f"; highest {best_name} {number(best)}, lowest {worst_name} {number(worst)}"
    reference = None if overall["value"] is None else scale.x(overall["value"])
    return Chart("bars", title, described, scale, tuple(rows), reference)


def histogram(title: str, unit: str, found: Mapping[str, Any]) -> Histogram:
    """Of `results.overview.histogram`."""
    counts = [*found["counts"], *([found["beyond"]] if found["beyond"] else [])]
    tallest, total = max(counts), found["n"]

    def edge(place: int) -> str:
        return f"{found['low'] + place * found['step']:,.6g}"

    last = len(found["counts"])
    said = [f"{edge(place)} to {edge(place + 1)} {unit}" for place in range(last)]
    said += [f"above {edge(last)} {unit}"] if found["beyond"] else []
    bars = tuple((round(100 * n / tallest, 1), f"{text}: {n:,}") for n, text in zip(counts, said, strict=True))
    p50, p99, most = (_rounded(found[name]) for name in ("p50", "p99", "max"))
    middle = f"half of {total:,} up to {p50}, 99% up to {p99}, all up to {most}"
    end = most if found["beyond"] else edge(last)
    return Histogram(title, f"{title}: {middle} {unit}", bars, (edge(0), f"{end} {unit}"), f"{middle} {unit}")


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def named_metric(part: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """The metric of that name, or `None`."""
    return next((metric for metric in part["metrics"] if metric["name"] == name), None)


_Pair = tuple[Mapping[str, Any], Mapping[str, Any]]


def _by_category(pairs: Sequence[_Pair]) -> list[tuple[str, list[_Pair]]]:
    groups: dict[str, list[_Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair[0].get("category") or "", []).append(pair)
    for members in groups.values():
        members.sort(key=_best_first)
    return [(name or "without category", groups[name]) for name in sorted(groups, key=natural)]


def _best_first(pair: _Pair) -> tuple[bool, float, list[tuple[int, int, str]]]:
    value = pair[1]["value"]
    return (value is None, -(value or 0.0), natural(pair[0]["name"]))


def _row(label: str, metric: Mapping[str, Any], scale: Scale) -> ChartRow:
    ci95 = metric["ci95"]
    interval = f"95% CI {number(ci95[0])} to {number(ci95[1])}, " if ci95 else ""
    samples = metric.get("n_samples")
    many = metric["n_scored"] if samples is None else samples
    note = f"{interval}n = {many}"
    if metric["n_errored"] or metric["n_unscored"]:
        note += f", {metric['n_errored']} errored, {metric['n_unscored']} unscored"
    lost = metric["n_errored"] + metric["n_unscored"]
    short_note = f"n = {many:,}" + (f", {lost:,} lost" if lost else "")
    return ChartRow(label, mark(metric, scale), number(metric["value"]), note, short_note)
