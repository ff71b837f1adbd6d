"""Rows out of files, one at a time: JSON lines, JSON, CSV, TSV, Parquet, Arrow and plain text, each also gzipped.

What a file does not say of itself (encoding, what stands between fields) is found out, and noted where it was guessed.
Bytes that are no text are told with their place and never replaced: prompts of question marks would be measured and
scored as if they were the data set's.
"""

import csv
import dataclasses
import gzip
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, TypeVar, cast

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.row_form import RowForm
from evalmesh.wire import arrow_rows, json_items, text_encoding
from evalmesh.wire.json_items import LIST_KEYS, decoded
from evalmesh.wire.text_encoding import TextEncoding

T = TypeVar("T")
Kind = Literal["lines", "json", "csv", "tsv", "parquet", "arrow", "text"]
_BINARY = frozenset({"parquet", "arrow"})
KINDS: Mapping[str, Kind] = {
    "jsonl": "lines", "ndjson": "lines", "json": "json",
    "csv": "csv", "tsv": "tsv", "parquet": "parquet", "arrow": "arrow", "txt": "text",
}  # fmt: skip
"""By the end of a file's name, that of packing taken off."""
_SAID_DELIMITER = re.compile(rb"sep=([,;|\t])", re.IGNORECASE)
"""How Excel is told it, in a line before the header."""
_ZIP = b"PK\x03\x04"
_NAMED = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "'|'"}
_DELIMITERS = tuple(_NAMED)
_SHORT_BYTES, _LONG_BYTES = 1 << 16, 1 << 24
"""Of a first line: beyond the first it is looked at only where it may be a row, beyond the second not at all."""


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


class _Text(NamedTuple):
    """A file that is read: its text as UTF-8, and what it was written in."""

    file: IO[bytes]
    encoding: TextEncoding


