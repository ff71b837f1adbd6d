"""Rows out of files, one at a time: JSON lines, JSON, CSV, TSV, Parquet and plain text, each also gzipped.

Text is UTF-8. What is not is told with its place and never replaced: prompts of question marks would be measured and
scored as if they were the data set's.
"""

import csv
import gzip
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import IO, Any, Literal, TypeVar, cast

from evalmesh.domain.errors import InvalidInput
from evalmesh.wire import json_items
from evalmesh.wire.json_items import LIST_KEYS, decoded, not_utf8

T = TypeVar("T")
Kind = Literal["lines", "json", "csv", "tsv", "parquet", "text"]
KINDS: Mapping[str, Kind] = {
    "jsonl": "lines", "ndjson": "lines", "json": "json",
    "csv": "csv", "tsv": "tsv", "parquet": "parquet", "txt": "text",
}  # fmt: skip
"""By the end of a file's name, that of packing taken off."""
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_SHORT_BYTES, _LONG_BYTES = 1 << 16, 1 << 24
"""Of a first line: beyond the first it is looked at only where it may be a row, beyond the second not at all."""
_BATCH_ROWS = 256
_BATCH_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that cannot be used, by a fault of the file."""

    where: str
    """`line 17`."""
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


Placed = tuple[str, Any]
"""(where it stands: `line 17`, its value: an object, a list, a text, or `Bad`)."""


def kind_by_name(name: str) -> Kind | None:
    """What the name of a file says about it; `None` where it says nothing."""
    stem, dot, suffix = name.lower().removesuffix(".gz").rpartition(".")
    return KINDS.get(suffix) if dot and stem else None


@dataclass(frozen=True, slots=True)
class RowFile:
    """A file of rows. Raises `InvalidInput` with its name where it cannot be read, or not any further."""

    path: Path
    label: str
    """What messages call it; begins a sentence."""
    field: str
    """What named it."""

    def rows(self, kind: Kind, columns: Sequence[str] = ()) -> Iterator[Placed]:
        """Rows in file order; blank lines are none.

        With `columns`, a CSV or TSV file has no header (a first line made of exactly these names is taken for one all
        the same).
        """
        readers: dict[Kind, Callable[[IO[bytes]], Iterator[Placed]]] = {
            "lines": _json_lines,
            "json": self._json,
            "text": _text,
            "parquet": self._parquet,
            "csv": lambda file: self._delimited(file, ",", columns),
            "tsv": lambda file: self._delimited(file, "\t", columns),
        }
        yield from self._read(kind, readers[kind])

    def marks(self, kind: Kind, columns: Sequence[str] = ()) -> Iterator[None]:
        """One for each row that `rows` gives; JSON lines and Parquet are not decoded for it."""
        if kind in {"lines", "text"}:
            yield from self._read(kind, lambda file: (None for line in file if line.strip()))
        elif kind == "parquet":
            yield from self._read(kind, self._parquet_marks)
        else:
            yield from (None for _ in self.rows(kind, columns))

    def _read(self, kind: Kind, reader: Callable[[IO[bytes]], Iterator[T]]) -> Iterator[T]:
        try:
            with self._opened() as file:
                if kind != "parquet":
                    self._skip_mark(file)
                yield from reader(file)
        except (OSError, EOFError, zlib.error) as error:
            raise self._wrong(f"cannot be read: {error}. Check that the file is whole and readable.") from error

    def sniffed(self) -> Kind:
        """What the file's beginning says: JSON lines, a list (or an object around one), or text."""
        try:
            with self._opened() as file:
                self._skip_mark(file)
                line = b"\n"
                while line and not line.strip():
                    line = file.readline(_SHORT_BYTES)
                if line.startswith(b"{") and len(line) == _SHORT_BYTES:
                    line += file.readline(_LONG_BYTES)
                rest = file.read(1 << 12).strip()
        except (OSError, EOFError, zlib.error) as error:
            raise self._wrong(f"cannot be read: {error}. Check that the file is whole and readable.") from error
        if line.lstrip()[:1] not in {b"[", b"{"}:
            return "text"
        try:
            first = decoded(line.decode())
        except ValueError:
            # The first line of lines is whole. Broken ones are told by their number, if the next are whole.
            return "lines" if line.startswith(b"{") and rest.startswith(b"{") else "json"
        holds_list = isinstance(first, list) or any(isinstance(first.get(key), list) for key in LIST_KEYS)
        return "json" if holds_list and not rest else "lines"

    def _opened(self) -> IO[bytes]:
        with self.path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        return cast("IO[bytes]", gzip.open(self.path, "rb")) if packed else self.path.open("rb")

    def _skip_mark(self, file: IO[bytes]) -> None:
        """Editors on Windows write a mark at the start, and some of them no UTF-8."""
        start = file.read(len(_BOM))
        if start.startswith(_UTF16):
            raise self._wrong("is UTF-16; save it as UTF-8.")
        file.seek(len(_BOM) if start == _BOM else 0)

    def _wrong(self, what: str) -> InvalidInput:
        return InvalidInput(f"{self.label} {what}", {"field": self.field})

    def _json(self, file: IO[bytes]) -> Iterator[Placed]:
        try:
            for number, item in enumerate(json_items.items(file), 1):
                where = f"item {number}"
                yield where, Bad(where, str(item)) if isinstance(item, ValueError) else item
        except json_items.NoListError:
            raise self._wrong(
                "holds no list of rows: expected a list of objects, or an object with such a list under one of "
                f"{', '.join(LIST_KEYS)}."
            ) from None
        except ValueError as error:
            raise self._wrong(f"is not valid JSON: {error}. Repair the file from there on.") from error

    def _parquet(self, file: IO[bytes]) -> Iterator[Placed]:
        import pyarrow as pa  # noqa: PLC0415 - 100 ms and 60 MB that only Parquet users should pay
        import pyarrow.parquet as pq  # noqa: PLC0415

        number = 0
        try:
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(batch_size=_batch_rows(parquet.metadata)):
                    for row in batch.to_pylist():
                        number += 1
                        yield f"row {number}", row
        except pa.ArrowException as error:
            raise self._wrong(f"is not a valid Parquet file: {error}. Fetch it again.") from error

    def _parquet_marks(self, file: IO[bytes]) -> Iterator[None]:
        import pyarrow as pa  # noqa: PLC0415 - as in `_parquet`
        import pyarrow.parquet as pq  # noqa: PLC0415

        try:
            yield from repeat(None, pq.read_metadata(file).num_rows)
        except pa.ArrowException as error:
            raise self._wrong(f"is no readable Parquet file: {error}. Copy it again.") from error

    def _delimited(self, file: IO[bytes], delimiter: str, columns: Sequence[str]) -> Iterator[Placed]:
        # The module's limit of 128 KiB per field is below what long-context data sets hold.
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
        wrong: list[str] = []
        reader = csv.reader(_decoded_lines(file, wrong), delimiter=delimiter, strict=True)
        header = list(columns)
        first = True
        while True:
            where = f"line {reader.line_num + 1}"
            wrong.clear()
            try:
                cells = next(reader, None)
            except csv.Error as error:
                wrong.append(f"{error} (is a quotation mark missing?)")
                cells = [""]
            if cells is None:
                return
            if not cells:
                continue
            if first and wrong and not columns:
                raise self._wrong(f"has a header that cannot be read: {where}: {wrong[0]}.")
            if wrong:
                yield where, Bad(where, wrong[0])
            elif first and (not header or _is_header(cells, header)):
                header = [cell.strip() for cell in cells]
            elif len(cells) != len(header):
                yield where, Bad(where, f"{len(cells)} fields, expected {len(header)} ({', '.join(header)})")
            else:
                yield where, dict(zip(header, cells, strict=True))
            first = False


