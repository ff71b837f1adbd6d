"""Every request of a load test as Parquet: one row per record, by level and index, written as a stream.

Columns are explained in docs/perf-schema.md, and in the file itself.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evalmesh.load.measure.records import Flag, error_class
from evalmesh.load.measure.table import DTYPE

SCHEMA_VERSION = 1
"""Grows when a reader of the old columns could misread the new ones; added columns do not count."""
ROWS_PER_GROUP = 1 << 17
"""About 14 MB of records, and twice that while they are turned into columns."""

_S = "seconds since the level's start"
_CLASS = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    type: pa.DataType
    text: str
    field: str = ""
    """Field of the record, where its name is another one."""
    zero_is_null: bool = False
    flag: int = 0
    """A boolean made of this bit of `flags`."""


_COLUMNS: tuple[_Column, ...] = (
    _Column("index", pa.uint32(), "position in the level's schedule"),
    _Column("conversation", pa.uint32(), "equal for the turns of one conversation; else the request's own index"),
    _Column("turn", pa.uint16(), "position in the conversation, from 0"),
    _Column("generator", pa.uint16(), "seat of the generator that sent it"),
    _Column("http_status", pa.uint16(), "null: none came", field="status", zero_is_null=True),
    _Column("warmup", pa.bool_(), "in no figure", flag=Flag.WARMUP),
    _Column("new_connection", pa.bool_(), "a connection was opened for it", flag=Flag.NEW_CONNECTION),
    _Column("server_usage", pa.bool_(), "token counts are the server's; else content chunks", flag=Flag.USAGE),
    _Column("doubtful_tokens", pa.bool_(), "usage and what was streamed disagree", flag=Flag.MISMATCH),
    _Column("due_s", pa.float64(), f"when the schedule wanted it; {_S}"),
    _Column("send_s", pa.float64(), f"when it was sent; {_S}; null: never"),
    _Column("first_s", pa.float64(), f"first token; {_S}; null: none came"),
    _Column("last_s", pa.float64(), f"last token; {_S}"),
    _Column("end_s", pa.float64(), f"answer complete, or failure seen; {_S}"),
    _Column("input_tokens", pa.uint32(), "null: unknown", zero_is_null=True),
    _Column("output_tokens", pa.uint32(), "tokens that came"),
    _Column("reasoning_tokens", pa.uint32(), "part of output_tokens, as the server reports it"),
    _Column("cached_tokens", pa.uint32(), "part of input_tokens, as the server reports it"),
    _Column("content_chunks", pa.uint32(), "events that carried content", field="chunks"),
    _Column("max_tokens", pa.uint32(), "asked for; null: not limited", zero_is_null=True),
    _Column("prepared_tokens", pa.uint32(), "length the prompt was made to have; null: unknown", zero_is_null=True),
    _Column("body_bytes", pa.uint32(), "size of the request's body"),
    _Column("connect_s", pa.float32(), "time the new connection took"),
    _Column("itl_mean_s", pa.float32(), "(last - first) / (output_tokens - 1)"),
    _Column("itl_p99_s", pa.float32(), "99th percentile of this request's token gaps"),
    _Column("itl_max_s", pa.float32(), "longest token gap"),
    _Column("chunk_gap_max_s", pa.float32(), "longest time between two content events"),
    _Column("first_byte_s", pa.float32(), "header of the answer, from send"),
)
_REPEATED = [
    *("level", "repeat", "turn", "generator", "outcome", "http_status", "input_tokens", "output_tokens"),
    *("reasoning_tokens", "cached_tokens", "content_chunks", "max_tokens", "prepared_tokens", "body_bytes"),
]
"""Columns of few different values."""


def requests_schema(load_test: str) -> pa.Schema:
    """The columns, and in the metadata which load test they are of."""
    fields = [
        _field("level", pa.uint32(), "position in the order of execution"),
        _field("repeat", pa.uint16(), "which run of the same level, from 0"),
        *(_field(column.name, column.type, column.text) for column in _COLUMNS[:4]),
        _field("outcome", _CLASS, "ok, or the class of the error"),
        *(_field(column.name, column.type, column.text) for column in _COLUMNS[4:]),
    ]
    return pa.schema(fields, metadata={"load_test": load_test, "schema_version": str(SCHEMA_VERSION)})


def _field(name: str, kind: pa.DataType, text: str) -> pa.Field:
    return pa.field(name, kind, metadata={"description": text})


class RequestsWriter:
    """Writes levels one after the other, holding 12 bytes per request of a level and one row group in memory."""

    def __init__(self, sink: Path | BinaryIO, load_test: str) -> None:
        """Opens the sink: a local file, or a binary one that `close` leaves open."""
        self._schema = requests_schema(load_test)
        times = [field.name for field in self._schema if pa.types.is_floating(field.type)]
        self._writer = pq.ParquetWriter(
            str(sink) if isinstance(sink, Path) else sink,
            self._schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=_REPEATED,
            # Times hardly repeat: their bytes are compressed by place.
            use_byte_stream_split=times,
        )
        self.rows = 0
        """Written so far."""

    def add_level(self, level: int, records: Path, repeat: int = 0) -> int:
        """Writes the requests of one level, sorted by index; returns how many.

        Args:
            level: Position in the order of execution; levels come in this order.
            records: Records of all seats back to back, without file headers, in any order.
            repeat: Which run of the same level.
        """
        size = records.stat().st_size // DTYPE.itemsize
        if not size:
            return 0
        with records.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            table = np.frombuffer(mapped, DTYPE, count=size)
            order = np.argsort(table["index"], kind="stable").astype(np.uint32 if size < 1 << 32 else np.uint64)
            for start in range(0, size, ROWS_PER_GROUP):
                self._write(level, repeat, table[order[start : start + ROWS_PER_GROUP]])
            del table  # it keeps the file mapped
        self.rows += size
        return size

    def _write(self, level: int, repeat: int, rows: Any) -> None:
        columns: dict[str, pa.Array] = {
            "level": _constant(level, len(rows), pa.uint32()),
            "repeat": _constant(repeat, len(rows), pa.uint16()),
            "outcome": _classes(rows),
        }
        columns |= {column.name: _array(column, rows) for column in _COLUMNS}
        self._writer.write_table(
            pa.table([columns[name] for name in self._schema.names], schema=self._schema), row_group_size=len(rows)
        )

    def close(self) -> None:
        """Writes the footer; the file cannot be read before. Closing again does nothing."""
        if self._writer.is_open:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _constant(value: int, length: int, kind: pa.DataType) -> pa.Array:
    return pa.array(np.full(length, value), type=kind)


def _classes(rows: Any) -> pa.Array:
    """Outcome and status as one word."""
    both = rows["outcome"].astype(np.int32) << 16 | rows["status"]
    # Only a status of an HTTP failure tells one class from another.
    kinds, codes = np.unique(both, return_inverse=True)
    names: Sequence[str] = [error_class(int(kind) >> 16, int(kind) & 0xFFFF) for kind in kinds]
    distinct = list(dict.fromkeys(names))
    place = np.array([distinct.index(name) for name in names], dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(place[codes], type=pa.int32()), pa.array(distinct, type=pa.string()))


def _array(column: _Column, rows: Any) -> pa.Array:
    if column.flag:
        return pa.array(rows["flags"] & column.flag != 0)
    values = np.ascontiguousarray(rows[column.field or column.name])
    if column.zero_is_null:
        return pa.array(values, type=column.type, mask=values == 0)
    # NaN becomes null.
    return pa.array(values, type=column.type, from_pandas=True)
