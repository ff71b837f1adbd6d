"""`evalmesh report`: the table of a run, from its outputs, from the platform's folder, or from a server."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from rich.table import Table

from evalmesh.cli import exits
from evalmesh.cli.eval.outputs import find_folder, run_id_of
from evalmesh.cli.eval.show import lost_lines, make_console
from evalmesh.cli.eval.table import render_table
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.free_values import parse_json
from evalmesh.domain.layout import is_safe_name, report_json_key
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
    for line in lost_lines(report):
        print(line)
    return exits.OK


def _find(args: argparse.Namespace) -> Mapping[str, Any]:
    path = Path(args.run).expanduser() if args.run else _newest(Path(args.work_dir).expanduser())
    if path.is_dir():
        path = path / "report.json"
    if path.is_file():
        return _read(path)
    run_id = run_id_of(args.run or str(path.parent))
    if args.server:
        with Client(args.server) as client:
            return client.report(run_id)
    work_dir = Path(args.work_dir).expanduser()
    folder = find_folder(run_id, work_dir) if is_safe_name(run_id) else None
    candidates = [folder / "report.json"] if folder else []
    if is_safe_name(run_id):
        candidates.append(work_dir / ".evalmesh" / "objects" / report_json_key(run_id))
    for candidate in candidates:
        if candidate.is_file():
            return _read(candidate)
    raise NotFound(
        f"There is no report of {run_id!r} below {str(work_dir)!r}. See `evalmesh runs list`, name another --work-dir, "
        f"or a platform with --server; a run that was cut short gets its report from `evalmesh runs resume`."
    )


def _newest(work_dir: Path) -> Path:
    reports = sorted(work_dir.glob("*/report.json"), key=lambda path: path.stat().st_mtime)
    own = work_dir / "report.json"
    if own.is_file():
        reports.append(own)
    if not reports:
        raise NotFound(f"There is no report below {str(work_dir)!r} yet; try: evalmesh eval --demo")
    return max(reports, key=lambda path: path.stat().st_mtime)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        report = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{str(path)!r} is no report: {error}.") from None
    if not isinstance(report, dict) or "benchmarks" not in report:
        raise InvalidInput(f"{str(path)!r} is no report of evalmesh: it has no benchmarks.")
    if report.get("schema_version") != 1:
        raise InvalidInput(
            f"{str(path)!r} has report schema {report.get('schema_version')}; this build reads 1. Update evalmesh."
        )
    return cast("Mapping[str, Any]", report)


def markdown(table: Table) -> str:
    """The same table for documents and pull requests."""
    columns = [[str(column.header), *(str(cell) for cell in column.cells)] for column in table.columns]
    right = [column.justify == "right" for column in table.columns]
    rows = [[cell.replace("|", "\\|") for cell in row] for row in zip(*columns, strict=True)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, f"|{'|'.join('---:' if is_right else '---' for is_right in right)}|")
    return "\n".join(lines)
