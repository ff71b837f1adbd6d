"""Bytes by key: a folder, S3 and its kin."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is told about an object without reading it."""

    key: str
    size_bytes: int
    modified_s: float = 0.0
    """When it was written, in Unix seconds; told by `list` alone."""
    version: str = ""
    """Changes whenever the bytes are written again; told by `info` alone."""


class ObjectStore(Protocol):
    """Bytes by key.

    Every method raises `Unavailable` when the store cannot be reached (after its own short retries),
    `ResourceExhausted` when it is full and `PermissionDenied` when it refuses the credentials.

    Keys are relative, `/`-separated, without empty, `.` or `..` segments (`InvalidInput` otherwise).
    A reader sees a whole object or none: writes are atomic.
    """

    async def get(self, key: str) -> bytes:
        """The whole object. Raises `NotFound`."""
        ...

    def stream(self, key: str, chunk_bytes: int = 1 << 20) -> AsyncIterator[bytes]:
        """The object in pieces of about `chunk_bytes`. Raises `NotFound` at the first piece."""
        ...

    async def put(self, key: str, data: bytes) -> None:
        """Writes or replaces."""
        ...

    async def create(self, key: str, data: bytes) -> bool:
        """Writes if absent; `False`, and nothing changed, when the key exists."""
        ...

    async def put_stream(self, key: str, pieces: AsyncIterable[bytes]) -> int:
        """Writes a large object without holding it (multipart); returns its size in bytes."""
        ...

    async def exists(self, key: str) -> bool:
        """Whether the key holds an object."""
        ...

    async def info(self, key: str) -> ObjectInfo:
        """Size and version. Raises `NotFound`."""
        ...

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Objects whose key starts with `prefix` (plain string prefix), in key order."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Removes what is there; absent keys are no error."""
        ...

    async def close(self) -> None:
        """Frees connections."""
        ...
