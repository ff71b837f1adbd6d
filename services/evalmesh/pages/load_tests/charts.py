"""Geometry of the line charts of a load test's report: axes, paths, dots, labels. Drawing is the template's."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from evalmesh.pages.load_tests.room import along, overlap

WIDTH = 520
"""Width of a chart in its own units; the page scales it."""
HEIGHT = 300
LEFT, RIGHT, TOP, BOTTOM = 62.0, 16.0, 14.0, 48.0
"""Room around the plot for tick labels and axis titles."""
SHADES = 8
"""Colours of ordered series (`q0` the least load, `q7` the most)."""
_MOST_TICKS = 6
_TICK_GAP = 44.0
"""Least distance of labels along the horizontal axis."""
_LOG_FROM = 30.0
"""An axis is logarithmic where its largest value is this many times its smallest."""
_POINTS = 400
"""Most points of a line; more cannot be seen."""
_CHARACTER = 6.6

Point = tuple[float, float | None]
Scaling = Literal["auto", "linear", "log"]


@dataclass(frozen=True, slots=True)
class AxisTick:
    """A place on an axis with its label."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values to positions between `start` and `end`; values outside stop at its ends."""

    title: str
    low: float
    high: float
    start: float
    end: float
    log: bool = False
    ticks: tuple[AxisTick, ...] = ()

    def at(self, value: float) -> float:
        """Position of a value."""
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(1.0, max(0.0, share)) * (self.end - self.start), 1)


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart, in values. A point without a value interrupts it."""

    name: str
    look: str
    """CSS class: `s0`, `s1`, ... for kinds of things, `q0` to `q7` for ordered ones, `bad` for errors."""
    points: Sequence[Point]
    texts: Sequence[str] = ()
    """What each point is, for whoever points at it; points without one are drawn as a line only."""
    intervals: Sequence[tuple[float, float] | None] = ()
    """Whiskers of the points."""
    labels: Sequence[str] = ()
    """Written beside the points, where there is room."""
    dashed: bool = False
    step: bool = False
    joined: bool = True
    """Whether a line connects the points; where several have one place on the axis it goes through their mean."""
    doubtful: Sequence[bool] = ()
    """Points that are drawn with a warning around them."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A straight line at a value: an objective."""

    value: float
    text: str
    vertical: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What a chart is about, and how its axes are to be."""

    id: str
    """Unique on the page."""
    title: str
    x_title: str
    y_title: str
    x: Scaling = "auto"
    y: Scaling = "auto"
    x_ticks: Sequence[float] = ()
    """Values that deserve a label; otherwise round ones are found."""
    x_range: tuple[float, float] | None = None
    x_from_zero: bool = True
    """Where it is linear: load and time begin at zero, what is measured need not."""
    y_from_zero: bool = True
    """Where the axis is linear."""
    y_high: float | None = None
    rules: Sequence[Rule] = ()
    window: tuple[float, float] | None = None
    """Shaded part of the horizontal axis: what was measured."""
    height: float = HEIGHT
    description: str = ""


@dataclass(frozen=True, slots=True)
class Dot:
    """A point with its text; `shape` is that of its series."""

    x: float
    y: float
    text: str
    whisker: tuple[float, float] | None = None
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Label:
    """A short text beside a point."""

    x: float
    y: float
    text: str
    anchor: str = "start"


@dataclass(frozen=True, slots=True)
class Line:
    """A series, placed."""

    name: str
    look: str
    path: str
    dots: tuple[Dot, ...]
    dashed: bool


@dataclass(frozen=True, slots=True)
class PlacedRule:
    """A rule, placed: at `x` or at `y`."""

    text: str
    x: float | None = None
    y: float | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart ready to draw."""

    id: str
    title: str
    description: str
    height: float
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    labels: tuple[Label, ...] = ()
    rules: tuple[PlacedRule, ...] = ()
    window: tuple[float, float] | None = None
    width: float = field(default=WIDTH)


def short(value: float) -> str:
    """A number as an axis shows it: 0.05, 12, 3,000, 45k, 1.2M."""
    size = abs(value)
    for least, divisor, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if size >= least:
            return f"{value / divisor:.4g}{letter}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"


