"""Many request records at once: a numpy array whose bytes are those of the file."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalmesh.domain.errors import InvalidInput
from evalmesh.load.measure.records import FIELDS, HEADER, MAGIC, RECORD, Flag, Outcome, error_class

_CODES = {"B": "u1", "H": "<u2", "I": "<u4", "d": "<f8", "f": "<f4"}
DTYPE = np.dtype([(name, _CODES[code]) for name, code in FIELDS])
"""Field for field the same bytes as `records.RECORD`."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Records = NDArray[np.void]
"""Of `DTYPE`."""
Column = NDArray[Any]


class Rows:
    """Some records of a table, by column. Columns are copied when they are asked for, and only once.

    Records are long and most figures need two or three of their fields: taking a part of the records themselves would
    copy all the others too.
    """

    __slots__ = ("_chosen", "_columns", "_source")

    def __init__(self, source: "Records | Rows", chosen: NDArray[np.intp] | None = None) -> None:
        self._source = source
        self._chosen = chosen
        self._columns: dict[str, Column] = {}

    def __len__(self) -> int:
        return len(self._source) if self._chosen is None else len(self._chosen)

    def __getitem__(self, name: str) -> Column:
        column = self._columns.get(name)
        if column is None:
            whole = self._source[name]
            column = np.ascontiguousarray(whole) if self._chosen is None else whole[self._chosen]
            self._columns[name] = column
        return column

    def where(self, wanted: Flags) -> "Rows":
        """The rows of which it is true; these themselves when it is true of all."""
        return self if wanted.all() else Rows(self, np.flatnonzero(wanted))

    def in_order_of(self, name: str) -> "Rows":
        """Sorted by a column, equal ones by index; these themselves when they are in order."""
        column, index = self[name], self["index"]
        after = column[1:] > column[:-1]
        if (after | ((column[1:] == column[:-1]) & (index[1:] > index[:-1]))).all():
            return self
        return Rows(self, np.lexsort((index, column)))

    def first(self, many: int) -> "Rows":
        """At most `many`, from the beginning."""
        return self if len(self) <= many else Rows(self, np.arange(many))


def empty() -> Records:
    """No record."""
    return np.zeros(0, DTYPE)


def read_records(data: bytes) -> Records:
    """The records of a file. A last record that is cut, because its writer died, is left out.

    Raises `InvalidInput` for bytes that are no file of records, or one of another version.
    """
    if len(data) < HEADER.size:
        # The writer died before its first flush, which is no reason to lose the other generators' records.
        if MAGIC.startswith(data[: len(MAGIC)]):
            return empty()
        raise InvalidInput(f"These {len(data)} bytes are no file of request records.")
    magic, size = HEADER.unpack_from(data)
    if magic != MAGIC or size != RECORD.size:
        raise InvalidInput(
            f"This is no file of request records: it begins with {bytes(magic)!r} and records of {size} bytes, "
            f"expected are {MAGIC!r} and {RECORD.size}. Was it written by another version?"
        )
    whole = (len(data) - HEADER.size) // RECORD.size
    return np.frombuffer(data, DTYPE, count=whole, offset=HEADER.size)


def concatenate(parts: Iterable[Records]) -> Records:
    """The records of several generators."""
    kept = [part for part in parts if len(part)]
    return np.concatenate(kept) if len(kept) > 1 else kept[0] if kept else empty()


def is_warmup(records: Rows) -> Flags:
    """Which records no figure includes."""
    found: Flags = (records["flags"] & Flag.WARMUP) != 0
    return found


def is_ok(records: Rows) -> Flags:
    """Which requests succeeded."""
    found: Flags = records["outcome"] == Outcome.OK
    return found


def was_sent(records: Rows) -> Flags:
    """Which requests left the client."""
    outcome = records["outcome"]
    found: Flags = (outcome != Outcome.UNSENT) & (outcome != Outcome.SKIPPED)
    return found


def tpot_s(records: Rows) -> Floats:
    """First to last token, per token after the first; NaN where only one token, or all in one piece, came."""
    tokens = records["output_tokens"].astype(np.float64)
    several = (tokens > 1) & (records["chunks"] > 1)
    found: Floats = (records["last_s"] - records["first_s"]) / np.where(several, tokens - 1, np.nan)
    return found


def by_class(records: Rows) -> dict[str, int]:
    """Failed requests that were sent, by class, the most frequent class first."""
    failed = records.where(was_sent(records) & ~is_ok(records))
    codes = failed["outcome"].astype(np.int64) << 16 | np.where(failed["outcome"] == Outcome.HTTP, failed["status"], 0)
    kinds, counts = np.unique(codes, return_counts=True)
    named = [
        (error_class(int(kind) >> 16, int(kind) & 0xFFFF), int(count))
        for kind, count in zip(kinds, counts, strict=True)
    ]
    return dict(sorted(named, key=lambda item: (-item[1], item[0])))
