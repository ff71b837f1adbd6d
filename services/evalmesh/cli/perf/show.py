"""What a load test prints at its end: tables, what failed, what limits its figures, where things are."""

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any

from rich.console import Console
from rich.text import Text

from evalmesh.cli.perf.outcome import PerfOutcome
from evalmesh.cli.perf.outputs import summary_of
from evalmesh.cli.perf.table import (
    best_line,
    client_lines,
    failure_lines,
    lengths_table,
    levels_tables,
    memory_line,
    objective_table,
    repeats_table,
    search_line,
    search_table,
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
        show_perf(console, perf)
        for name, file in (("report", "perf_report.html"), ("figures", "perf.json"), ("requests", "requests.parquet")):
            if (folder / file).is_file():
                console.print(Text(f"{name:8} {folder / file}"), soft_wrap=True)
    for line in outcome.exported:
        console.print(Text(line), soft_wrap=True)
    for line in outcome.export_errors:
        console.print(Text(f"export failed: {line}", style="bold red"), soft_wrap=True)
    console.print(Text(f"again    evalmesh perf -c {quote(str(folder / 'perf.yaml'))}"), soft_wrap=True)


def show_perf(console: Console, perf: Mapping[str, Any]) -> None:
    """The tables of a document and what must be known about them."""
    levels = perf["levels"]
    console.print(Text(summary_of(perf), style="dim"), soft_wrap=True)
    for part in levels_tables(perf, console) if levels else ():
        console.print(part)
    # A search repeats probes to be sure; its evidence says what came of it.
    if not perf["search"] and (lengths := lengths_table(perf)) is not None:
        console.print(lengths)
        if memory := memory_line(perf):
            console.print(Text(memory), soft_wrap=True)
    for table in (objective_table(perf), None if perf["search"] else repeats_table(perf)):
        if table is not None:
            console.print(table)
    if perf["search"]:
        console.print(search_table(perf["search"]))
        console.print(Text(search_line(perf["search"]), style="bold"), soft_wrap=True)
    if best := best_line(perf):
        console.print(Text(best, style="bold"), soft_wrap=True)
    _show_remarks(console, perf)


def _show_remarks(console: Console, perf: Mapping[str, Any]) -> None:
    levels = perf["levels"]
    for level in levels:
        for line in client_lines(level):
            console.print(Text(line, style="bold red"), soft_wrap=True)
        for line in failure_lines(level):
            console.print(Text(line, style="yellow"), soft_wrap=True)
    told = list(dict.fromkeys([*perf["notes"], *level_notes(levels)]))
    for note in told[:_SHOWN_NOTES]:
        console.print(Text(f"note: {note}", style="dim"), soft_wrap=True)
    if len(told) > _SHOWN_NOTES:
        console.print(Text(f"{len(told) - _SHOWN_NOTES} more notes are in perf.json", style="dim"))


def level_notes(levels: Sequence[Mapping[str, Any]]) -> list[str]:
    """Notes of levels; what is true of all of them is said once, else with the levels it is true of."""
    where: dict[str, list[str]] = {}
    for level in levels:
        for note in level["notes"]:
            where.setdefault(note, []).append(level["label"])
    whole = len(levels)
    return [note if len(labels) == whole else f"{_listed(labels)}: {note}" for note, labels in where.items()]


def _listed(labels: Sequence[str]) -> str:
    known = list(dict.fromkeys(labels))
    return ", ".join(known[:3]) + (f" and {len(known) - 3} more" if len(known) > 3 else "")