def chart(wish: Wish, series: Sequence[Series]) -> Chart | None:
    """Places the series; `None` when there is nothing to draw."""
    shown = [one for one in series if any(y is not None for _, y in one.points)]
    if not shown:
        return None
    x = _axis_x(wish, [x for one in shown for x, y in one.points if y is not None])
    y = _axis_y(wish, list(_heights(wish, shown)))
    lines = tuple(_line(one, x, y) for one in shown)
    return Chart(
        id=wish.id,
        title=wish.title,
        description=wish.description or _described(shown),
        height=wish.height,
        x=x,
        y=y,
        lines=lines,
        labels=_labels(shown, lines),
        rules=tuple(_rule(rule, x, y) for rule in wish.rules if _within(rule, x, y)),
        window=None if wish.window is None else (x.at(wish.window[0]), x.at(wish.window[1])),
    )


def _heights(wish: Wish, shown: Sequence[Series]) -> Iterable[float]:
    for one in shown:
        yield from (y for _, y in one.points if y is not None)
        yield from (end for ends in one.intervals if ends for end in ends)
    yield from (rule.value for rule in wish.rules if not rule.vertical)


def _axis_x(wish: Wish, values: Sequence[float]) -> Axis:
    low, high = wish.x_range or (min(values), max(values))
    log = _is_log(wish.x, values, low, high)
    if wish.x_range is None and log:
        low, high = low / 1.12, high * 1.12
    elif wish.x_range is None and not wish.x_from_zero and high > low:
        room = 0.08 * (high - low)
        low, high = low - room, high + room
    elif wish.x_range is None:
        low, high = min(0.0, low), high * 1.04
    low, high = _apart(low, high, log=log)
    axis = Axis(wish.x_title, low, high, LEFT, WIDTH - RIGHT, log)
    wanted = sorted(set(wish.x_ticks)) or (_log_values(low, high) if log else _round_values(low, high))
    placed = [AxisTick(axis.at(value), short(value)) for value in wanted if low <= value <= high]
    return Axis(axis.title, low, high, axis.start, axis.end, log, _thinned(placed))


def _axis_y(wish: Wish, values: Sequence[float]) -> Axis:
    low, high = min(values), max(values) if wish.y_high is None else wish.y_high
    log = _is_log(wish.y, values, low, high)
    if log:
        low, high = low / 1.15, high * 1.15
        ticks = _log_values(low, high)
    else:
        low = min(0.0, low) if wish.y_from_zero or low < 0 else low
        low, high = _apart(low, high, log=False)
        if wish.y_high is None and high > 0:
            # A line on the upper edge looks cut off.
            high += 0.04 * (high - low)
        ticks = _round_values(low, high)
        step = ticks[1] - ticks[0] if len(ticks) > 1 else high - low
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        ticks = [low + n * step for n in range(round((high - low) / step) + 1)]
    axis = Axis(wish.y_title, low, high, wish.height - BOTTOM, TOP, log)
    placed = tuple(AxisTick(axis.at(value), short(round(value, 12))) for value in ticks)
    return Axis(axis.title, low, high, axis.start, axis.end, log, placed)


def _is_log(wanted: Scaling, values: Sequence[float], low: float, high: float) -> bool:
    if wanted == "linear" or min(values, default=0.0) <= 0.0 or low <= 0.0:
        return False
    return wanted == "log" or high / low >= _LOG_FROM


def _apart(low: float, high: float, *, log: bool) -> tuple[float, float]:
    """Ends that differ, so that one value alone has a scale too."""
    if high > low:
        return low, high
    if log:
        return low / 2, high * 2
    return (low, low + 1.0) if low <= 0.0 else (0.0, high * 1.25)


def _round_values(low: float, high: float) -> list[float]:
    step = _round_step((high - low) / (_MOST_TICKS - 1))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def _round_step(step: float) -> float:
    size: float = 10.0 ** math.floor(math.log10(step))
    return next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= step * 0.999)


