"""What folder and S3 have in common on obstore."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore as ObstoreBackend

from evalmesh.adapters.object_store.keys import check_key
from evalmesh.domain.errors import EvalmeshError, NotFound
from evalmesh.ports.object_store import ObjectInfo

PART_BYTES = 8 << 20
"""Size of one part of a multipart upload. S3 takes 10,000 parts, so an object may have 80 GiB."""
_PARTS_IN_FLIGHT = 4
"""Bounds the memory of one streamed upload to four parts."""


class ObstoreObjectStore(ABC):
    """`ports.object_store.ObjectStore` on an obstore backend.

    A call that is cancelled may still take effect: the write goes on in obstore's own threads.
    """

    def __init__(self, backend: ObstoreBackend, label: str) -> None:
        self._backend = backend
        self._label = label

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._label})"

    @abstractmethod
    def _failure(self, error: BaseException, action: str) -> EvalmeshError:
        """What an exception of obstore means here."""

    @abstractmethod
    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """See the port."""

    @abstractmethod
    async def delete(self, keys: Sequence[str]) -> None:
        """See the port."""

    @contextmanager
    def _translated(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            raise self._failure(error, f"{verb} of {key!r}") from error

    async def get(self, key: str) -> bytes:
        with self._translated("get", check_key(key)):
            result = await obstore.get_async(self._backend, key)
            return bytes(await result.bytes_async())

    async def stream(self, key: str, chunk_bytes: int = 1 << 20) -> AsyncIterator[bytes]:
        with self._translated("get", check_key(key)):
            result = await obstore.get_async(self._backend, key)
            pieces = aiter(result.stream(min_chunk_size=chunk_bytes))
        while True:
            with self._translated("get", key):
                piece = await anext(pieces, None)
            if piece is None:
                return
            yield bytes(piece)

    async def put(self, key: str, data: bytes) -> None:
        with self._translated("put", check_key(key)):
            await obstore.put_async(self._backend, key, data, chunk_size=PART_BYTES, max_concurrency=_PARTS_IN_FLIGHT)

    async def create(self, key: str, data: bytes) -> bool:
        with self._translated("create", check_key(key)):
            try:
                await obstore.put_async(self._backend, key, data, mode="create")
            except AlreadyExistsError:
                return False
            return True

    async def put_stream(self, key: str, pieces: AsyncIterable[bytes]) -> int:
        source = _Counted(pieces)
        check_key(key)
        try:
            with self._translated("put", key):
                await obstore.put_async(
                    self._backend, key, source, chunk_size=PART_BYTES, max_concurrency=_PARTS_IN_FLIGHT
                )
        except Exception:
            # The caller's own exception comes back through obstore; it is not a failure of the store.
            if source.failure is not None:
                raise source.failure from None
            raise
        return source.size_bytes

    async def info(self, key: str) -> ObjectInfo:
        with self._translated("look-up", check_key(key)):
            meta = await obstore.head_async(self._backend, key)
        # The time alone, of whole seconds on S3, would not tell two writes of one second apart.
        return ObjectInfo(key, meta["size"], version=f"{meta['e_tag'] or ''} {meta['last_modified'].isoformat()}")

    async def exists(self, key: str) -> bool:
        try:
            await self.info(key)
        except NotFound:
            return False
        return True

    async def close(self) -> None:
        # Connections go with the backend, and nothing is buffered: there is nothing to do.
        return


class _Counted:
    """The caller's pieces, with their size and the exception they ended in."""

    def __init__(self, pieces: AsyncIterable[bytes]) -> None:
        self._pieces = aiter(pieces)
        self.size_bytes = 0
        self.failure: BaseException | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            raise
        except BaseException as error:
            self.failure = error
            raise
        self.size_bytes += len(piece)
        return piece
