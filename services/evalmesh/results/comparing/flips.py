"""The rows of samples on which two runs differ, fetched where they lie."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evalmesh.results.comparing.pairing import Flips

_GROUPS_KEPT = 4
"""Row groups hold 16 MiB of text at most. Flips come mostly in the order of the file."""
_MOST_CHARS = 1 << 18
"""Of each text of a flip."""


class _Rows:
    """Rows of a results file by their number."""

    def __init__(self, file: BinaryIO, columns: Sequence[str]) -> None:
        self._table = pq.ParquetFile(file)
        there = set(self._table.schema_arrow.names)
        self._columns = [name for name in columns if name in there]
        sizes = [self._table.metadata.row_group(at).num_rows for at in range(self._table.num_row_groups)]
        self._ends = np.cumsum(sizes)
        self._kept: OrderedDict[int, pa.Table] = OrderedDict()

    def read(self, first: int, count: int) -> list[dict[str, Any]]:
        """So many rows from the first on."""
        rows: list[dict[str, Any]] = []
        while count:
            group = int(np.searchsorted(self._ends, first, side="right"))
            start = int(self._ends[group - 1]) if group else 0
            found = self._group(group).slice(first - start, count).to_pylist()
            rows += found
            first, count = first + len(found), count - len(found)
        return rows

    def _group(self, group: int) -> pa.Table:
        if group not in self._kept:
            self._kept[group] = self._table.read_row_group(group, columns=self._columns, use_threads=False)
            if len(self._kept) > _GROUPS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(group)
        return self._kept[group]


def flip_rows(
    files: tuple[BinaryIO, BinaryIO], flips: Flips, most: int | None, *, texts: bool
) -> Iterator[dict[str, Any]]:
    """One mapping per flip; closes the files."""
    answered = ("answer", "state", *(("completion",) if texts else ()))
    with files[0], files[1]:
        left, right = _Rows(files[0], ("sample_id", "subset", "input", "target", *answered)), _Rows(files[1], answered)
        for values, rows in zip(flips.values[:most].tolist(), flips.rows[:most].tolist(), strict=True):
            ours, theirs = left.read(*rows[:2]), right.read(*rows[2:])
            yield {
                "subset": ours[0]["subset"],
                "sample_id": ours[0]["sample_id"],
                "input": _cut(ours[0]["input"]),
                "target": [_cut(one) for one in ours[0]["target"] or []],
                "a": _side(values[0], ours, texts=texts),
                "b": _side(values[1], theirs, texts=texts),
            }


def _side(value: float, rows: Sequence[dict[str, Any]], *, texts: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"value": value, "answers": [_cut(row["answer"]) for row in rows]}
    return found | ({"completions": [_cut(row["completion"]) for row in rows]} if texts else {})


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= _MOST_CHARS:
        return text
    return f"{text[:_MOST_CHARS]} [... cut: {len(text)} characters in all, which the results hold]"


def result_columns(file: BinaryIO) -> set[str]:
    """Names of the columns of a results file."""
    with pq.ParquetFile(file) as table:
        return set(table.schema_arrow.names)


def sample_at(file: BinaryIO, row: int) -> str:
    """Id of the sample in a row."""
    found: str = _Rows(file, ("sample_id",)).read(row, 1)[0]["sample_id"]
    return found
