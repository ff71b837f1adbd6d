"""Reads rows out of files, one at a time: JSON lines, JSON, CSV, TSV, Parquet, each also gzipped."""

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from evalmesh.domain.errors import InvalidInput
from evalmesh.ports.dataset_source import Row

EXTENSIONS = tuple(
    extension + packing for extension in ("jsonl", "json", "csv", "tsv", "parquet") for packing in ("", ".gz")
)

_LIST_KEYS = ("examples", "data", "rows", "instances")
_BATCH_ROWS = 1024
_BATCH_BYTES = 32 << 20


def extension_of(path: Path) -> str:
    """`jsonl`, `csv.gz`, ...; empty for a file that cannot be read as rows."""
    name = path.name.lower()
    return next((extension for extension in EXTENSIONS if name.endswith("." + extension)), "")


def read_rows(path: Path, columns: Sequence[str] = ()) -> Iterator[Row | str]:
    """Rows in file order; in place of a row that cannot be parsed stands the reason, with its line number.

    Blank lines are no rows. With `columns`, a CSV or TSV file has no header (a first line made of exactly these names
    is taken for one all the same). JSON files are read whole, all others streamed. Raises `InvalidInput` when the file
    as a whole cannot be read.
    """
    kind = extension_of(path).removesuffix(".gz")
    if not kind:
        raise InvalidInput(
            f"'{path}' cannot be read as rows: file names end in one of {', '.join(EXTENSIONS)}.",
            {"field": "local_path", "value": str(path)},
        )
    try:
        if kind == "jsonl":
            yield from _json_lines(path)
        elif kind == "json":
            yield from _json(path)
        elif kind == "parquet":
            yield from _parquet(path)
        else:
            yield from _delimited(path, "\t" if kind == "tsv" else ",", columns)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"'{path}' cannot be read: {error}. Check that the file is whole and readable.") from error


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.name.lower().endswith(".gz") else path.open("rb")


def _json_lines(path: Path) -> Iterator[Row | str]:
    with _open(path) as file:
        yield from _parse_lines(file)


def _parse_lines(lines: IO[bytes] | Sequence[bytes]) -> Iterator[Row | str]:
    for number, line in enumerate(lines, start=1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901 - editors on Windows write a mark at the start
        if not line.strip():
            continue
        try:
            yield _as_row(json.loads(line), f"line {number}")
        except ValueError as error:  # of JSON or of UTF-8
            yield f"line {number} is not valid JSON: {error}"
        except RecursionError:
            yield f"line {number} is not valid JSON: nested too deeply"


def _as_row(value: Any, where: str) -> Row | str:
    return value if isinstance(value, dict) else f"{where} holds a {type(value).__name__}, expected an object"


def _json(path: Path) -> Iterator[Row | str]:
    with _open(path) as file:
        data = file.read()
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        lines = data.splitlines()
        if len(lines) > 1 and _is_json(lines[0]):  # JSON lines under the wrong name are common
            yield from _parse_lines(lines)
            return
        raise InvalidInput(f"'{path}' is not valid JSON: {error}. Repair the file.") from error
    if isinstance(value, dict):
        value = next((value[key] for key in _LIST_KEYS if isinstance(value.get(key), list)), None)
    if not isinstance(value, list):
        raise InvalidInput(
            f"'{path}' holds no list of rows: expected a list of objects, or an object with such a list under one of "
            f"{', '.join(_LIST_KEYS)}."
        )
    for number, item in enumerate(value, start=1):
        yield _as_row(item, f"item {number}")


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _parquet(path: Path) -> Iterator[Row | str]:
    import pyarrow as pa  # noqa: PLC0415 - 100 ms and 60 MB that only Parquet users should pay
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with _open(path) as file, pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=_batch_rows(parquet.metadata)):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise InvalidInput(f"'{path}' is not a valid Parquet file: {error}. Fetch it again.") from error


def _batch_rows(metadata: Any) -> int:
    """Rows to hold at a time: few where they are large, as rows with images are."""
    size_bytes: int = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    rows: int = metadata.num_rows
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // max(size_bytes, 1)))


def _delimited(path: Path, delimiter: str, columns: Sequence[str]) -> Iterator[Row | str]:
    # The module's limit of 128 KiB per field is below what long-context data sets hold.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with _open(path) as file:
        reader = csv.reader(_text_lines(file), delimiter=delimiter, strict=True)
        header = list(columns)
        first = True
        for line, cells in _records(reader):
            if isinstance(cells, str):
                yield f"line {line}: {cells}"
            elif first and (not header or _is_header(cells, header)):
                header = [cell.strip() for cell in cells]
            else:
                yield _zip(header, cells, line)
            first = False


def _text_lines(file: IO[bytes]) -> Iterator[str]:
    """Decoded line by line, so that one bad byte spoils one row: it comes through as a lone surrogate."""
    for number, line in enumerate(file):
        start = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
        yield start.decode("utf-8", errors="surrogateescape")


def _records(reader: Any) -> Iterator[tuple[int, list[str] | str]]:
    """(1-based number of the line where a record starts, its cells or what is wrong with it); blank lines left out."""
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, f"{error} (is a quotation mark missing?)"
            continue
        if cells:
            yield line, cells


def _is_header(cells: Sequence[str], columns: Sequence[str]) -> bool:
    return {cell.strip().lower() for cell in cells} >= {column.lower() for column in columns}


def _zip(header: Sequence[str], cells: Sequence[str], line: int) -> Row | str:
    if len(cells) != len(header):
        return f"line {line} has {len(cells)} fields, expected {len(header)} ({', '.join(header)})"
    if any("\udc80" <= char <= "\udcff" for cell in cells for char in cell if not cell.isascii()):
        return f"line {line} is not valid UTF-8"
    return dict(zip(header, cells, strict=True))
