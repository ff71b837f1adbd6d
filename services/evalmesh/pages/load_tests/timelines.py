"""Charts of one level over its time: what was offered, what came back, and what the server says of itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from evalmesh.pages.load_tests.charts import Chart, Point, Series, Wish, chart
from evalmesh.pages.load_tests.figures import Level, scale_ms

_HEIGHT = 190.0
_X_TITLE = "seconds since the level's start"

_COUNTS = (
    (
        "Requests per second",
        "requests/s",
        (("offered", "due", "s5"), ("sent", "sent", "s2"), ("ok", "succeeded", "s0"), ("errors", "failed", "bad")),
    ),
    ("Output tokens per second", "tokens/s", (("output_tokens", "output", "s0"),)),
    ("Input tokens per second", "tokens/s", (("input_tokens", "input", "s2"),)),
)
"""Counts per step, drawn per second: title, unit, and field, name, look."""
_LEVELS = (
    (
        "Requests in flight",
        "requests",
        (("in_flight", "in flight", "s0"), ("queued", "held back by the cap", "s1")),
        1.0,
    ),
    ("CPU of the busiest generator", "% of a core", (("cpu", "CPU", "s0"),), 0.01),
)
"""What was at the end of each step: title, unit, fields as above, and what to divide by."""
_TIMES = (
    (
        "Time to first token",
        (("ttft_p50_ms", "p50", "s0"), ("ttft_p99_ms", "p99", "s1"), ("ttft_due_p99_ms", "p99 from schedule", "s3")),
    ),
    ("Time between tokens", (("itl_p50_ms", "p50", "s0"), ("itl_p99_ms", "p99", "s1"))),
    ("Time to last token", (("e2e_p50_ms", "p50", "s0"), ("e2e_p99_ms", "p99", "s1"))),
    (
        "Lateness of the client",
        (("send_lag_p99_ms", "send lag p99", "s0"), ("loop_lag_ms", "event loop, longest", "s1")),
    ),
)
_LOOKS = ("s0", "s1", "s2", "s3", "s4", "s5")
_SHORT = {"kv": "KV", "gpu": "GPU", "ttft": "TTFT", "itl": "ITL", "tpot": "TPOT", "e2e": "E2E"}
_PERCENT = frozenset({"share", "ratio", "percent", "%"})


def level_charts(level: Level, prefix: str) -> list[Chart]:
    """Everything that the generators saw, with the measured window shaded; ids begin with `prefix`."""
    timeline = _while_it_lasts(level["timeline"])
    found: list[Chart | None] = []
    if not timeline["t_s"]:
        return []
    for title, unit, fields, divisor in (*((*one, timeline["step_s"]) for one in _COUNTS), *_LEVELS):
        found.append(_chart(level, f"{prefix}-{len(found)}", title, unit, _series(timeline, fields, divisor)))
    for title, fields in _TIMES:
        divisor, unit = scale_ms([value for name, _, _ in fields for value in timeline[name]])
        found.append(_chart(level, f"{prefix}-{len(found)}", title, unit, _series(timeline, fields, divisor)))
    return [one for one in found if one is not None]


def _while_it_lasts(timeline: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the end of the last step, at which nothing is in flight: the level is over, and no load has fallen."""
    ended = timeline["in_flight"][-1:] == [0]
    return {**timeline, "in_flight": [*timeline["in_flight"][:-1], None]} if ended else timeline


def server_charts(level: Level, prefix: str) -> list[Chart]:
    """One chart per metric of the server, on the time axis of the level."""
    if not level["server"]:
        return []
    by_name: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for series in level["server"]["series"]:
        by_name.setdefault((series["name"], series["unit"]), []).append(series)
    found: list[Chart | None] = []
    end = _end(level)
    for (name, unit), group in by_name.items():
        share = unit in _PERCENT and all(value is None or value <= 1.0 for one in group for value in one["value"])
        drawn = [
            Series(
                one["label"] or _words(name),
                look,
                _within(end, _points(one["t_s"], one["value"], 0.01 if share else 1)),
            )
            for one, look in zip(group, _LOOKS * len(group), strict=False)
        ]
        shown_unit = "%" if share else unit
        found.append(_chart(level, f"{prefix}-{len(found)}", _words(name), shown_unit, drawn))
    return [one for one in found if one is not None]


def _series(timeline: Mapping[str, Any], fields: Sequence[tuple[str, str, str]], divisor: float) -> list[Series]:
    """Steps that end where the last one ends; a line that is zero throughout would only lie on the axis."""
    shown = [field for field in fields if any(timeline[field[0]])]
    t_s = [*timeline["t_s"], timeline["t_s"][-1] + timeline["step_s"]]
    return [
        Series(text, look, _points(t_s, [*timeline[name], timeline[name][-1]], divisor), step=True)
        for name, text, look in shown
    ]


def _points(t_s: Sequence[float], values: Sequence[float | None], divisor: float) -> list[Point]:
    return [(at, None if value is None else value / divisor) for at, value in zip(t_s, values, strict=True)]


def _within(end: float, points: Sequence[Point]) -> list[Point]:
    """Readings of the level itself; its neighbours' were needed for rates."""
    return [point for point in points if 0.0 <= point[0] <= end]


def _words(name: str) -> str:
    """A name of the server's metrics as a title: `kv_cache_use`, "KV cache use"."""
    words = [_SHORT.get(word, word) for word in name.removesuffix("_ms").split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


def _end(level: Level) -> float:
    timeline = level["timeline"]
    last = timeline["t_s"][-1] + timeline["step_s"] if timeline["t_s"] else 0.0
    return max(last, float(level["window"]["end_s"]))


def _chart(level: Level, chart_id: str, title: str, unit: str, series: Sequence[Series]) -> Chart | None:
    window = level["window"]
    return chart(
        Wish(
            chart_id,
            title,
            _X_TITLE,
            unit,
            x="linear",
            x_range=(0.0, _end(level)),
            window=(window["start_s"], window["end_s"]),
            height=_HEIGHT,
        ),
        series,
    )
