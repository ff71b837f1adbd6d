"""A comparison in the terminal: what differs, a row per benchmark, the samples that flipped, the matrix, the gates."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evalmesh.cli.printable import one_line, printable
from evalmesh.domain.natural_order import by_name

Document = Mapping[str, Any]

_STYLES = {"better": "green", "worse": "bold red", "inconclusive": "dim"}
_OUTCOMES = {"met": "green", "missed": "bold red", "undecided": "yellow"}
_FEW_SUBSETS = 10
_TEXT_CHARS = 60
_MARKDOWN = frozenset("\\`*_[]<>#|")
_TOLD = frozenset({"model.name", "model.url", "dataset_digest", "version"})
"""Differences that are told elsewhere, or that say nothing by themselves."""


def show_comparison(console: Console, document: Document, flips: Iterable[Document], *, verbose: bool) -> None:
    """Prints everything but the outcome of gates."""
    runs = document["runs"]
    for letter, run in zip(letters(len(runs)), runs, strict=True):
        _line(console, f"{letter}  {plain(run['label'], _TEXT_CHARS)}: {described(run)}")
    shown = list(flips)
    for comparison in document["comparisons"]:
        at = comparison["run"]
        b = letters(len(runs))[at]
        console.print()
        if len(runs) > 2:
            _line(console, f"{b} against A: {runs[at]['label']} against {runs[0]['label']}", "bold")
        for text, style in remarks(comparison):
            _line(console, text, style)
        console.print(comparison_table(comparison, b, verbose=verbose))
        for text in notes(comparison):
            _line(console, text, "dim")
        if found := [one for one in shown if one["run"] == at]:
            console.print(flips_table(found, b))
    if document["matrix"]:
        console.print(matrix_table(document))
    _line(console, family(document), "dim")


def _line(console: Console, text: str, style: str = "") -> None:
    # Text, never markup: names come from users and may hold square brackets.
    console.print(Text(printable(text), style=style), soft_wrap=True)


def letters(count: int) -> str:
    """A name for each run in tables: A is the baseline."""
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:count]


def described(run: Document) -> str:
    """Which run it is."""
    simulated = " (simulated)" if run["simulated"] else ""
    where = f" at {run['url']}" if run["url"] else ""
    return f"run {run['id']}, model {run['model']}{simulated}{where}, {run['create_time']}"


def remarks(comparison: Document) -> Iterator[tuple[str, str]]:
    """What a reader must know before the numbers, and its style."""
    for warning in comparison["warnings"]:
        yield f"warning: {warning}", "yellow"
    differs = [*comparison["differs"], *_shared(comparison["benchmarks"])]
    if differs := [one for one in differs if one["name"].rpartition(": ")[2] not in _TOLD]:
        told = "; ".join(f"{one['name']} {_value(one['a'])} -> {_value(one['b'])}" for one in differs)
        yield f"differs: {told}", ""
    for side in ("a", "b"):
        if names := comparison[f"only_in_{side}"]:
            yield f"only in {side.upper()}: {', '.join(names)}", "dim"


def _shared(benchmarks: Sequence[Document]) -> Iterator[dict[str, Any]]:
    """Each difference once, with the benchmarks that have it where they are not all."""
    found: dict[str, tuple[Document, list[str]]] = {}
    for benchmark in benchmarks:
        for one in benchmark["differs"]:
            found.setdefault(repr(one), (one, []))[1].append(benchmark["name"])
    for one, names in found.values():
        whose = "" if len(names) == len(benchmarks) else f"{', '.join(names)}: "
        yield {**one, "name": f"{whose}{one['name']}"}


def _value(value: Any) -> str:
    return "-" if value in (None, "") else plain(str(value), _TEXT_CHARS)


def plain(text: str, most: int) -> str:
    """One printable line, cut to its beginning."""
    line = one_line(text[: 4 * most])
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[: most - 3]}..."


def comparison_table(comparison: Document, b: str = "B", *, verbose: bool = False) -> Table:
    """Two lines for each metric of each benchmark."""
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("Benchmark", no_wrap=True)
    for heading in ("A", b, f"{b} - A", "Won", "Lost", "p", "Verdict"):
        table.add_column(heading, justify="left" if heading == "Verdict" else "right", no_wrap=True)
    for benchmark in comparison["benchmarks"]:
        for at, metric in enumerate(benchmark["metrics"]):
            _add(table, benchmark["name"] if at == 0 else "", metric, primary=at == 0)
        subsets = by_name(benchmark["subsets"])
        if len(subsets) > 1 and (verbose or len(subsets) <= _FEW_SUBSETS):
            for subset in subsets:
                for at, metric in enumerate(subset["metrics"]):
                    _add(table, printable(f"  {subset['name']}") if at == 0 else "", metric, primary=False)
        table.add_section()
    return table


def _add(table: Table, name: str, metric: Document, *, primary: bool) -> None:
    verdict = metric["verdict"] or ""
    smallest = f"sees {metric['smallest']:.3f}" if metric["smallest"] is not None else ""
    named = f"{name}\n{metric['name']}, n {metric['n']:,}" if name else f"{metric['name']}\nn {metric['n']:,}"
    cells = (
        Text(named, style="" if primary else "dim"),
        Text(number(metric["a"])),
        Text(number(metric["b"])),
        Text(f"{signed(metric['difference'])}\n{interval(metric['ci95'])}"),
        Text(f"{metric['wins']:,}"),
        Text(f"{metric['losses']:,}"),
        Text(p_value(metric["p_corrected"] if metric["judged"] else metric["p_value"])),
        Text.assemble((verdict, _STYLES.get(verdict, "")), f"\n{smallest}"),
    )
    table.add_row(*cells)


def number(value: float | None) -> str:
    """A mean."""
    return "-" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.5g}"


def signed(value: float | None) -> str:
    """A difference."""
    return "-" if value is None else f"{value:+.3f}" if abs(value) < 100 else f"{value:+.5g}"


def interval(ci95: Sequence[float] | None) -> str:
    """Of a difference."""
    return "-" if ci95 is None else f"{signed(ci95[0])} to {signed(ci95[1])}"


def p_value(value: float | None) -> str:
    """As papers have it."""
    if value is None:
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def notes(comparison: Document) -> Iterator[str]:
    """What is left out, and what that could mean."""
    for benchmark in comparison["benchmarks"]:
        metric = benchmark["metrics"][0]
        out = metric["left_out"]
        if total := sum(out.values()):
            how = "left out" if benchmark["without_score"] == "left_out" else "counted as 0"
            bounds = metric["bounds"]
            told = (
                f"; at worst and at best B - A would be {signed(bounds[0])} and {signed(bounds[1])}" if bounds else ""
            )
            yield (
                f"{benchmark['name']}: samples without a score, {how}: {total:,} ({out['a']:,} in A alone, "
                f"{out['b']:,} in B alone, {out['both']:,} in both){told}"
            )
        if metric["clusters"] is not None and metric["clusters"] < metric["n"]:
            yield f"{benchmark['name']}: the {metric['n']:,} samples come in {metric['clusters']:,} independent groups"
        if benchmark["not_compared"]:
            yield f"{benchmark['name']}: not compared sample by sample: {', '.join(benchmark['not_compared'])}"


def family(document: Document) -> str:
    """How to read p-values and verdicts."""
    judged = document["judged"]
    many = f"p is corrected for the {judged} comparisons (Holm). " if judged > 1 else ""
    return f"{many}A verdict stands at 5 %. sees: the smallest difference that so many samples show in 4 of 5 cases."


def flips_table(flips: Sequence[Document], b: str) -> Table:
    """Samples on which the sides differ."""
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("Flips", overflow="fold", ratio=3)
    table.add_column(f"{b} - A", justify="right", no_wrap=True)
    for heading in ("Target", "Answer A", f"Answer {b}"):
        table.add_column(heading, overflow="fold", ratio=2)
    for one in flips:
        gain = one["b"]["value"] - one["a"]["value"]
        cells = (f"{one['benchmark']} {one['sample_id']}", f"{gain:+.3g}", *flip_texts(one))
        table.add_row(*(Text(plain(cell, _TEXT_CHARS)) for cell in cells))
    return table


def flip_texts(flip: Document) -> tuple[str, str, str]:
    """Target and both answers."""
    a, b = (" | ".join("none" if one is None else one for one in flip[side]["answers"]) for side in "ab")
    return " | ".join(flip["target"]), a, b


def matrix_table(document: Document) -> Table:
    """Every two runs: the row against the column."""
    names = letters(len(document["runs"]))
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=0, title_justify="left")
    table.title = Text("Row against column: mean difference, benchmarks better and worse", style="bold")
    table.add_column("", overflow="fold")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    cells = matrix_cells(document)
    for row, name in enumerate(names):
        label = printable(f"{name} {document['runs'][row]['label']}")
        table.add_row(Text(label), *(Text(cells.get((row, column), "")) for column in range(len(names))))
    return table


def matrix_cells(document: Document) -> dict[tuple[int, int], str]:
    """By (row, column)."""
    cells: dict[tuple[int, int], str] = {}
    for one in document["matrix"]:
        a, b, mean = one["a"], one["b"], one["mean_difference"]
        if mean is None:
            cells[a, b] = cells[b, a] = "nothing shared"
            continue
        cells[b, a] = f"{signed(mean)} ({one['better']}:{one['worse']})"
        cells[a, b] = f"{signed(-mean)} ({one['worse']}:{one['better']})"
    return cells


def show_gates(console: Console, document: Document) -> None:
    """A line per gate, run and benchmark."""
    for one in document["gates"]:
        outcome = (one["outcome"], _OUTCOMES[one["outcome"]])
        console.print(Text.assemble(outcome, f"  {one['gate']}: {gate_place(one, document)}"), soft_wrap=True)


def gate_place(one: Document, document: Document) -> str:
    """What a gate was judged on."""
    run = f" of {document['runs'][one['run']]['label']}" if len(document["runs"]) > 2 else ""
    return f"{'/'.join(filter(None, (one['benchmark'], one['subset'])))} {one['metric']}{run}"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{char}" if char in _MARKDOWN else char for char in plain(text, len(text)))
