"""The run store on the JetStream buckets `runs`, `control` and `pools`."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence

from evalmesh.adapters.nats.bucket import Bucket
from evalmesh.adapters.nats.connection import NatsConnection
from evalmesh.adapters.nats.records import Records
from evalmesh.domain.errors import InternalError, NotFound
from evalmesh.domain.run import Run
from evalmesh.domain.work import Pool
from evalmesh.ports.run_store import ControlWish, Versioned
from evalmesh.wire import codec, subjects

_log = logging.getLogger(__name__)

_WISHES: Mapping[bytes, ControlWish] = {b"run": "run", b"cancel": "cancel"}


class NatsRunStore:
    """See `ports.run_store.RunStore`; made by `open_run_store`."""

    def __init__(self, connection: NatsConnection, replicas: int) -> None:
        self._runs = Bucket(connection, subjects.RUNS_BUCKET, replicas)
        self._records = Records(self._runs, "run", codec.encode_run, codec.decode_run)
        self._control = Bucket(connection, subjects.CONTROL_BUCKET, replicas)
        self._pools = Bucket(connection, subjects.POOLS_BUCKET, replicas)

    async def ensure_buckets(self) -> None:
        """Creates what is missing. Raises `Unavailable`, `FailedPrecondition`, `ResourceExhausted`."""
        await asyncio.gather(self._runs.ensure(), self._control.ensure(), self._pools.ensure())

    async def create_run(self, run: Run) -> None:
        await self._records.create(run)

    async def get_run(self, run: str) -> Versioned[Run]:
        return await self._records.get(run)

    async def update_run(self, run: Run, revision: int) -> int:
        return await self._records.update(run, revision)

    async def list_runs(self) -> Sequence[str]:
        return await self._records.list_ids()

    async def claim_request(self, request_id: str, run: str) -> str:
        return await self._records.claim_request(request_id, run)

    async def find_request(self, request_id: str) -> str | None:
        return await self._records.find_request(request_id)

    async def get_progress(self, run: str) -> Versioned[bytes]:
        found = await self._runs.get(subjects.progress_key(run))
        return found if found is not None else Versioned(b"", 0)

    async def update_progress(self, run: str, data: bytes, revision: int) -> int:
        return await self._runs.put(subjects.progress_key(run), data, expected=revision)

    async def set_control(self, run: str, wish: ControlWish) -> None:
        await self._control.put(subjects.run_key(run), wish.encode())

    async def watch_control(self) -> AsyncIterator[tuple[str, ControlWish]]:
        async for key, value in self._control.watch():
            wish = _WISHES.get(value)
            if wish is None:
                _log.warning("control/%s holds %r, which is no wish; skipped", key, value[:40])
                continue
            yield key, wish

    async def put_pool(self, pool: Pool) -> None:
        await self._pools.put(subjects.pool_key(pool.id), codec.encode_pool(pool))

    async def get_pool(self, pool: str) -> Pool:
        key = subjects.pool_key(pool)
        found = await self._pools.get(key)
        if found is None:
            raise NotFound(f"There is no pool {pool!r}; it appears when a run that needs it is submitted.")
        return codec.decode_pool(found.value, f"pools/{key}")

    async def watch_pools(self) -> AsyncIterator[Pool]:
        async for key, value in self._pools.watch():
            try:
                pool = codec.decode_pool(value, f"pools/{key}")
            except InternalError as error:
                _log.warning("skipped: %s", error)
                continue
            yield pool


async def open_run_store(connection: NatsConnection, replicas: int = 1) -> NatsRunStore:
    """The run store on this connection; its buckets exist afterwards. Raises `Unavailable`, `FailedPrecondition`."""
    store = NatsRunStore(connection, replicas)
    await store.ensure_buckets()
    connection.restorers.append(store.ensure_buckets)
    return store
