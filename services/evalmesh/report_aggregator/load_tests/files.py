"""What the conductor and the seats of a load test left in the object store, and what its report leaves there."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from evalmesh.domain import layout
from evalmesh.domain.errors import InternalError, NotFound
from evalmesh.domain.load_test import LevelStatus, LoadTest
from evalmesh.load.measure.records import HEADER, MAGIC, RECORD
from evalmesh.ports.object_store import ObjectStore
from evalmesh.results.local_files import pieces
from evalmesh.wire.codec import decode_json


class LoadTestFiles:
    """Errors are those of the store, and `InternalError` for an object that is not what its key says."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def levels(self, test: LoadTest) -> list[dict[str, Any]]:
        """The documents of its levels, in order of execution; a level without one is left out."""
        found = await asyncio.gather(*(self._level(test.id, status.index) for status in test.levels))
        return [document for document in found if document is not None]

    async def _level(self, load_test: str, level: int) -> dict[str, Any] | None:
        key = layout.level_key(load_test, level)
        try:
            return decode_json(dict[str, Any], await self._objects.get(key), key)
        except NotFound:
            return None

    async def write_perf(self, load_test: str, document: bytes) -> None:
        """`perf.json`."""
        await self._objects.put(layout.perf_json_key(load_test), document)

    async def write_page(self, load_test: str, page: str) -> None:
        """`perf_report.html`."""
        await self._objects.put(layout.perf_html_key(load_test), page.encode())

    async def write_requests(self, load_test: str, levels: Sequence[LevelStatus]) -> int:
        """`requests.parquet`, from the records of all seats; returns how many requests it has."""
        from evalmesh.report_aggregator.load_tests.requests import RequestsWriter  # noqa: PLC0415  (brings pyarrow: slow)

        with tempfile.TemporaryDirectory(prefix="evalmesh-") as folder:
            path = Path(folder) / "requests.parquet"
            records = Path(folder) / "records.bin"
            with RequestsWriter(path, load_test) as writer:
                for status in levels:
                    with records.open("wb") as file:
                        await self._fetch_records(load_test, status.index, file)
                    await asyncio.to_thread(writer.add_level, status.index, records, status.repeat)
            await self._objects.put_stream(layout.load_requests_key(load_test), pieces(path))
            return writer.rows

    async def _fetch_records(self, load_test: str, level: int, file: BinaryIO) -> None:
        """Records of all seats back to back. A last record that is cut, because its writer died, is left out."""
        prefix = f"{layout.level_prefix(load_test, level)}records/"
        keys = [info.key async for info in self._objects.list(prefix)]
        for key in keys:
            start, head = file.tell(), b""
            async for piece in self._objects.stream(key):
                if len(head) < HEADER.size:
                    head += piece
                    if len(head) >= HEADER.size:
                        _check(key, head)
                        file.write(head[HEADER.size :])
                else:
                    file.write(piece)
            file.truncate(start + (file.tell() - start) // RECORD.size * RECORD.size)
            file.seek(0, 2)


def _check(key: str, head: bytes) -> None:
    magic, size = HEADER.unpack_from(head)
    if magic != MAGIC or size != RECORD.size:
        raise InternalError(
            f"The object at {key} holds no request records of this version: it begins with {magic!r} and records of "
            f"{size} bytes, expected are {MAGIC!r} and {RECORD.size}.",
            {"key": key},
        )
