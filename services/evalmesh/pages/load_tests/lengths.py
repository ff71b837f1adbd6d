"""What a report says by prompt length: one row per level and length, and how speed depends on the length."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalmesh.pages.load_tests.charts import SHADES, Chart, Series, Wish, chart, short
from evalmesh.pages.load_tests.figures import Level, Loads

MOST_LEVELS = 8
"""Levels with a line of their own; more cannot be told apart."""


def lengths_section(perf: Mapping[str, Any], loads: Loads) -> dict[str, Any] | None:
    """Rows, charts and GPU memory; `None` without lengths, and for a search, whose probes are about something else.

    `drawn`: how many levels have a line, where that is not all of them, else 0.
    """
    # Documents of the same schema version may have been written before there were lengths.
    places = [index for index, level in enumerate(perf["levels"]) if level.get("lengths")]
    if not places or perf["search"]:
        return None
    levels = [perf["levels"][index] for index in places]
    shown = places[:MOST_LEVELS]
    return {
        "rows": [(loads.names[index], perf["levels"][index], row) for index in places for row in _rows(perf, index)],
        "charts": _charts([(loads.names[index], perf["levels"][index]) for index in shown]),
        "drawn": len(shown) if len(shown) < len(places) else 0,
        "memory_bytes": _memory_bytes(levels),
        "prefill": any(row["prefill_token_rate"] is not None for level in levels for row in level["lengths"]),
        "output": any(row["output_token_rate_per_request"] is not None for level in levels for row in level["lengths"]),
    }


def _rows(perf: Mapping[str, Any], index: int) -> Sequence[Mapping[str, Any]]:
    rows: Sequence[Mapping[str, Any]] = perf["levels"][index]["lengths"]
    return rows


def _memory_bytes(levels: Sequence[Level]) -> float | None:
    summaries = [level["server"]["summary"] for level in levels if level["server"]]
    return max((most for one in summaries if (most := one.get("gpu_memory_bytes_max")) is not None), default=None)


def _charts(levels: Sequence[tuple[str, Level]]) -> list[Chart]:
    found = [
        _chart("length-ttft", "TTFT by prompt length", "ms, mean", levels, lambda row: row["ttft_ms"]["mean"]),
        _chart(
            "length-output",
            "Speed of one request by prompt length",
            "output tokens/s",
            levels,
            lambda row: row["output_token_rate_per_request"],
        ),
    ]
    return [one for one in found if one is not None]


def _chart(
    chart_id: str,
    title: str,
    unit: str,
    levels: Sequence[tuple[str, Level]],
    value: Callable[[Mapping[str, Any]], float | None],
) -> Chart | None:
    series = [
        Series(
            name,
            f"q{round(n * (SHADES - 1) / max(1, len(levels) - 1))}" if len(levels) > 1 else "s0",
            [(row["prepared_tokens"], value(row)) for row in level["lengths"]],
            [_text(name, row["prepared_tokens"], value(row), unit) for row in level["lengths"]],
            doubtful=[bool(level["client_limited"])] * len(level["lengths"]),
        )
        for n, (name, level) in enumerate(levels)
    ]
    ticks = sorted({row["prepared_tokens"] for _, level in levels for row in level["lengths"]})
    return chart(Wish(chart_id, title, "prompt tokens", unit, x="linear", y="linear", x_ticks=ticks), series)


def _text(name: str, tokens: int, value: float | None, unit: str) -> str:
    return "" if value is None else f"{name}, {tokens:,} tokens: {short(value)} {unit}"