_Reader = Callable[[_Text], Iterator[T]]


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
    form: RowForm = dataclasses.field(default_factory=RowForm)
    """What its user says of it."""
    notes: dict[str, None] = dataclasses.field(default_factory=dict)
    """What was guessed, in the order found."""

    def rows(self, kind: Kind, columns: Sequence[str] = ()) -> Iterator[Placed]:
        """Rows in file order; blank lines are none.

        With `columns`, a CSV or TSV file has no header (a first line made of exactly these names is taken for one all
        the same).
        """
        readers: dict[Kind, _Reader[Placed]] = {
            "lines": self._json_lines,
            "json": self._json,
            "text": self._numbered,
            "parquet": self._placed("parquet", arrow_rows.parquet_rows),
            "arrow": self._placed("arrow", arrow_rows.arrow_rows),
            "csv": lambda text: self._delimited(text, kind, columns),
            "tsv": lambda text: self._delimited(text, kind, columns),
        }
        yield from self._read(kind, readers[kind])

    def marks(self, kind: Kind, columns: Sequence[str] = ()) -> Iterator[None]:
        """One for each row that `rows` gives; JSON lines, Parquet and Arrow are not decoded for it."""
        if kind in {"lines", "text"}:
            yield from self._read(kind, lambda text: (None for line in text.file if line.strip()))
        elif kind in _BINARY:
            counts = {"parquet": arrow_rows.parquet_marks, "arrow": arrow_rows.arrow_marks}
            yield from self._read(kind, self._packed(kind, counts[kind]))
        else:
            yield from (None for _ in self.rows(kind, columns))

    def _read(self, kind: Kind, reader: _Reader[T]) -> Iterator[T]:
        with self._reading(), self._opened() as file:
            yield from reader(_Text(file, TextEncoding("")) if kind in _BINARY else self._text_of(file))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except UnicodeError as error:
            raise self._wrong(f"cannot be read as {self.form.encoding or 'text'}: {error}; set `encoding`.") from error
        except (OSError, EOFError, zlib.error) as error:
            why = error.strerror.lower() if isinstance(error, OSError) and error.strerror else error
            raise self._wrong(f"cannot be read: {why}. Check that the file is whole and readable.") from error

    def _text_of(self, file: IO[bytes]) -> _Text:
        if file.read(len(_ZIP)) == _ZIP:
            raise self._wrong("is a spreadsheet or another packed file; save it as CSV, JSON lines or Parquet.")
        encoding = self._encoding(file)
        if encoding.guessed:
            self.notes[f"{self.path.name} is read as {text_encoding.shown(encoding.name)}"] = None
        return _Text(encoding.opened(file), encoding)

    def _encoding(self, file: IO[bytes]) -> TextEncoding:
        try:
            return text_encoding.find_encoding(file, self.form.encoding)
        except ValueError as error:
            raise InvalidInput(f"encoding: {error}", {"field": "encoding"}) from None

    def sniffed(self) -> Kind:
        """What the file's beginning says: JSON lines, a list (or an object around one), or text."""
        with self._reading(), self._opened() as opened:
            file = self._text_of(opened).file
            line = b"\n"
            while line and not line.strip():
                line = file.readline(_SHORT_BYTES)
            if line.startswith(b"{") and len(line) == _SHORT_BYTES:
                line += file.readline(_LONG_BYTES)
            rest = file.read(1 << 12).strip()
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

    def _wrong(self, what: str) -> InvalidInput:
        return InvalidInput(f"{self.label} {what}", {"field": self.field})

    def _numbered(self, text: _Text) -> Iterator[Placed]:
        for number, line in enumerate(text.file, 1):
            if line.strip():
                where = f"line {number}"
                try:
                    yield where, line.decode().strip(" \t\r\n\v\f")
                except UnicodeDecodeError as error:
                    yield where, Bad(where, text.encoding.fault(error))

    def _json_lines(self, text: _Text) -> Iterator[Placed]:
        for where, line in self._numbered(text):
            try:
                yield where, decoded(line) if isinstance(line, str) else line
            except ValueError as error:
                yield where, Bad(where, f"not valid JSON: {error}")

    def _json(self, text: _Text) -> Iterator[Placed]:
        try:
            for number, item in enumerate(json_items.items(text.file), 1):
                where = f"item {number}"
                yield where, Bad(where, str(item)) if isinstance(item, ValueError) else item
        except json_items.NoListError:
            raise self._wrong(
                "holds no list of rows: expected a list of objects, or an object with such a list under one of "
                f"{', '.join(LIST_KEYS)}."
            ) from None
        except ValueError as error:
            raise self._wrong(f"is not valid JSON: {error}. Repair the file from there on.") from error

    def _packed(self, kind: Kind, rows: Callable[[IO[bytes]], Iterator[T]]) -> _Reader[T]:
        """A reader of a form that is no text."""

        def read(text: _Text) -> Iterator[T]:
            try:
                yield from rows(text.file)
            except arrow_rows.UnreadableError as error:
                raise self._wrong(f"is not a valid {kind.capitalize()} file: {error}. Fetch it again.") from error

        return read

    def _placed(self, kind: Kind, rows: Callable[[IO[bytes]], Iterator[Any]]) -> _Reader[Placed]:
        read = self._packed(kind, rows)
        return lambda text: ((f"row {number}", row) for number, row in enumerate(read(text), 1))

    def _delimited(self, text: _Text, kind: Kind, columns: Sequence[str]) -> Iterator[Placed]:
        # The module's limit of 128 KiB per field is below what long-context data sets hold.
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
        first_line, skipped = self._first_line(text.file)
        delimiter = self._delimiter(first_line.decode(errors="replace"), kind, columns)
        wrong: list[str] = []
        lines = _decoded_lines(chain([first_line] if first_line else [], text.file), wrong, text.encoding.fault)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header = list(columns)
        first = True
        while True:
            where = f"line {reader.line_num + skipped + 1}"
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
                header = self._header(cells, where)
            elif len(cells) != len(header):
                yield where, Bad(where, f"{len(cells)} fields, expected {len(header)} ({', '.join(header)})")
            else:
                yield where, dict(zip(header, cells, strict=True))
            first = False

    def _first_line(self, file: IO[bytes]) -> tuple[bytes, int]:
        """The first one that is data, and how many are before it."""
        line = file.readline(_SHORT_BYTES)
        said = _SAID_DELIMITER.fullmatch(line.strip())
        line = line if said is None else file.readline(_SHORT_BYTES)
        if line.lstrip().startswith((b'{"', b"[{")):
            raise self._wrong("holds JSON, and its name says otherwise; call it .jsonl (an object a line) or .json.")
        return line, 0 if said is None else 1

    def _delimiter(self, header: str, kind: Kind, columns: Sequence[str]) -> str:
        """What stands between fields: said, or what makes most columns of the header."""
        usual = "\t" if kind == "tsv" else ","
        if self.form.delimiter:
            return self.form.delimiter
        counts = {one: _fields(header, one) for one in dict.fromkeys((usual, *_DELIMITERS))}
        best = max(counts, key=lambda one: counts[one] == len(columns) if columns else counts[one])
        if best != usual:
            self.notes[f"the fields of {self.path.name} are taken to end at {_NAMED[best]}"] = None
        return best

    def _header(self, cells: Sequence[str], where: str) -> list[str]:
        names = [cell.strip() for cell in cells]
        twice = next((name for name in names if name and names.count(name) > 1), None)
        if twice is not None:
            raise self._wrong(f"has the column '{twice}' twice, in {where}; rename one of them.")
        return names


def _fields(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter), ()))
    except csv.Error:
        return 0


def _is_header(cells: Sequence[str], columns: Sequence[str]) -> bool:
    return {cell.strip().lower() for cell in cells} >= {column.lower() for column in columns}


def _decoded_lines(file: Iterable[bytes], wrong: list[str], told: Callable[[UnicodeDecodeError], str]) -> Iterator[str]:
    """Line by line, so that one bad byte spoils one row; what is bad goes to `wrong`."""
    for line in file:
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            wrong.append(told(error))
            yield line.decode(errors="replace")
