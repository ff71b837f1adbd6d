"""Results files, near by, and pages of their rows."""

import asyncio
from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from evalmesh.domain.result_query import ResultQuery
from evalmesh.ports.object_store import ObjectInfo, ObjectStore
from evalmesh.results.local_files import fetch

_TABLES_KEPT = 4


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
            await fetch(self._objects, key, path)
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


def page_of(
    file: BinaryIO, query: ResultQuery, after: int | None, size: int, *, counted: bool
) -> tuple[list[str], int | None, dict[str, int]]:
    """A page of rows as JSON, what to ask as `after` for the next one, and the counts by grade if they are wanted."""
    from evalmesh.results.query import ResultsFile  # noqa: PLC0415  (brings pyarrow: slow)

    with file, ResultsFile(file) as results:
        rows, last = results.page(query, after, size)
        return rows, last, results.counts(query) if counted else {}
