"""`evalmesh report`: the table of a run, from its outputs, from the platform's folder, or from a server."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from evalmesh.cli import exits
from evalmesh.cli.addresses import check_server
from evalmesh.cli.eval.show import lost_lines, make_console, note_lines
from evalmesh.cli.eval.table import render_table
from evalmesh.cli.outputs import RUNS
from evalmesh.cli.parser import PlaceOptions
from evalmesh.cli.which import LATEST, Known, choose, none_such
from evalmesh.domain.errors import NotFound
from evalmesh.domain.layout import is_safe_name, report_json_key
from evalmesh.domain.run_filter import RunFilter
from evalmesh.sdk import Client


def run(args: argparse.Namespace) -> int:
    """Reads, renders, prints."""
    report = _find(args)
    if args.format == "json":
        print(json.dumps(report, indent=2, ensure_ascii=False))
        return exits.OK
    table = render_table(report, verbose=args.verbose)
    if args.format == "markdown":
        print(markdown(table))
    else:
        make_console().print(table)
    for line in (*lost_lines(report), *note_lines(report)):
        print(line)
    return exits.OK


def _find(args: argparse.Namespace) -> Mapping[str, Any]:
    work_dir = Path(args.work_dir).expanduser()
    if args.work_dir != PlaceOptions.work_dir and not args.server and not work_dir.is_dir():
        raise NotFound(f"work_dir: {str(work_dir)!r} is no folder that exists.", {"field": "work_dir"})
    given = str(RUNS.newest_folder(work_dir)) if args.run in {None, LATEST} and not args.server else args.run or LATEST
    path = RUNS.report_at(Path(given).expanduser())
    if path is not None:
        return RUNS.read_report(path)
    if args.server:
        check_server(args.server)
        with Client(args.server) as client:
            return client.report(_id_at(client, given, work_dir))
    run_id = RUNS.id_of(given, work_dir)
    if is_safe_name(run_id):
        folder = RUNS.find_folder(run_id, work_dir)
        stored = work_dir / ".evalmesh" / "objects" / report_json_key(run_id)
        for place in (*([folder] if folder else []), stored):
            if (path := RUNS.report_at(place)) is not None:
                return RUNS.read_report(path)
    raise NotFound(
        f"There is no report of {run_id!r} below {str(work_dir)!r}. See `evalmesh runs list`, name another --work-dir, "
        f"or a platform with --server; a run that was cut short gets its report from `evalmesh runs resume`."
    )


def _id_at(client: Client, given: str, work_dir: Path) -> str:
    """What a word means to a server."""
    found = None if given == LATEST else RUNS.path_id(given, work_dir)
    if found is not None:
        return found
    runs, _ = client.find_runs(RunFilter(word="" if given == LATEST else given), 1 if given == LATEST else 1000)
    known = [Known(one.id, one.spec.display_name) for one in runs]
    chosen = choose(given, known, noun=RUNS.noun, lister=RUNS.lister)
    if chosen is None:
        raise none_such(given, known, noun=RUNS.noun, lister=f"{RUNS.lister} --server {client.address}")
    return chosen


def markdown(table: Table) -> str:
    """The same table for documents and pull requests."""
    columns = [[str(column.header), *(str(cell) for cell in column.cells)] for column in table.columns]
    right = [column.justify == "right" for column in table.columns]
    rows = [[cell.replace("|", "\\|") for cell in row] for row in zip(*columns, strict=True)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, f"|{'|'.join('---:' if is_right else '---' for is_right in right)}|")
    return "\n".join(lines)
