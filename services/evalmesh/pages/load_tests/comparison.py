"""Several load tests on one page: their curves over each other, and what differs from the first, level by level."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from jinja2 import Template

from evalmesh.pages import common as pages
from evalmesh.pages.load_tests import charts, figures, said

LETTERS = "ABCDEF"
"""What the load tests are called; so many have looks that can be told apart."""
_LATENCIES = (("ttft", "p50"), ("ttft", "p99"), ("tpot", "p50"), ("e2e", "p50"), ("e2e", "p99"))
_RATES = (
    ("request_rate", "Requests per second", "requests/s"),
    ("output_token_rate", "Output tokens per second", "tokens/s"),
    ("error_rate", "Share of requests that failed", "%"),
)


def render_comparison_html(perfs: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]) -> str:
    """The page of load tests and of what `compare` says of each of them against the first."""
    return _template().render(
        sides=list(zip(LETTERS, [results[0]["a"], *(one["b"] for one in results)], strict=False)),
        results=list(zip(LETTERS[1:], results, strict=False)),
        charts=_charts(perfs),
        assets=pages.assets("perf_report.css"),
    )


@cache
def _template() -> Template:
    filters: dict[str, Callable[..., Any]] = {
        "short": charts.short,
        "ms": said.ms,
        "value": said.value,
        "change": change,
        "cell": cell,
        "ends": ends,
    }
    sizes = {"left": charts.LEFT, "right": charts.WIDTH - charts.RIGHT, "top": charts.TOP, "bottom": charts.BOTTOM}
    return pages.environment(filters, {"plot": sizes}).get_template("perf_compare.html.j2")


def cell(one: Mapping[str, Any], side: str) -> str:
    """A figure of one side with its unit."""
    found = one[side]
    if found is None:
        return "-"
    if one["unit"] == "ms":
        return said.in_ms(found)
    return f"{said.value(found)}/s" if one["unit"] else f"{found:.2%}"


def change(one: Mapping[str, Any]) -> str:
    """By how much the second side differs: in percent, shares in points."""
    if one["unit"] and one["ratio"] is not None:
        return f"{one['ratio'] - 1:+.1%}"
    return "-" if one["difference"] is None or one["unit"] else f"{100 * one['difference']:+.2f} points"


def ends(one: Mapping[str, Any]) -> str:
    """The interval of that."""
    if one["ratio_ci95"] is not None and None not in one["ratio_ci95"]:
        return " to ".join(f"{end - 1:+.1%}" for end in one["ratio_ci95"])
    if one["unit"] or one["difference_ci95"] is None:
        return "-"
    return " to ".join(f"{100 * end:+.2f}" for end in one["difference_ci95"])


def _charts(perfs: Sequence[Mapping[str, Any]]) -> list[charts.Chart]:
    """Each headline figure against load, one curve per load test; none where the loads are of different kinds."""
    loads = [figures.loads_of(perf["levels"]) for perf in perfs]
    if len({one.title for one in loads}) > 1 or not any(perf["levels"] for perf in perfs):
        return []
    ticks = sorted({load for one in loads for load in one.values})
    found = []
    for metric, statistic in _LATENCIES:
        series = [
            _curve(name, look, perf, one, partial(_latency, metric=metric, statistic=statistic))
            for name, look, perf, one in zip(LETTERS, figures.LOOKS, perfs, loads, strict=False)
        ]
        wish = charts.Wish(
            f"c-{metric}-{statistic}", f"{figures.METRICS[metric]}, {statistic}", loads[0].title, "ms", x_ticks=ticks
        )
        found.append(charts.chart(wish, series))
    for path, title, unit in _RATES:
        series = [
            _curve(name, look, perf, one, partial(_rate, path=path, times=100.0 if unit == "%" else 1.0))
            for name, look, perf, one in zip(LETTERS, figures.LOOKS, perfs, loads, strict=False)
        ]
        wish = charts.Wish(f"c-{path}", title, loads[0].title, unit, y="linear", x_ticks=ticks)
        found.append(charts.chart(wish, series))
    return [one for one in found if one is not None]


def _curve(
    name: str,
    look: str,
    perf: Mapping[str, Any],
    loads: figures.Loads,
    value_of: Callable[[Mapping[str, Any]], "_Told"],
) -> charts.Series:
    rows = sorted(zip(loads.values, perf["levels"], loads.names, strict=True), key=lambda row: row[0])
    told = [(load, *value_of(level), label) for load, level, label in rows]
    return charts.Series(
        name,
        look,
        [(load, found) for load, found, _, _ in told],
        ["" if found is None else f"{name}, {label}: {charts.short(found)}" for _, found, _, label in told],
        [interval for _, _, interval, _ in told],
        doubtful=[bool(level["client_limited"]) for _, level, _ in rows],
    )


_Told = tuple[float | None, tuple[float, float] | None]


def _latency(level: Mapping[str, Any], metric: str, statistic: str) -> _Told:
    summary = level.get(f"{metric}_due_ms") if metric != "tpot" else None
    summary = summary or level[f"{metric}_ms"]
    interval = summary["ci95"].get(statistic)
    return summary[statistic], None if interval is None else (interval[0], interval[1])


def _rate(level: Mapping[str, Any], path: str, times: float) -> _Told:
    found, interval = level[path], level["rates_ci95"].get(path)
    ends_of = None if interval is None else (interval[0] * times, interval[1] * times)
    return None if found is None else found * times, ends_of
