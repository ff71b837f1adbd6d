"""Objects in a bucket of S3 or one of its kin."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import obstore
from obstore.store import S3Store

from evalmesh.adapters.object_store.base import ObstoreObjectStore
from evalmesh.adapters.object_store.failures import s3_failure
from evalmesh.adapters.object_store.keys import RESERVED_PREFIX, check_key, check_prefix
from evalmesh.adapters.object_store.settings import S3Settings
from evalmesh.domain.errors import (
    AlreadyExists,
    EvalmeshError,
    FailedPrecondition,
    InvalidInput,
    NotFound,
    Unimplemented,
)
from evalmesh.ports.object_store import ObjectInfo

_log = logging.getLogger(__name__)

_LIST_BATCH = 1000
_WHOLE_TRANSFER = timedelta(hours=1)
"""obstore's own limit on one transfer, body included, is 30 s; stalls are what `read_timeout_s` is for."""


class S3ObjectStore(ObstoreObjectStore):
    """Objects under a prefix of a bucket.

    `create` is a conditional put (`If-None-Match: *`). Some servers accept that header and ignore it, so the first
    `create` probes the server with an object of the adapter's own. Where conditional puts do not work, `create` looks
    first and then writes: two writers at the same moment may then both get True, and the last one wins. A conditional
    put that succeeded but whose answer got lost is repeated by the retry and then returns False.
    """

    def __init__(self, settings: S3Settings) -> None:
        super().__init__(_open_backend(settings), settings.label)
        self._bucket = settings.bucket
        self._conditional_put: bool | None = settings.conditional_put
        self._probing = asyncio.Lock()

    def _failure(self, error: BaseException, action: str) -> EvalmeshError:
        failure = s3_failure(error, self._label, action)
        if isinstance(error, FileNotFoundError) and action.startswith(("put ", "create ", "probe ")):
            # A write can only miss the bucket.
            return FailedPrecondition(f"The bucket {self._bucket!r} does not exist. Run 'evalmesh store init'.")
        return failure

    async def create(self, key: str, data: bytes) -> bool:
        check_key(key)
        if await self.probe_conditional_put():
            return await super().create(key, data)
        if await self.exists(key):
            return False
        await self.put(key, data)
        return True

    async def probe_conditional_put(self) -> bool:
        """Whether the server honours `If-None-Match` on a put; asks it once, then remembers."""
        async with self._probing:
            if self._conditional_put is None:
                self._conditional_put = await self._ask_for_conditional_put()
                if not self._conditional_put:
                    _log.warning(
                        "%s ignores conditional puts: create looks first and then writes, which is not atomic",
                        self._label,
                    )
        return self._conditional_put

    async def _ask_for_conditional_put(self) -> bool:
        key = f"{RESERVED_PREFIX}probe-{secrets.token_hex(8)}"
        try:
            with self._translated("probe", key):
                await obstore.put_async(self._backend, key, b"1")
                await obstore.put_async(self._backend, key, b"2", mode="create")
        except AlreadyExists:
            return True
        except Unimplemented:
            return False
        else:
            return False
        finally:
            await self._forget(key)

    async def _forget(self, key: str) -> None:
        try:
            with self._translated("delete", key):
                await obstore.delete_async(self._backend, key)
        except EvalmeshError as error:
            _log.debug("probe object %s was left behind: %s", key, error)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        folder, _, rest = check_prefix(prefix).rpartition("/")
        # obstore lists whole segments. For a prefix within a segment, start right behind it instead of reading
        # everything in front; the object whose key is the prefix itself then needs a look of its own.
        if rest and (itself := await self._info(prefix)) is not None:
            yield itself
        batches = obstore.list(self._backend, folder or None, offset=prefix if rest else None, chunk_size=_LIST_BATCH)
        while True:
            with self._translated("list", prefix):
                batch = await anext(batches, None)
            if batch is None:
                return
            for meta in batch:
                key = meta["path"]
                if key.startswith(prefix) and key != (prefix if rest else None) and not key.startswith(RESERVED_PREFIX):
                    yield ObjectInfo(key, meta["size"], meta["last_modified"].timestamp())
                elif key > prefix and not key.startswith(prefix):
                    return

    async def _info(self, key: str) -> ObjectInfo | None:
        try:
            with self._translated("look-up", key):
                meta = await obstore.head_async(self._backend, key)
        except NotFound:
            return None
        return ObjectInfo(key, meta["size"], meta["last_modified"].timestamp())

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            check_key(key)
        if keys:
            with self._translated("delete", keys[0]):
                await obstore.delete_async(self._backend, list(keys))


def _open_backend(settings: S3Settings) -> S3Store:
    config: dict[str, str] = {
        name: value
        for name, value in (
            ("endpoint", settings.endpoint),
            ("access_key_id", settings.access_key_id),
            ("secret_access_key", settings.secret_access_key),
            ("session_token", settings.session_token),
            ("region", settings.region),
        )
        if value
    }
    try:
        return S3Store(
            settings.bucket,
            prefix=settings.prefix or None,
            config=config,  # type: ignore[arg-type]  # a TypedDict cannot be built from a loop
            virtual_hosted_style_request=settings.virtual_hosted,
            client_options={
                "allow_http": settings.endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=settings.connect_timeout_s),
                "read_timeout": timedelta(seconds=settings.read_timeout_s),
                "timeout": _WHOLE_TRANSFER,
            },
            retry_config={
                # Bounded by time alone: a server that restarts within the window is worth waiting for.
                "max_retries": 1000,
                "retry_timeout": timedelta(seconds=settings.retry_timeout_s),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=50),
                    "max_backoff": timedelta(seconds=1),
                    "base": 2,
                },
            },
        )
    except Exception as error:
        raise InvalidInput(f"The object store {settings.label} cannot be opened: check its URL and options.") from error
