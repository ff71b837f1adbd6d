"""Geometry of the report's charts: where each bar, whisker and label goes. Drawing is the template's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 880
"""Width of a chart in its own units; the page scales it."""
PLOT_RIGHT = 690
LABEL_GAP = 14
ROW_HEIGHT = 24
GROUP_HEIGHT = 34
AXIS_HEIGHT = 26
_ROWS_WITHOUT_TOP_AXIS = 16
_LABEL_CHARACTERS = 34
_CHARACTER_WIDTH = 7.4
_LABEL_WIDTHS = (90, 260)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to horizontal positions."""

    low: float
    high: float
    ticks: tuple[float, ...]
    left: float = 0
    right: float = PLOT_RIGHT

    def x(self, value: float) -> float:
        """Position of a value; values outside the scale stop at its ends."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.left + min(1.0, max(0.0, share)) * (self.right - self.left), 1)

    def between(self, left: float, right: float) -> "Scale":
        """The same values at other positions."""
        return Scale(self.low, self.high, self.ticks, left, right)


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
    full_label: str
    y: float
    mark: Mark | None
    value: str
    note: str
    short_note: str = ""
    heading: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart ready to draw; `kind` is `interval` (dots) or `bars`."""

    id: str
    kind: str
    title: str
    description: str
    height: float
    scale: Scale
    rows: tuple[ChartRow, ...]
    reference: float | None = None
    """Position of the overall value."""
    top: float = 0
    """Where the grid lines begin; room above it is for a second row of tick labels, which tall charts need."""

    @property
    def bottom(self) -> float:
        """Where the grid lines end and the tick labels begin."""
        return self.height - AXIS_HEIGHT


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


def interval_chart(chart_id: str, title: str, metrics: Sequence[Mapping[str, Any]]) -> Chart:
    """One dot with its interval per metric."""
    scale = _beside_labels(scale_of(metrics), [metric["name"] for metric in metrics])
    rows = tuple(_row(m["name"], m, scale, index * ROW_HEIGHT) for index, m in enumerate(metrics))
    described = "; ".join(f"{row.full_label} {row.value} ({row.note})" for row in rows)
    return Chart(chart_id, "interval", title, described, len(rows) * ROW_HEIGHT + AXIS_HEIGHT, scale, rows)


def bar_chart(chart_id: str, title: str, slices: Sequence[Mapping[str, Any]], overall: Mapping[str, Any]) -> Chart:
    """One bar with whiskers per subset, best first; under a heading per category where there are categories.

    Args:
        chart_id: Unique on the page.
        title: What the chart shows.
        slices: Subsets or categories of the report, each with the metric called `overall["name"]`.
        overall: The benchmark's metric, drawn as the reference line.
    """
    pairs = [(part, metric) for part in slices if (metric := named_metric(part, overall["name"])) is not None]
    scale = scale_of([overall, *(metric for _, metric in pairs)])
    scale = _beside_labels(scale, [text for part, _ in pairs for text in (part["name"], part["category"] or "")])
    rows: list[ChartRow] = []
    groups = _by_category(pairs)
    top = AXIS_HEIGHT if len(pairs) > _ROWS_WITHOUT_TOP_AXIS else 0
    y: float = top
    for category, members in groups:
        if len(groups) > 1:
            rows.append(ChartRow(_shortened(category), category, y, None, "", "", heading=True))
            y += GROUP_HEIGHT
        for part, metric in members:
            rows.append(_row(part["name"], metric, scale, y))
            y += ROW_HEIGHT
    measured = [(m["value"], part["name"]) for part, m in pairs if m["value"] is not None]
    described = f"{len(pairs)} bars with 95% confidence intervals"
    if measured:
        (worst, worst_name), (best, best_name) = min(measured), max(measured)
        described += f"; highest {best_name} {number(best)}, lowest {worst_name} {number(worst)}"
    reference = None if overall["value"] is None else scale.x(overall["value"])
    return Chart(chart_id, "bars", title, described, y + AXIS_HEIGHT, scale, tuple(rows), reference, top)


def _beside_labels(scale: Scale, labels: Sequence[str]) -> Scale:
    longest = max((len(_shortened(label)) for label in labels), default=0) * _CHARACTER_WIDTH
    low, high = _LABEL_WIDTHS
    return scale.between(round(min(high, max(low, longest))) + LABEL_GAP, PLOT_RIGHT)


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
    return [(name or "without category", groups[name]) for name in sorted(groups)]


def _best_first(pair: _Pair) -> tuple[bool, float, str]:
    value = pair[1]["value"]
    return (value is None, -(value or 0.0), pair[0]["name"])


def _row(label: str, metric: Mapping[str, Any], scale: Scale, y: float) -> ChartRow:
    ci95 = metric["ci95"]
    interval = f"95% CI {number(ci95[0])} to {number(ci95[1])}, " if ci95 else ""
    note = f"{interval}n = {metric['n_scored']}"
    if metric["n_errored"] or metric["n_unscored"]:
        note += f", {metric['n_errored']} errored, {metric['n_unscored']} unscored"
    lost = metric["n_errored"] + metric["n_unscored"]
    short_note = f"n = {metric['n_scored']:,}" + (f", {lost:,} lost" if lost else "")
    return ChartRow(_shortened(label), label, y, mark(metric, scale), number(metric["value"]), note, short_note)


def _shortened(label: str) -> str:
    return label if len(label) <= _LABEL_CHARACTERS else label[: _LABEL_CHARACTERS - 1] + "…"
