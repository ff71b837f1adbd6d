"""Cumulative distributions of a load test's latencies: one curve per level, from the least load to the most."""

from collections.abc import Sequence

from evalmesh.pages.load_tests.charts import SHADES, Chart, Series, Wish, chart
from evalmesh.pages.load_tests.figures import METRICS, Level, Loads, level_name, scale_ms

MOST_CURVES = 8
"""Levels whose distributions are drawn; more cannot be told apart."""

_MOST_BELOW = 100.0
"""The axis begins at least at this part of the median."""

Curve = tuple[str, str, Sequence[tuple[float, float]]]
"""Name, look, and (milliseconds, share of all that took at most this long)."""


def distribution_charts(levels: Sequence[Level], loads: Loads) -> list[Chart]:
    """One per metric; in open loop from the scheduled time. Of many levels eight, spread over the loads."""
    order = sorted(range(len(levels)), key=lambda index: loads.values[index])
    number = min(len(order), MOST_CURVES)
    chosen = [order[round(n * (len(order) - 1) / max(1, number - 1))] for n in range(number)]
    looks = [f"q{round(n * (SHADES - 1) / max(1, number - 1))}" for n in range(number)]
    found = []
    for metric, name in (*METRICS.items(), ("chunk_gap", "Time between chunks")):
        due = any(f"{metric}_due_ms" in level["distributions"]["values"] for level in levels)
        path = f"{metric}_due_ms" if due else f"{metric}_ms"
        curves = [
            (loads.names[index], look, _points(levels[index], path)) for index, look in zip(chosen, looks, strict=True)
        ]
        found.append(_cdf(f"cdf-{metric}", f"{name}, from schedule" if due else name, curves))
    return [one for one in found if one is not None]


def gap_chart(level: Level, chart_id: str) -> Chart | None:
    """Time between tokens and time between chunks of one level: they differ where chunks carry several tokens."""
    curves: list[Curve] = [
        ("between tokens (ITL)", "s0", _points(level, "itl_ms")),
        ("between chunks", "s1", _points(level, "chunk_gap_ms")),
    ]
    return _cdf(chart_id, f"Token gaps and chunk gaps, {level_name(level)}", curves)


def _cdf(chart_id: str, name: str, curves: Sequence[Curve]) -> Chart | None:
    positive = sorted(value for _, _, points in curves for value, _ in points if value > 0)
    if not positive:
        return None
    # A single straggler does not decide the unit.
    divisor, unit = scale_ms([positive[int(0.98 * (len(positive) - 1))]])
    # Chunks that came in one read are next to nothing apart; they must not take most of the axis.
    low = max(positive[0], positive[len(positive) // 2] / _MOST_BELOW) / divisor
    high = positive[-1] / divisor
    if high <= low:
        low, high = low * 0.8, high * 1.25
    wish = Wish(chart_id, name, unit, "% of all, at most this", y="linear", y_high=100.0, x_range=(low, high))
    series = [
        Series(text, look, [(max(value / divisor, low), 100 * share) for value, share in points], dashed=index % 2 == 1)
        for index, (text, look, points) in enumerate(curves)
    ]
    return chart(wish, series)


def _points(level: Level, path: str) -> list[tuple[float, float]]:
    found = level["distributions"]
    pairs = zip(found["values"].get(path, ()), found["probabilities"], strict=False)
    return [(value, share) for value, share in pairs if value is not None]
