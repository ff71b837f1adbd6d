"""Reports side by side: benchmarks down, runs across."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from evalmesh.benchmarks import registry
from evalmesh.cli.printable import printable
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.natural_order import by_name, natural
from evalmesh.results.comparing.likeness import kind_of, labels

Document = Mapping[str, Any]

CSV_COLUMNS = (
    *("run", "run_id", "name", "model", "create_time", "benchmark", "version", "subset", "category", "metric"),
    *("value", "stderr", "ci95_low", "ci95_high", "n_scored", "n_errored", "n_unscored"),
)


@dataclass(frozen=True, slots=True)
class SideRow:
    """One metric of one benchmark, or of a subset of it, for each run."""

    benchmark: str
    subset: str
    metric: str
    cells: tuple[Document | None, ...]
    """The metric in each report; `None` where it is not."""
    best: int | None
    """Whose value is the best by more than the intervals leave open."""


def side_rows(reports: Sequence[Document], *, verbose: bool) -> Iterator[SideRow]:
    """Primary metrics; `verbose`: all of them, and the subsets."""
    known = [{one["name"]: one for one in report["benchmarks"]} for report in reports]
    for name in dict.fromkeys(name for benchmarks in known for name in benchmarks):
        sides = [benchmarks.get(name) for benchmarks in known]
        there = [side for side in sides if side is not None]
        primary, kind = there[0]["primary_metric"], kind_of(there[0])
        metrics = [primary, *(m["name"] for side in there for m in side["metrics"])] if verbose else [primary]
        for metric in dict.fromkeys(metrics):
            yield _row((name, "", metric), sides, upward=_is_upward(kind, metric))
        if verbose:
            subsets = sorted({one["name"] for side in there for one in side["subsets"]}, key=natural)
            for subset in subsets if len(subsets) > 1 else ():
                parts = [_part(side, subset) for side in sides]
                yield _row((name, subset, primary), parts, upward=_is_upward(kind, primary))


def _part(side: Document | None, subset: str) -> Document | None:
    return next((one for one in (side or {"subsets": []})["subsets"] if one["name"] == subset), None)


def _row(names: tuple[str, str, str], sides: Sequence[Document | None], *, upward: bool) -> SideRow:
    cells = tuple(
        next((one for one in (side or {"metrics": []})["metrics"] if one["name"] == names[2]), None) for side in sides
    )
    return SideRow(*names, cells, _best(cells, upward=upward))


def _is_upward(kind: str, metric: str) -> bool:
    try:
        specs = registry.get(kind).metrics
    except InvalidInput:
        return True
    return next((one.higher_is_better for one in specs if one.name == metric), True)


def _best(cells: Sequence[Document | None], *, upward: bool) -> int | None:
    sign = 1 if upward else -1
    ranked = sorted(
        (
            (sign * cell["value"], at, cell["ci95"])
            for at, cell in enumerate(cells)
            if cell and cell["value"] is not None
        ),
        key=lambda one: (-one[0], one[1]),
    )
    if len(ranked) < 2 or any(ci95 is None for _, _, ci95 in ranked):
        return None
    low = min(sign * end for end in ranked[0][2])
    return ranked[0][1] if all(max(sign * end for end in ci95) < low for _, _, ci95 in ranked[1:]) else None


def shown(cell: Document | None) -> str:
    """Value ± standard error."""
    if cell is None or cell["value"] is None:
        return "-" if cell is None else "no score"
    return f"{cell['value']:.4f}" + ("" if cell["stderr"] is None else f" ± {cell['stderr']:.4f}")


def side_table(reports: Sequence[Document], *, verbose: bool) -> Table:
    """For the terminal; names fold, numbers never do."""
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    rows = list(side_rows(reports, verbose=verbose))
    with_subsets = any(row.subset for row in rows)
    for heading in ("Benchmark", *(("Subset",) if with_subsets else ()), "Metric"):
        table.add_column(heading, no_wrap=True)
    for label in labels(reports):
        table.add_column(Text(printable(label)), justify="right", overflow="fold", min_width=15)
    for row in rows:
        names = (row.benchmark, *((row.subset,) if with_subsets else ()), row.metric)
        cells = (Text(shown(cell), style="bold" if at == row.best else "") for at, cell in enumerate(row.cells))
        table.add_row(*(Text(printable(name)) for name in names), *cells)
    return table


def csv_rows(reports: Sequence[Document]) -> Iterator[dict[str, Any]]:
    """One row per run, benchmark, subset (empty: the whole) and metric."""
    for label, report in zip(labels(reports), reports, strict=True):
        run, model = report["run"], report["model"]
        of_run = {
            "run": label,
            "run_id": run["id"],
            "name": run["display_name"],
            "model": model["name"],
            "create_time": run["create_time"],
        }
        for benchmark in report["benchmarks"]:
            subsets = by_name(benchmark["subsets"]) if len(benchmark["subsets"]) > 1 else []
            for subset in ({"name": "", "category": None, "metrics": benchmark["metrics"]}, *subsets):
                of_subset = {
                    "benchmark": benchmark["name"],
                    "version": benchmark["version"],
                    "subset": subset["name"],
                    "category": subset["category"],
                }
                for metric in subset["metrics"]:
                    low, high = metric["ci95"] or (None, None)
                    numbers = {"metric": metric["name"], "ci95_low": low, "ci95_high": high}
                    yield {**metric, **of_run, **of_subset, **numbers}


_LATEX = {
    "\\": r"\textbackslash{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
}


def latex_lines(reports: Sequence[Document], *, verbose: bool) -> Iterator[str]:
    """A table for papers; needs the package booktabs."""
    names = labels(reports)
    yield rf"\begin{{tabular}}{{ll{'r' * len(names)}}}"
    yield r"\toprule"
    yield " & ".join(("Benchmark", "Metric", *map(_latex, names))) + r" \\"
    yield r"\midrule"
    for row in side_rows(reports, verbose=verbose):
        cells = [_latex(shown(cell)) for cell in row.cells]
        cells = [rf"\textbf{{{text}}}" if at == row.best else text for at, text in enumerate(cells)]
        name = f"{row.benchmark} {row.subset}".strip()
        yield " & ".join((_latex(name), _latex(row.metric), *cells)) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in printable(text))
