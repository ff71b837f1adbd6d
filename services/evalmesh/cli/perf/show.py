"""What a load test prints at its end: tables, what failed, what limits its figures, where things are."""

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any

from rich.console import Console
from rich.text import Text

from evalmesh.cli.perf.outcome import PerfOutcome
from evalmesh.cli.perf.outputs import summary_of
from evalmesh.cli.perf.remarks import (
    best_lines,
    client_lines,
    failure_lines,
    generator_lines,
    notes_of,
    output_lines,
    search_line,
)
from evalmesh.cli.perf.table import (
    lengths_table,
    levels_tables,
    memory_line,
    objective_table,
    repeats_legend,
    repeats_table,
    search_table,
    undecided_lines,
)
from evalmesh.domain.state import State

_SHOWN_NOTES = 8


def show_outcome(console: Console, outcome: PerfOutcome) -> None:
    """Prints everything about a load test that has ended."""
    test, perf, folder = outcome.load_test, outcome.perf, outcome.folder
    if test.state is not State.SUCCEEDED:
        why = f": {test.error}" if test.error else ""
        console.print(Text(f"{test.id} {test.state.value.lower()}{why}", style="bold red"), soft_wrap=True)
    if perf is not None:
        show_perf(console, perf, said=test.notes)
        for name, file in (("report", "perf_report.html"), ("figures", "perf.json"), ("requests", "requests.parquet")):
            if (folder / file).is_file():
                console.print(Text(f"{name:8} {folder / file}"), soft_wrap=True)
    for line in outcome.exported:
        console.print(Text(line), soft_wrap=True)
    for line in outcome.export_errors:
        console.print(Text(f"export failed: {line}", style="bold red"), soft_wrap=True)
    for line in outcome.export_again:
        console.print(Text(f"again    {line}  # exports alone"), soft_wrap=True)
    console.print(Text(f"again    evalmesh perf -c {quote(str(folder / 'perf.yaml'))}"), soft_wrap=True)


def show_perf(console: Console, perf: Mapping[str, Any], said: Sequence[str] = ()) -> None:
    """The tables of a document and what must be known about them, but for notes that were `said` before."""
    levels = perf["levels"]
    console.print(Text(summary_of(perf), style="dim"), soft_wrap=True)
    for part in levels_tables(perf, console) if levels else ():
        console.print(part)
    if perf["search"]:
        # A search repeats probes to be sure; its evidence says what came of it.
        console.print(search_table(perf["search"]))
        console.print(Text(search_line(perf["search"]), style="bold"), soft_wrap=True)
    else:
        _show_sweep(console, perf)
    for line in best_lines(perf):
        console.print(Text(line, style="bold"), soft_wrap=True)
    _show_remarks(console, perf, said)


def _show_sweep(console: Console, perf: Mapping[str, Any]) -> None:
    if (lengths := lengths_table(perf)) is not None:
        console.print(lengths)
        if memory := memory_line(perf):
            console.print(Text(memory), soft_wrap=True)
    if (objective := objective_table(perf, console)) is not None:
        console.print(objective)
        for line in undecided_lines(perf):
            console.print(Text(line, style="dim"), soft_wrap=True)
    if (repeats := repeats_table(perf, console)) is not None:
        console.print(repeats)
        console.print(Text(repeats_legend(perf), style="dim"), soft_wrap=True)


def _show_remarks(console: Console, perf: Mapping[str, Any], said: Sequence[str]) -> None:
    levels = perf["levels"]
    for text, unusable in client_lines(levels):
        console.print(Text(text, style="bold red" if unusable else "dim"), soft_wrap=True)
    # Repeats of a level often say the same.
    for line in dict.fromkeys(line for level in levels for line in generator_lines(level)):
        console.print(Text(line, style="bold red"), soft_wrap=True)
    for line in dict.fromkeys(line for level in levels for line in failure_lines(level)):
        console.print(Text(line, style="yellow"), soft_wrap=True)
    for line in output_lines(perf):
        console.print(Text(f"note: {line}", style="yellow"), soft_wrap=True)
    told = notes_of(perf, said)
    for note in told[:_SHOWN_NOTES]:
        console.print(Text(f"note: {note}", style="dim"), soft_wrap=True)
    if len(told) > _SHOWN_NOTES:
        more = "1 more note is" if len(told) == _SHOWN_NOTES + 1 else f"{len(told) - _SHOWN_NOTES} more notes are"
        console.print(Text(f"{more} in perf.json", style="dim"))
