"""Documents and tables to standard output or into a file, in the form that is asked for."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from evalmesh.cli.console import SafeConsole, console_into, make_console
from evalmesh.domain.errors import InvalidInput
from evalmesh.process.files import appearing

_BY_SUFFIX = {".json": "json", ".csv": "csv", ".md": "markdown", ".html": "html", ".htm": "html", ".tex": "latex"}


def form_of(args: argparse.Namespace, forms: Iterable[str]) -> str:
    """The form asked for, or else the one that the name of the file says. Raises `InvalidInput`."""
    if args.format:
        return str(args.format)
    if not args.output:
        return "table"
    form = _BY_SUFFIX.get(Path(args.output).suffix.lower(), "table")
    if form not in {"table", *forms}:
        raise InvalidInput(f"output: {args.output!r} cannot be written in that form; choose one with --format.")
    return form


def emit(pieces: Iterable[str], output: str | None) -> None:
    """Writes text piece by piece; a file appears when it is complete."""
    if not output:
        sys.stdout.writelines(map(_encodable, pieces))
        return
    path = Path(output).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with appearing(path) as file:
            file.writelines(piece.encode("utf-8", "replace") for piece in pieces)
    except OSError as error:
        raise InvalidInput(
            f"output: {output!r} cannot be written ({(error.strerror or str(error)).lower()}); name another file.",
            {"field": "output"},
        ) from error
    print(f"wrote {path}", file=sys.stderr)


def _encodable(text: str) -> str:
    """Half of a surrogate pair, which JSON may hold, is no text."""
    return text.encode("utf-8", "replace").decode()


def console_for(output: str | None) -> tuple[SafeConsole, io.StringIO | None]:
    """A console, and what it wrote if that is to go to a file."""
    if not output:
        return make_console(), None
    text = io.StringIO()
    return console_into(text), text


def as_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[str]:
    """Rows under a heading; lists as JSON."""
    yield _csv_line(columns)
    for row in rows:
        yield _csv_line([_cell(row.get(column)) for column in columns])


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value


def markdown(table: Table) -> str:
    """The same table for documents and pull requests."""
    columns = [[str(column.header), *(str(cell) for cell in column.cells)] for column in table.columns]
    right = [column.justify == "right" for column in table.columns]
    rows = [[_markdown_cell(cell) for cell in row] for row in zip(*columns, strict=True)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, f"|{'|'.join('---:' if is_right else '---' for is_right in right)}|")
    return "\n".join(lines)


def _markdown_cell(text: str) -> str:
    return "<br>".join(line.replace("|", "\\|").replace("<", "&lt;") for line in text.splitlines())
