"""The run store on the JetStream buckets `runs`, `progress`, `control`, `pools` and `pool_notes`."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from evalmesh.adapters.nats.bucket import Bucket
from evalmesh.adapters.nats.connection import NatsConnection
from evalmesh.adapters.nats.records import Records
from evalmesh.domain import layout
from evalmesh.domain.errors import Conflict, InternalError, NotFound
from evalmesh.domain.run import ModelSpec, Run, RunSpec
from evalmesh.domain.work import PoolNote, PoolWish
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.records import Versioned
from evalmesh.ports.run_store import ControlWish
from evalmesh.wire import codec, subjects

_log = logging.getLogger(__name__)

_ELSEWHERE = RunSpec(ModelSpec(""), ())
"""Stands in a record for the spec, which is an object."""
_SPECS_KEPT = 256

_WISHES: Mapping[bytes, ControlWish] = {b"run": "run", b"cancel": "cancel"}


class NatsRunStore:
    """See `ports.run_store.RunStore`; made by `open_run_store`."""

    def __init__(self, connection: NatsConnection, objects: ObjectStore, replicas: int) -> None:
        self._objects = objects
        self._specs: OrderedDict[str, RunSpec] = OrderedDict()
        """Those asked for last; a spec never changes."""
        self._runs = Bucket(connection, subjects.RUNS_BUCKET, replicas)
        self._records = Records(self._runs, "run", codec.encode_run, codec.decode_run)
        self._progress = Bucket(connection, subjects.PROGRESS_BUCKET, replicas)
        self._control = Bucket(connection, subjects.CONTROL_BUCKET, replicas)
        self._pools = Bucket(connection, subjects.POOLS_BUCKET, replicas)
        self._notes = Bucket(connection, subjects.POOL_NOTES_BUCKET, replicas)

    async def ensure_buckets(self) -> None:
        """Creates what is missing. Raises `Unavailable`, `FailedPrecondition`, `ResourceExhausted`."""
        buckets = (self._runs, self._progress, self._control, self._pools, self._notes)
        await asyncio.gather(*(bucket.ensure() for bucket in buckets))

    async def create(self, run: Run) -> None:
        # The spec may be large and never changes; the record is small and changes often.
        await self._objects.create(layout.spec_key(run.id), codec.encode_json(run.spec))
        await self._records.create(replace(run, spec=_ELSEWHERE))

    async def get(self, run: str) -> Versioned[Run]:
        known = await self._records.get(run)
        if known.value.spec != _ELSEWHERE:
            return known  # as runs were kept before
        return Versioned(replace(known.value, spec=await self._spec(run)), known.revision)

    async def _spec(self, run: str) -> RunSpec:
        spec = self._specs.get(run)
        if spec is None:
            key = layout.spec_key(run)
            try:
                spec = codec.decode_json(RunSpec, await self._objects.get(key), key)
            except NotFound as error:
                raise InternalError(f"What run {run} was asked to do is lost: the object {key} is gone.") from error
            self._specs[run] = spec
            if len(self._specs) > _SPECS_KEPT:
                self._specs.popitem(last=False)
        self._specs.move_to_end(run)
        return spec

    async def update(self, run: Run, revision: int) -> int:
        return await self._records.update(replace(run, spec=_ELSEWHERE), revision)

    async def remove(self, run: str, revision: int) -> None:
        await self._records.remove(run, revision)
        self._specs.pop(run, None)

    async def forget(self, run: str) -> None:
        key = subjects.run_key(run)
        await self._progress.forget(key)
        await self._progress.forget(f"{key}.*")
        await self._control.forget(key)

    async def list_ids(self) -> Sequence[str]:
        return await self._records.list_ids()

    async def claim_request(self, request_id: str, run: str) -> str:
        return await self._records.claim_request(request_id, run)

    async def find_request(self, request_id: str) -> str | None:
        return await self._records.find_request(request_id)

    async def get_progress(self, run: str, benchmark: str = "") -> Versioned[bytes]:
        found = await self._progress.get(subjects.progress_key(run, benchmark))
        return found if found is not None else Versioned(b"", 0)

    async def update_progress(self, run: str, benchmark: str, data: bytes, revision: int) -> int:
        return await self._progress.put(subjects.progress_key(run, benchmark), data, expected=revision)

    async def set_control(self, owner: str, wish: ControlWish) -> None:
        await self._control.put(subjects.run_key(owner), wish.encode())

    async def watch_control(self) -> AsyncIterator[tuple[str, ControlWish]]:
        async for key, value in self._control.watch("*"):
            wish = _WISHES.get(value or b"")
            if wish is None:
                _log.warning("control/%s holds %r, which is no wish; skipped", key, (value or b"")[:40])
                continue
            yield key, wish

    async def set_active(self, run: str, *, active: bool) -> None:
        if active:
            await self._control.put(subjects.active_key(run), b"")
        else:
            await self._control.forget(subjects.active_key(run))

    async def list_active(self) -> Sequence[str]:
        return [key.partition(".")[2] for key in await self._control.keys("active.*")]

    async def take_lease(self, name: str, holder: str, now: float, seconds: float) -> bool:
        key = subjects.lease_key(name)
        known = await self._control.get(key)
        if known is not None:
            until, _, whose = known.value.decode().partition(" ")
            if whose != holder and now < float(until):
                return False
        try:
            await self._control.put(
                key, f"{now + seconds} {holder}".encode(), expected=known.revision if known is not None else 0
            )
        except Conflict:
            return False
        return True

    async def wish_pool(self, wish: PoolWish) -> None:
        await self._pools.put(subjects.wish_key(wish.pool.id, wish.run), codec.encode_json(wish))

    async def withdraw_pools(self, run: str) -> None:
        for key in await self._pools.keys(f"*.{subjects.run_key(run)}"):
            await self._pools.remove(key)

    async def list_pools(self, run: str) -> Sequence[PoolWish]:
        keys = await self._pools.keys(f"*.{subjects.run_key(run)}")
        found = [(key, await self._pools.get(key)) for key in keys]
        return [codec.decode_json(PoolWish, one.value, f"pools/{key}") for key, one in found if one is not None]

    async def watch_pools(self) -> AsyncIterator[tuple[str, str, PoolWish | None]]:
        async for key, value in self._pools.watch("*.*"):
            pool, _, run = key.partition(".")
            try:
                wish = None if value is None else codec.decode_json(PoolWish, value, f"pools/{key}")
            except InternalError as error:
                _log.warning("skipped: %s", error)
                continue
            yield pool, run, wish

    async def note_pool(self, note: PoolNote) -> None:
        await self._notes.put(subjects.note_key(note.pool, note.runner), codec.encode_json(note))

    async def pool_notes(self, pool: str) -> Sequence[PoolNote]:
        keys = await self._notes.keys(f"{subjects.pool_key(pool)}.*")
        found = [(key, await self._notes.get(key)) for key in keys]
        return [codec.decode_json(PoolNote, one.value, f"pool_notes/{key}") for key, one in found if one is not None]


async def open_run_store(connection: NatsConnection, objects: ObjectStore, replicas: int = 1) -> NatsRunStore:
    """The run store on this connection; its buckets exist afterwards. Raises `Unavailable`, `FailedPrecondition`."""
    store = NatsRunStore(connection, objects, replicas)
    await store.ensure_buckets()
    connection.restorers.append(store.ensure_buckets)
    return store
