"""Media in the object store: each written once, read through a cache."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar
from weakref import WeakValueDictionary

from evalmesh.domain import layout
from evalmesh.domain.content import ContentPart
from evalmesh.domain.errors import InvalidInput, NotFound, Unavailable
from evalmesh.domain.media import media_part
from evalmesh.ports.object_store import ObjectStore

CACHE_BYTES = 256 << 20
_WRITES_AT_ONCE = 8
_PATIENCE_S = 600.0
_FIRST_PAUSE_S = 0.5
T = TypeVar("T")
_log = logging.getLogger(__name__)


class MediaFiles:
    """Bytes of media by sha256. The cache keeps what was read last, up to `cache_bytes` in all."""

    def __init__(self, store: ObjectStore, cache_bytes: int = CACHE_BYTES) -> None:
        self._store = store
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._writing = asyncio.Semaphore(_WRITES_AT_ONCE)

    async def keep(self, data: bytes) -> ContentPart:
        """Stores bytes unless they are there, and names them; an outage of the store is waited out.

        Raises `InvalidInput` for what is no medium; `Unavailable` after ten minutes.
        """
        try:
            part = media_part(data)
        except ValueError as error:
            raise InvalidInput(f"The medium cannot be taken: {error}.", {"field": "data"}) from error
        await _patiently(lambda: self._write(part.sha256, data))
        return part

    async def keep_all(self, media: Iterable[tuple[str, bytes]]) -> None:
        """Stores (sha256, bytes) pairs that are not there yet, some at a time."""
        async with asyncio.TaskGroup() as group:
            for sha256, data in media:
                group.create_task(self._write(sha256, data))

    async def _write(self, sha256: str, data: bytes) -> None:
        key = layout.media_key(sha256)
        async with self._writing:
            if not await self._store.exists(key):
                await self._store.create(key, data)

    async def read(self, sha256: str) -> bytes:
        """The bytes. Many who ask for the same at once cost one read; an outage of the store is waited out.

        Raises `InvalidInput`, naming the sha256, when the store has no such medium; `Unavailable` after ten minutes.
        """
        if (data := self._cached(sha256)) is not None:
            return data
        lock = self._reading.get(sha256)
        if lock is None:
            lock = self._reading[sha256] = asyncio.Lock()
        async with lock:
            if (data := self._cached(sha256)) is None:
                data = await self._fetch(sha256)
                self._remember(sha256, data)
        return data

    def _cached(self, sha256: str) -> bytes | None:
        data = self._cache.get(sha256)
        if data is not None:
            self._cache.move_to_end(sha256)
        return data

    def _remember(self, sha256: str, data: bytes) -> None:
        if len(data) > self._cache_bytes:
            return
        self._cache[sha256] = data
        self._cached_bytes += len(data)
        while self._cached_bytes > self._cache_bytes:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= len(dropped)

    async def _fetch(self, sha256: str) -> bytes:
        try:
            return await _patiently(lambda: self._store.get(layout.media_key(sha256)))
        except NotFound:
            raise InvalidInput(
                f"The object store has no medium with sha256 {sha256}; upload it, or plan the run anew.",
                {"sha256": sha256},
            ) from None


async def _patiently(work: Callable[[], Awaitable[T]]) -> T:
    waited_s, delay_s = 0.0, _FIRST_PAUSE_S
    while True:
        try:
            return await work()
        except Unavailable as error:
            if waited_s >= _PATIENCE_S:
                raise
            _log.warning("media wait for the object store: %s", error.message)
        await asyncio.sleep(delay_s)
        waited_s, delay_s = waited_s + delay_s, min(2 * delay_s, 5.0)
