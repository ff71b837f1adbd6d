"""Rows of local files, one at a time: JSON lines, JSON arrays, CSV, TSV, Parquet and plain text, also gzipped."""

import csv
import gzip
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from evalmesh.domain.errors import InvalidInput
from evalmesh.load_generator.prompts import json_stream
from evalmesh.load_generator.prompts.base import Bad

_FIELD = {"field": "prompts.file_digest"}
_BOM = b"\xef\xbb\xbf"
_KINDS = {
    "jsonl": "lines",
    "ndjson": "lines",
    "json": "json",
    "csv": "csv",
    "tsv": "tsv",
    "txt": "text",
    "parquet": "parquet",
}
_PARQUET_BATCH = 256
_SNIFFED_BYTES = 4096

Record = tuple[str, Any]
"""(where it stands: `line 17`, its value: an object, a list, a text, or `Bad`)."""


def records(path: Path, name: str = "") -> Iterator[Record]:
    """Rows in the order of the file; blank lines are none.

    `name` is what the file was called: its suffix says what is in it, and without a known one its first character
    does. A row that cannot be read comes as `Bad`; raises `InvalidInput` when reading cannot go on.
    """
    kind = kind_of(path, name)
    try:
        with opened(path) as file:
            if kind == "json":
                yield from ((f"item {number}", item) for number, item in enumerate(json_stream.items(file), 1))
            elif kind == "lines":
                yield from _json_lines(file)
            elif kind in {"csv", "tsv"}:
                yield from _delimited(file, "\t" if kind == "tsv" else ",")
            elif kind == "parquet":
                yield from _parquet(file)
            else:
                yield from _text(file)
    except (OSError, EOFError, csv.Error) as error:
        raise InvalidInput(f"The data set file cannot be read: {error}. Check that it is whole.", _FIELD) from error


def text_lines(path: Path) -> Iterator[Record]:
    """Every line as a text, whatever the file is called."""
    try:
        with opened(path) as file:
            yield from _text(file)
    except (OSError, EOFError) as error:
        raise InvalidInput(f"The data set file cannot be read: {error}. Check that it is whole.", _FIELD) from error


def kind_of(path: Path, name: str = "") -> str:
    """`lines`, `json`, `csv`, `tsv`, `parquet` or `text`."""
    suffixes = (name or path.name).lower().removesuffix(".gz").rsplit(".", 1)
    kind = _KINDS.get(suffixes[-1], "") if len(suffixes) > 1 else ""
    if kind not in {"", "json"}:
        return kind
    try:
        with opened(path) as file:
            start = file.read(_SNIFFED_BYTES).removeprefix(_BOM).lstrip()
    except (OSError, EOFError) as error:
        raise InvalidInput(f"The data set file cannot be read: {error}. Check that it is whole.", _FIELD) from error
    if start.startswith(b"["):
        # A list per line is a form of JSON lines; an array over the whole file does not end on its first line.
        first, _, rest = start.partition(b"\n")
        return "lines" if rest.lstrip().startswith(b"[") and first.rstrip().endswith(b"]") else "json"
    return "lines" if start.startswith(b"{") or kind else "text"


def opened(path: Path) -> IO[bytes]:
    """The file, unpacked if it is gzipped."""
    if not path.is_file():
        raise InvalidInput("The data set file is not there. Import it again.", _FIELD)
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path, "rb")) if packed else path.open("rb")


def decoded(line: str | bytes) -> Any:
    """A JSON text as a value; raises `ValueError`."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _numbered(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(file, 1):
        bare = (line.removeprefix(_BOM) if number == 1 else line).strip()
        if bare:
            yield number, bare


def _json_lines(file: IO[bytes]) -> Iterator[Record]:
    for number, line in _numbered(file):
        where = f"line {number}"
        try:
            yield where, decoded(line)
        except ValueError as error:
            yield where, Bad(where, f"no valid JSON: {error}")


def _text(file: IO[bytes]) -> Iterator[Record]:
    for number, line in _numbered(file):
        where = f"line {number}"
        try:
            yield where, line.decode()
        except UnicodeDecodeError:
            yield where, Bad(where, "no valid UTF-8")


def _delimited(file: IO[bytes], delimiter: str) -> Iterator[Record]:
    # The module's own limit is below what long-context prompts have.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    lines = (
        (line.removeprefix(_BOM) if number == 0 else line).decode(errors="replace") for number, line in enumerate(file)
    )
    reader = csv.reader(lines, delimiter=delimiter)
    header = [cell.strip() for cell in next(reader, [])]
    while True:
        where = f"line {reader.line_num + 1}"
        cells = next(reader, None)
        if cells is None:
            return
        if not cells:
            continue
        if len(cells) != len(header):
            yield where, Bad(where, f"{len(cells)} fields where the header has {len(header)}")
        else:
            yield where, dict(zip(header, cells, strict=True))


def _parquet(file: IO[bytes]) -> Iterator[Record]:
    import pyarrow as pa  # noqa: PLC0415 - 100 ms and 60 MB that only Parquet users should pay
    import pyarrow.parquet as pq  # noqa: PLC0415

    number = 0
    try:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=_PARQUET_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except pa.ArrowException as error:
        raise InvalidInput(f"The data set file is no valid Parquet: {error}. Fetch it again.", _FIELD) from error
