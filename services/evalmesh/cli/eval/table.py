"""The result table of the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

_FEW_SUBSETS = 10


def render_table(report: Mapping[str, Any], *, verbose: bool = False) -> Table:
    """One row per metric of each benchmark, and below it per subset and category.

    Args:
        report: A report of schema version 1.
        verbose: Show subsets however many there are; otherwise only two to ten of them.
    """
    # As narrow as it can be, since many terminals have 80 columns: names fold, numbers never do.
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for heading in ("Model", "Benchmark", "Subset", "Metric"):
        table.add_column(heading, overflow="fold")
    for heading in ("Score ± stderr", "95% interval", "n", "Errored"):
        table.add_column(heading, justify="right", no_wrap=True)
    model = report["model"]["label"] + (" (simulated)" if report["model"]["simulated"] else "")
    for benchmark in report["benchmarks"]:
        for position, (subset, metric, style) in enumerate(_rows(benchmark, verbose=verbose)):
            # Text, never markup: names come from users and may hold square brackets.
            cells = [
                "" if position else model,
                benchmark["name"],
                subset,
                metric["name"],
                _score(metric),
                _interval(metric),
            ]
            cells.append(f"{metric['n_scored']:,}")
            lost = metric["n_errored"] + metric["n_unscored"]
            table.add_row(*map(Text, cells), Text(f"{lost:,}", style="bold red" if lost else ""), style=style)
        table.add_section()
    return table


def _rows(benchmark: Mapping[str, Any], *, verbose: bool) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    subsets, categories = benchmark["subsets"], benchmark["categories"]
    show_subsets = len(subsets) > 1 and (verbose or len(subsets) <= _FEW_SUBSETS)
    total = subsets[0]["name"] if len(subsets) == 1 else "all"
    for metric in benchmark["metrics"]:
        yield total, metric, "bold" if metric["name"] == benchmark["primary_metric"] else ""
    for category in categories if len(categories) > 1 else ():
        for metric in category["metrics"]:
            yield f"all {category['name']}", metric, ""
    for subset in subsets if show_subsets else ():
        for metric in subset["metrics"]:
            yield subset["name"], metric, "dim"


def _score(metric: Mapping[str, Any]) -> str:
    if metric["value"] is None:
        return "no score"
    if metric["stderr"] is None:
        return f"{metric['value']:.4f}"
    return f"{metric['value']:.4f} ± {metric['stderr']:.4f}"


def _interval(metric: Mapping[str, Any]) -> str:
    return "-" if metric["ci95"] is None else f"{metric['ci95'][0]:.3f} to {metric['ci95'][1]:.3f}"
