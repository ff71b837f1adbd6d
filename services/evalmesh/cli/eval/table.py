"""The result table of the terminal, and what must be read with it."""

from collections.abc import Iterator, Mapping
from typing import Any

from evalmesh.cli.printable import one_line
from evalmesh.cli.tables import Cell, Column, Grid, when
from evalmesh.domain.natural_order import by_name
from evalmesh.pages.runs.outcomes import counts_of

Report = Mapping[str, Any]
_FEW_SUBSETS = 10


def heading(report: Report) -> str:
    """Which run it is, and when: `qwen-plus  run 1m83vd2mqnwmb8  2026-11-30 13:21:49 +08:00`."""
    run = report.get("run") or {}
    parts = [_model(report), run.get("display_name", ""), f"run {run['id']}" if run.get("id") else ""]
    time = run.get("create_time")
    return "  ".join(one_line(part) for part in (*parts, when(time) if time else "") if part)


def render_table(report: Report, *, verbose: bool = False, model: bool = False) -> Grid:
    """One row per metric of each benchmark, and below it per subset and category.

    Args:
        report: A report of schema version 1.
        verbose: Show subsets and metrics however many there are; otherwise only two to ten subsets, and of metrics
            with the same numbers one.
        model: A column for the model, which otherwise is in `heading`.
    """
    shown = {one["name"]: list(_rows(one, verbose=verbose)) for one in report["benchmarks"]}
    repeats = any(benchmark.get("repeats", 1) > 1 for benchmark in report["benchmarks"])
    one_metric = all(len({metric["name"] for _, metric, _ in rows}) == 1 for rows in shown.values())
    one_part = all(len({subset for subset, _, _ in rows}) == 1 for rows in shown.values())
    grid = Grid(
        [
            *([Column("Model")] if model else []),
            Column("Benchmark", spare=2 if len(shown) == 1 else 0),
            Column("Subset", spare=2 if one_part else 0),
            Column("Metric", spare=3 if one_metric else 0),
            Column("Score ± stderr", right=True),
            Column("95% interval", spare=1, right=True),
            Column("n", spare=4, right=True),
            *([Column("Generations", spare=5, right=True)] if repeats else []),
            Column("Errored", spare=6, right=True),
        ]
    )
    for name, rows in shown.items():
        for place, (subset, metric, style) in enumerate(rows, start=1):
            lost = metric["n_errored"] + metric["n_unscored"]
            samples = metric.get("n_samples")
            grid.add(
                *([_model(report)] if model else []),
                name,
                subset,
                metric["name"],
                _score(metric),
                _interval(metric),
                f"{metric['n_scored'] if samples is None else samples:,}",
                *([f"{metric['n_scored']:,}"] if repeats else []),
                Cell(f"{lost:,}", "bold red" if lost else ""),
                style=style,
                ends_section=place == len(rows),
            )
    return grid


def remarks(report: Report, *, verbose: bool = False) -> list[str]:
    """What the table leaves out: answers that were not found, subsets, metrics that say the same."""
    lines = []
    for benchmark in report["benchmarks"]:
        if words := counts_of(benchmark).words():
            lines.append(f"{benchmark['name']}: {words}")
        if verbose:
            parts = by_name(benchmark["subsets"]) if len(benchmark["subsets"]) > 1 else ()
            told = ((part["name"], counts_of(part).words()) for part in parts)
            lines += [f"  {name}: {words}" for name, words in told if words]
            continue
        if same := _same(benchmark):
            why = ": all repeats agree" if len(same) == len(benchmark["metrics"]) - 1 else ""
            lines.append(f"{benchmark['name']}: {', '.join(same)} the same as {benchmark['primary_metric']}{why}")
        if not _few(benchmark["subsets"]):
            lines.append(f"{benchmark['name']}: {len(benchmark['subsets'])} subsets: evalmesh report RUN --verbose")
    return lines


def warnings(report: Report) -> list[str]:
    """Where a score says little about the model."""
    return [f"{one['benchmark']}: {one['message']}" for one in report.get("warnings", ())]


def _model(report: Report) -> str:
    return str(report["model"]["label"]) + (" (simulated)" if report["model"]["simulated"] else "")


def _few(subsets: Any) -> bool:
    return len(subsets) <= _FEW_SUBSETS


def _numbers(metric: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*(metric[name] for name in ("value", "stderr", "ci95", "n_scored")), metric.get("n_samples"))


def _same(benchmark: Mapping[str, Any]) -> list[str]:
    """Metrics over repeats that say what the primary one says, of the benchmark and of each of its parts."""
    if benchmark.get("repeats", 1) == 1:
        return []
    name = benchmark["primary_metric"]
    same = [metric["name"] for metric in benchmark["metrics"] if metric["name"] != name]
    for part in (benchmark, *benchmark["categories"], *benchmark["subsets"]):
        numbers = {metric["name"]: _numbers(metric) for metric in part["metrics"]}
        same = [one for one in same if numbers.get(one) == numbers.get(name)]
    return same


def _names(benchmark: Mapping[str, Any], *, verbose: bool) -> list[str]:
    hidden = [] if verbose else _same(benchmark)
    return [metric["name"] for metric in benchmark["metrics"] if metric["name"] not in hidden]


def _rows(benchmark: Mapping[str, Any], *, verbose: bool) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    subsets, categories = by_name(benchmark["subsets"]), by_name(benchmark["categories"])
    names = _names(benchmark, verbose=verbose)
    total = subsets[0]["name"] if len(subsets) == 1 else "all"
    parts = [(total, benchmark, "")]
    parts += [(f"all {one['name']}", one, "") for one in (categories if len(categories) > 1 else ())]
    if len(subsets) > 1 and (verbose or _few(subsets)):
        parts += [(one["name"], one, "dim") for one in subsets]
    for label, part, style in parts:
        for metric in part["metrics"]:
            if metric["name"] in names:
                primary = part is benchmark and metric["name"] == benchmark["primary_metric"]
                yield label, metric, "bold" if primary else style


def _score(metric: Mapping[str, Any]) -> str:
    if metric["value"] is None:
        return "no score"
    if metric["stderr"] is None:
        return f"{metric['value']:.4f}"
    return f"{metric['value']:.4f} ± {metric['stderr']:.4f}"


def _interval(metric: Mapping[str, Any]) -> str:
    return "-" if metric["ci95"] is None else f"{metric['ci95'][0]:.3f} to {metric['ci95'][1]:.3f}"
