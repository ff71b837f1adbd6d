"""`evalmesh report`: the table of a run, or of several side by side."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalmesh.cli import exits
from evalmesh.cli.eval.compare_table import described, escaped
from evalmesh.cli.eval.found import find_run
from evalmesh.cli.eval.show import lost_lines, note_lines, show_report
from evalmesh.cli.eval.side_by_side import CSV_COLUMNS, csv_rows, latex_lines, side_rows, side_table
from evalmesh.cli.eval.table import remarks, render_table, warnings
from evalmesh.cli.printable import printable
from evalmesh.cli.printing import as_csv, console_for, emit, form_of, markdown
from evalmesh.results.comparing.likeness import labels

_FORMS = ("json", "csv", "markdown", "html", "latex")
Document = Mapping[str, Any]


def run(args: argparse.Namespace) -> int:
    """Reads, renders, prints."""
    form = form_of(args, _FORMS)
    work_dir = Path(args.work_dir).expanduser()
    reports = [find_run(text, work_dir, args.server).report for text in args.runs or [None]]
    if form == "table":
        _print_table(reports, args)
    else:
        emit(_pieces(form, reports, verbose=args.verbose), args.output)
    return exits.OK


def _print_table(reports: Sequence[Document], args: argparse.Namespace) -> None:
    console, text = console_for(args.output)
    if len(reports) == 1:
        show_report(console, reports[0], verbose=args.verbose)
    else:
        for line in _which(reports):
            console.say(line)
        console.print(side_table(reports, verbose=args.verbose))
        for report in reports:
            for line in _below(report):
                console.say(f"{report['run']['id']} {line}")
    if text is not None:
        emit([text.getvalue()], args.output)


def _below(report: Document) -> list[str]:
    """What a reader of its scores must know."""
    return [*warnings(report), *lost_lines(report), *note_lines(report)]


def _which(reports: Sequence[Document]) -> Iterator[str]:
    """Which runs are shown."""
    for label, report in zip(labels(reports), reports, strict=True):
        named = report["run"]["display_name"] or len(reports) > 1
        yield printable((f"{label}: " if named else "") + described(_side(report)))


def _side(report: Document) -> dict[str, Any]:
    run, model = report["run"], report["model"]
    return {
        "id": run["id"],
        "create_time": run["create_time"],
        **{name: model[name] for name in ("url", "simulated")},
        "model": model["name"],
    }


def _pieces(form: str, reports: Sequence[Document], *, verbose: bool) -> Iterator[str]:
    if form == "json":
        # One report is an object as it is stored, several are a list of them.
        yield json.dumps(reports[0] if len(reports) == 1 else reports, indent=2, ensure_ascii=False) + "\n"
    elif form == "csv":
        yield from as_csv(csv_rows(reports), CSV_COLUMNS)
    elif form == "latex":
        yield from (f"{line}\n" for line in latex_lines(reports, verbose=verbose))
    elif form == "markdown":
        yield from (f"- {escaped(line)}\n" for line in _which(reports))
        if len(reports) == 1:
            yield f"\n{render_table(reports[0], verbose=verbose, model=True).markdown()}\n"
            yield "".join(
                f"\n{escaped(line)}\n" for line in (*remarks(reports[0], verbose=verbose), *_below(reports[0]))
            )
        else:
            yield f"\n{markdown(side_table(reports, verbose=verbose))}\n"
    elif len(reports) == 1:
        from evalmesh.pages.runs.page import render_html  # noqa: PLC0415  # templates take a while

        yield render_html(reports[0])
    else:
        from evalmesh.pages.runs.compare_page import render_side_by_side  # noqa: PLC0415  # likewise

        yield render_side_by_side(labels(reports), reports, list(side_rows(reports, verbose=verbose)))
