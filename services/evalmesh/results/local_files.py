"""Objects that are made in a local file first, because their format wants a place to seek in."""

from collections.abc import AsyncIterator
from pathlib import Path

_PIECE_BYTES = 1 << 20


async def pieces(path: Path) -> AsyncIterator[bytes]:
    """A file, as an object store takes it."""
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
