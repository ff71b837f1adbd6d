"""Two load tests side by side: a table per level, one row per metric."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evalmesh.cli.perf.table import plain_table
from evalmesh.cli.perf.words import milliseconds, per_second
from evalmesh.load.measure.compare import ONE_RUN
from evalmesh.load.measure.compare import compare as compare_reports

__all__ = ["compare_reports", "render_comparison"]

_SHOWN = (
    *("request_rate", "output_token_rate", "input_token_rate", "error_rate", "goodput.share"),
    *("ttft_ms.p50", "ttft_ms.p99", "ttft_due_ms.p50", "ttft_due_ms.p99", "itl_ms.p50", "itl_ms.p99"),
    *("tpot_ms.p50", "e2e_ms.p50", "e2e_ms.p99", "e2e_due_ms.p50", "e2e_due_ms.p99"),
)
"""The others are in `--format json`."""
_STYLES = {"better": "green", "worse": "bold red", "no difference": "dim", "undecided": "dim", "": ""}


def render_comparison(console: Console, result: Mapping[str, Any]) -> None:
    """Prints what changed from A to B."""
    for side in ("a", "b"):
        one = result[side]
        name = f" ({one['display_name']})" if one["display_name"] else ""
        text = f"{side.upper()}  {one['id']}{name}  {one['model']} at {one['url']}, {one['create_time']}"
        console.print(Text(text), soft_wrap=True)
    for warning in result["warnings"]:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)
    for level in result["levels"]:
        console.print(_table(level))
    for line in _legend(result):
        console.print(Text(line, style="dim"), soft_wrap=True)
    for side in ("a", "b"):
        if labels := result[f"only_in_{side}"]:
            console.print(Text(f"only in {side.upper()}: {', '.join(labels)}", style="dim"), soft_wrap=True)


_TOO_FEW = (
    "undecided without enough requests: a level has fewer than 40 that say something new, or a figure has no interval. "
    "More of them (--number, --duration) or --repeats 3 decide; --fail-on undecided stops a pipeline at it."
)


def _legend(result: Mapping[str, Any]) -> list[str]:
    metrics = [one for level in result["levels"] for one in level["metrics"]]
    unknown = any(one["verdict"] == "undecided" and one["p_value"] is None for one in metrics)
    return [*_judged(result), *([_TOO_FEW] if unknown else [])]


def _judged(result: Mapping[str, Any]) -> list[str]:
    if not result["judged"]:
        return []
    tolerance = f"{100 * result['tolerance']:g}%"
    text = f"{result['judged']} figures are judged together; less than {tolerance} (--tolerance) does not matter."
    lines = [f"{text} Equal servers are called better or worse in at most one comparison of 20."]
    if result["one_run"]:
        lines.append(
            "One run a side says what differs within these runs, not what differs from run to run: up to "
            f"{ONE_RUN:.0%} is put down to that. --repeats 3 or more measures it."
        )
    return lines


def _table(level: Mapping[str, Any]) -> Table:
    table = plain_table()
    table.title = Text(level["label"], style="bold")
    table.title_justify = "left"
    table.add_column("Metric", no_wrap=True)
    for heading in ("A", "B", "Change", "95% interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("B is")  # which breaks at words where a terminal is narrow
    for one in level["metrics"]:
        if one["metric"] in _SHOWN:
            word = "differs within these runs" if one["differs_within_runs"] else one["verdict"] or ""
            verdict = Text(word, style=_STYLES.get(word, "yellow"))
            cells = (one["metric"], _value(one["a"], one["unit"]), _value(one["b"], one["unit"]))
            table.add_row(*map(Text, cells), Text(_change(one)), Text(_interval(one)), verdict)
    return table


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "ms":
        return f"{milliseconds(value)} ms"
    return per_second(value) if unit == "1/s" else f"{value:.2%}"


def _change(one: Mapping[str, Any]) -> str:
    if one["unit"] and one["ratio"] is not None:
        return f"{one['ratio'] - 1:+.1%}"
    if one["difference"] is None:
        return "-"
    return f"{one['difference']:+.3g}" if one["unit"] else _points(one["difference"])


def _interval(one: Mapping[str, Any]) -> str:
    if one["ratio_ci95"] is not None:
        low, high = one["ratio_ci95"]
        return f"{low - 1:+.1%} to {high - 1:+.1%}"
    if one["difference_ci95"] is not None:
        low, high = one["difference_ci95"]
        return f"{_points(low)} to {_points(high)}"
    return "-"


def _points(difference: float) -> str:
    """Of shares, whose ratio says little where they are small."""
    return f"{100 * difference:+.2f} pp"
