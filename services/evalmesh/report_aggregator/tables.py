"""Results files, near by, and pages of their rows."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from evalmesh.ports.object_store import ObjectInfo, ObjectStore
from evalmesh.wire.paging import PAGE_BYTES

_TABLES_KEPT = 4
ROW_BYTES = 16 << 20
"""The longest row that is sent as it is; messages may have 64 MiB, and the client holds a row several times."""
_KEPT_CHARS = 1 << 18
"""Of each text of a longer row."""


class ResultTables:
    """Local copies of the results files asked for last: Parquet wants random access."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._folder: TemporaryDirectory[str] | None = None
        self._copies: OrderedDict[str, tuple[ObjectInfo, Path]] = OrderedDict()
        self._lock = asyncio.Lock()
        self._number = 0

    async def open(self, key: str) -> BinaryIO:
        """The object as it is now, as an open file, which outlives the copy. Raises `NotFound`."""
        async with self._lock:
            info = await self._objects.info(key)
            known = self._copies.get(key)
            if known is None or known[0] != info:
                self._keep(key, info, await self._copy(key))
            self._copies.move_to_end(key)
            return self._copies[key][1].open("rb")

    async def _copy(self, key: str) -> Path:
        self._folder = self._folder or TemporaryDirectory(prefix="evalmesh-results-")
        self._number += 1
        path = Path(self._folder.name) / f"{self._number}.parquet"
        try:
            with path.open("wb") as file:
                async for piece in self._objects.stream(key):
                    await asyncio.to_thread(file.write, piece)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def _keep(self, key: str, info: ObjectInfo, path: Path) -> None:
        if (older := self._copies.pop(key, None)) is not None:
            older[1].unlink()
        self._copies[key] = (info, path)
        if len(self._copies) > _TABLES_KEPT:
            self._copies.popitem(last=False)[1][1].unlink()

    async def close(self) -> None:
        """Removes the copies."""
        if self._folder is not None:
            self._folder.cleanup()


def page_of(file: BinaryIO, start: int, size: int, wanted: tuple[str, str]) -> tuple[list[str], int | None]:
    """Rows from `start` on that match, as JSON, and where the next page starts; `None` at the end.

    A page has at most `size` rows and about `PAGE_BYTES`, and at least one row where there is one. `wanted` is state
    and subset; empty ones match all.
    """
    state, subset = wanted
    rows: list[str] = []
    size_bytes = 0
    with _read(file, start) as numbered:
        for number, row in numbered:
            if (state and row["state"] != state) or (subset and row["subset"] != subset):
                continue
            if len(rows) == size:
                return rows, number
            text = _row_text(row)
            size_bytes += len(text)
            if rows and size_bytes > PAGE_BYTES:
                return rows, number
            rows.append(text)
    return rows, None


@contextmanager
def _read(file: BinaryIO, start: int) -> Iterator[Iterator[tuple[int, dict[str, Any]]]]:
    from evalmesh.results.table import read_results  # noqa: PLC0415  (brings pyarrow: slow)

    with file:
        # Few rows at a time: each may be long.
        yield enumerate(read_results(file, start_row=start, batch_rows=16), start=start)


def _row_text(row: dict[str, Any]) -> str:
    text = json.dumps(row, default=str)
    if len(text) <= ROW_BYTES:
        return text
    return json.dumps({name: _shortened(value) for name, value in row.items()}, default=str)


def _shortened(value: Any) -> Any:
    if isinstance(value, list):
        kept = [_shortened(item) for item in value[:_TABLES_KEPT]]
        return kept if len(value) <= _TABLES_KEPT else [*kept, f"[... cut: {len(value)} in all]"]
    if not isinstance(value, str) or len(value) <= _KEPT_CHARS:
        return value
    return f"{value[:_KEPT_CHARS]} [... cut: {len(value)} characters in all, which the exported results hold]"