def _is_header(cells: Sequence[str], columns: Sequence[str]) -> bool:
    return {cell.strip().lower() for cell in cells} >= {column.lower() for column in columns}


def _decoded_lines(file: IO[bytes], wrong: list[str]) -> Iterator[str]:
    """Line by line, so that one bad byte spoils one row; what is bad goes to `wrong`."""
    for line in file:
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            wrong.append(not_utf8(error))
            yield line.decode(errors="replace")


def _numbered(file: IO[bytes]) -> Iterator[tuple[str, str | Bad]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            where = f"line {number}"
            try:
                yield where, line.decode().strip(" \t\r\n\v\f")
            except UnicodeDecodeError as error:
                yield where, Bad(where, not_utf8(error))


def _text(file: IO[bytes]) -> Iterator[Placed]:
    return _numbered(file)


def _json_lines(file: IO[bytes]) -> Iterator[Placed]:
    for where, line in _numbered(file):
        try:
            yield where, decoded(line) if isinstance(line, str) else line
        except ValueError as error:
            yield where, Bad(where, f"not valid JSON: {error}")


def _batch_rows(metadata: Any) -> int:
    """Rows to hold at a time: few where they are large, as rows with images are."""
    size_bytes: int = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    rows: int = metadata.num_rows
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // max(size_bytes, 1)))
