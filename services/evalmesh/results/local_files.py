"""Objects as local files, because their format wants a place to seek in."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from evalmesh.ports.object_store import ObjectStore

_PIECE_BYTES = 1 << 20


async def pieces(path: Path) -> AsyncIterator[bytes]:
    """A file, as an object store takes it."""
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


async def fetch(store: ObjectStore, key: str, path: Path) -> None:
    """An object as a file; part of it may be there when that fails. Raises `NotFound`."""
    with path.open("wb") as file:
        async for piece in store.stream(key):
            await asyncio.to_thread(file.write, piece)
