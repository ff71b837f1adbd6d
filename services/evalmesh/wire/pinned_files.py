"""Source files in the object store, each under the sum of its bytes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from evalmesh.domain import layout
from evalmesh.ports.object_store import ObjectStore

_PIECE_BYTES = 1 << 20
_AT_ONCE_BYTES = 8 << 20


async def put_file(store: ObjectStore, sha256: str, path: Path) -> None:
    """Pins a file under its sum, unless it is there."""
    key = layout.dataset_key(sha256)
    if await store.exists(key):
        return
    size_bytes = (await asyncio.to_thread(path.stat)).st_size
    if size_bytes <= _AT_ONCE_BYTES:
        await store.create(key, await asyncio.to_thread(path.read_bytes))
    else:
        await store.put_stream(key, _pieces(path))


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            yield piece