def _log_values(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        values = [10.0**decade * step for decade in decades for step in steps]
        inside = [value for value in values if low <= value <= high]
        if len(inside) <= _MOST_TICKS + 1:
            break
    every = -(-len(inside) // (_MOST_TICKS + 2))
    return inside[::every] if len(inside) > 1 else _round_values(low, high)


def _thinned(ticks: Sequence[AxisTick]) -> tuple[AxisTick, ...]:
    """Labels that do not touch: the outermost first, then the rest from left to right."""
    if len(ticks) < 3:
        return tuple(ticks)
    kept = [ticks[0]]
    for tick in ticks[1:-1]:
        if tick.at - kept[-1].at >= _TICK_GAP and ticks[-1].at - tick.at >= _TICK_GAP:
            kept.append(tick)
    return (*kept, ticks[-1])


def _line(series: Series, x: Axis, y: Axis) -> Line:
    placed = [(x.at(at), None if value is None else y.at(value)) for at, value in series.points]
    dots = tuple(
        Dot(at, height, text, _whisker(series, index, y), index < len(series.doubtful) and series.doubtful[index])
        for index, ((at, height), text) in enumerate(zip(placed, series.texts, strict=False))
        if height is not None
    )
    path = ""
    if series.joined:
        joined = [(x.at(at), None if value is None else y.at(value)) for at, value in _merged(series.points)]
        path = _path(_sparse(joined), step=series.step)
    return Line(series.name, series.look, path, dots, series.dashed)


def _whisker(series: Series, index: int, y: Axis) -> tuple[float, float] | None:
    ends = series.intervals[index] if index < len(series.intervals) else None
    return None if ends is None else (y.at(ends[0]), y.at(ends[1]))


def _merged(points: Sequence[Point]) -> Sequence[Point]:
    merged: list[Point] = []
    for at, group in groupby(points, key=lambda point: point[0]):
        known = [value for _, value in group if value is not None]
        merged.append((at, sum(known) / len(known) if known else None))
    return merged


def _path(points: Sequence[tuple[float, float | None]], *, step: bool) -> str:
    parts, drawing = [], False
    for x, y in points:
        if y is None:
            drawing = False
            continue
        parts.append(f"{'L' if drawing and not step else 'H' if drawing else 'M'}{x:g}")
        parts.append(f"V{y:g}" if drawing and step else f" {y:g}")
        drawing = True
    return "".join(parts)


def _sparse(points: Sequence[tuple[float, float | None]]) -> Sequence[tuple[float, float | None]]:
    """Of many points those that can be told apart: per column the lowest and the highest."""
    if len(points) <= _POINTS:
        return points
    kept: list[tuple[float, float | None]] = []
    size = -(-2 * len(points) // _POINTS)
    for start in range(0, len(points), size):
        part = points[start : start + size]
        known = [point for point in part if point[1] is not None]
        if not known:
            kept.append(part[0])
            continue
        ends = {min(known, key=lambda point: point[1] or 0.0), max(known, key=lambda point: point[1] or 0.0)}
        kept += sorted(ends)
    return kept


def _labels(series: Sequence[Series], lines: Sequence[Line]) -> tuple[Label, ...]:
    """Labels beside their points: above or below, right or left; left out where there is no room."""
    pairs = [pair for one, line in zip(series, lines, strict=True) for pair in zip(line.dots, one.labels, strict=False)]
    taken = [(dot.x - 5, dot.y - 5, dot.x + 5, dot.y + 5) for dot, _ in pairs]
    if pairs:
        taken += [box for line in lines for box in along(line.path)]
    kept = []
    for dot, text in pairs:
        width = len(text) * _CHARACTER
        for anchor, dy in (("start", -5.0), ("start", 14.0), ("end", -5.0), ("end", 14.0)):
            left = dot.x + 7 if anchor == "start" else dot.x - 7 - width
            box = (left, dot.y + dy - 11, left + width, dot.y + dy + 2)
            if left + width <= WIDTH and left >= 0 and not any(overlap(box, other) for other in taken):
                taken.append(box)
                kept.append(Label(dot.x + 7 if anchor == "start" else dot.x - 7, round(dot.y + dy, 1), text, anchor))
                break
    return tuple(kept)


def _within(rule: Rule, x: Axis, y: Axis) -> bool:
    axis = x if rule.vertical else y
    return axis.low <= rule.value <= axis.high


def _rule(rule: Rule, x: Axis, y: Axis) -> PlacedRule:
    return PlacedRule(rule.text, x=x.at(rule.value)) if rule.vertical else PlacedRule(rule.text, y=y.at(rule.value))


def _described(series: Sequence[Series]) -> str:
    """In words, for whoever cannot see the chart: where each line begins, ends and has its extremes."""
    parts = []
    for one in series:
        known = [(x, y) for x, y in one.points if y is not None]
        low, high = min(known, key=lambda p: p[1]), max(known, key=lambda p: p[1])
        lowest, highest = (f"{short(y)} at {short(x)}" for x, y in (low, high))
        parts.append(f"{one.name}: lowest {lowest}, highest {highest}")
    return "; ".join(parts)
