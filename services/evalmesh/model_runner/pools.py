"""Which pools this runner serves: a pool is opened when it is wished for and closed when it has been idle."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from evalmesh.domain.errors import EvalmeshError
from evalmesh.domain.work import Pool, Step, WorkItem
from evalmesh.model_runner.settings import ModelRunnerSettings
from evalmesh.model_runner.worker import PoolWorker
from evalmesh.ports.bus import Bus, Queue
from evalmesh.ports.endpoint import EndpointOpener
from evalmesh.ports.environment import Clock
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.work import Worker, WorkPolicy
from evalmesh.wire.runs.shard_files import ShardFiles

_LOG = logging.getLogger(__name__)
_MOST_SHARDS = 4096

SetAside = Callable[[WorkItem, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _OpenPool:
    serving: asyncio.Task[None]
    worker: PoolWorker


class PoolManager:
    """Follows the pool records and serves each pool that this runner has the engine for."""

    def __init__(  # noqa: PLR0913  (ports, one by one)
        self,
        *,
        settings: ModelRunnerSettings,
        open_endpoint: EndpointOpener,
        files: ShardFiles,
        runs: RunStore,
        bus: Bus,
        control: ControlView,
        clock: Clock,
        set_aside: SetAside,
    ) -> None:
        self._settings = settings
        self._open_endpoint = open_endpoint
        self._files = files
        self._runs = runs
        self._bus = bus
        self._control = control
        self._clock = clock
        self._set_aside = set_aside
        self._only = {name.strip() for name in settings.pools.split(",") if name.strip()}
        self._open: dict[str, _OpenPool] = {}

    async def follow(self) -> None:
        """Runs until cancelled, then drains every pool."""
        idle = asyncio.create_task(self._close_idle())
        try:
            while True:
                try:
                    async for pool in self._runs.watch_pools():
                        self._wished(pool)
                except EvalmeshError as error:
                    _LOG.warning("pool records lost: %s", error.message)
                await asyncio.sleep(0.5)
        finally:
            idle.cancel()
            await asyncio.gather(*(self._close(name) for name in list(self._open)))

    def _wished(self, pool: Pool) -> None:
        if pool.id in self._open:
            # Its items may follow a moment after the record: too late for the look at an empty queue before closing.
            self._open[pool.id].worker.touch()
            return
        if (self._only and pool.id not in self._only) or pool.model.engine == "recorded":
            return
        try:
            endpoint = self._open_endpoint(pool)
        except EvalmeshError as error:
            # Another runner may have the engine or the key; one that comes to have it is asked at the next wish.
            _LOG.warning("pool %s is not for this runner: %s", pool.id, error.message)
            return
        worker = PoolWorker(
            endpoint=endpoint,
            files=self._files,
            bus=self._bus,
            control=self._control,
            clock=self._clock,
            settings=self._settings,
        )
        self._open[pool.id] = _OpenPool(asyncio.create_task(self._serve(pool, worker)), worker)

    async def _serve(self, pool: Pool, worker: PoolWorker) -> None:
        take = Worker(
            bus=self._bus,
            queue=Queue(Step.GENERATE, pool.id),
            handle=worker.handle,
            set_aside=self._set_aside,
            control=self._control,
            policy=WorkPolicy(
                concurrency=_MOST_SHARDS,
                max_deliveries=self._settings.max_deliveries,
                # A request may take minutes, and its loss costs one more request: what is finished is safe anyway.
                drain_s=min(self._settings.drain_s, 2.0),
            ),
            gate=worker.wants_work,
        )
        keep_safe = asyncio.create_task(worker.keep_safe())
        activity = asyncio.create_task(worker.tell_activity())
        try:
            await self._keep_running(pool.id, take)
        finally:
            keep_safe.cancel()
            activity.cancel()
            await worker.close()

    async def _keep_running(self, pool: str, take: Worker) -> None:
        while True:
            try:
                await take.run()
            except Exception:  # noqa: BLE001  (whatever it was is logged; a pool that nobody serves stops its runs)
                _LOG.exception("serving pool %s failed; starting again", pool)
                await asyncio.sleep(1.0)

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(self._settings.idle_close_s / 4)
            for name, pool in list(self._open.items()):
                with contextlib.suppress(EvalmeshError):
                    idle = pool.worker.idle_s() > self._settings.idle_close_s
                    if idle and await self._bus.backlog(Queue(Step.GENERATE, name)) == 0:
                        await self._close(name)

    async def _close(self, name: str) -> None:
        pool = self._open.pop(name)
        pool.serving.cancel()
        await asyncio.gather(pool.serving, return_exceptions=True)
