"""Which pools this runner serves: a pool is open while any run wishes for it, and for a while after."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from evalmesh.domain.errors import EvalmeshError
from evalmesh.domain.run import OWN_ENGINES
from evalmesh.domain.work import Pool, PoolNote, PoolWish, Queue, WorkItem
from evalmesh.model_runner.calls import ModelCalls
from evalmesh.model_runner.fair import FairConsumer
from evalmesh.model_runner.holds import Holds
from evalmesh.model_runner.settings import ModelRunnerSettings
from evalmesh.model_runner.worker import PoolWorker
from evalmesh.ports.bus import Bus
from evalmesh.ports.endpoint import EndpointOpener
from evalmesh.ports.environment import Clock
from evalmesh.ports.run_store import RunStore
from evalmesh.ports.signals import Signals
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.outages import Patience, wait_out
from evalmesh.runtime.plans import PlanCache
from evalmesh.runtime.runs import RunRecords
from evalmesh.runtime.stages import PassOn, ShardSetAside
from evalmesh.runtime.work import Worker, WorkPolicy
from evalmesh.wire.runs.shard_files import RunFiles

_LOG = logging.getLogger(__name__)
_MOST_SHARDS = 4096
NOTE_S = 15.0
"""A runner repeats so often what it says of a pool."""
_TROUBLE_S = 0.5
"""So often it is looked whether a pool has trouble."""
_TROUBLE_REPEATED_S = 3.0
"""A trouble that goes on is told again after this, and ever more rarely, with how long it has lasted."""


@dataclass(slots=True)
class _OpenPool:
    serving: asyncio.Task[None]
    worker: PoolWorker
    queues: FairConsumer
    closing: asyncio.TimerHandle | None = None
    told: str = ""
    """The trouble that was told last."""
    told_s: float = 0.0
    """When (monotonic)."""
    trouble_s: float = 0.0
    """When it began (likewise)."""


@dataclass(frozen=True, slots=True)
class RunnerPorts:
    """What a model runner is handed."""

    runs: RunStore
    bus: Bus
    files: RunFiles
    open_endpoint: EndpointOpener
    clock: Clock
    signals: Signals


@dataclass(slots=True)
class _Wishes:
    """Who wishes for a pool, and what became of the wish."""

    pool: Pool
    runs: dict[str, PoolWish] = field(default_factory=dict)
    refusal: str = ""


class PoolManager:
    """Follows the wishes for pools and serves each pool that this runner has the engine and the key for."""

    def __init__(self, settings: ModelRunnerSettings, ports: RunnerPorts, control: ControlView) -> None:
        self._settings = settings
        self._ports = ports
        self._control = control
        self._plans = PlanCache(ports.files)
        self._pass_on = PassOn(ports.files, self._plans, ports.bus)
        self._records = RunRecords(ports.runs, ports.bus, ports.clock)
        self._set_aside = ShardSetAside(self._plans, ports.bus, self._records)
        self._only = {name.strip() for name in settings.pools.split(",") if name.strip()}
        self._name = f"runner-{secrets.token_hex(4)}"
        self._wishes: dict[str, _Wishes] = {}
        self._open: dict[str, _OpenPool] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def follow(self) -> None:
        """Runs until cancelled, then drains every pool."""
        telling = asyncio.gather(self._tell(), self._tell_troubles())
        try:
            while True:
                try:
                    async for pool, run, wish in self._ports.runs.watch_pools():
                        if wish is not None and wish.host == self._settings.host:
                            await self._wished(wish)
                        else:
                            self._withdrawn(pool, run)
                except EvalmeshError as error:
                    _LOG.warning("pool records lost: %s", error.message)
                await asyncio.sleep(0.5)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await asyncio.gather(*(self._close(name) for name in list(self._open)), *self._closing)

    async def _wished(self, wish: PoolWish) -> None:
        pool = wish.pool
        if (self._only and pool.id not in self._only) or pool.model.engine == "recorded":
            return
        wishes = self._wishes.setdefault(pool.id, _Wishes(pool))
        wishes.runs[wish.run] = wish
        there = self._open.get(pool.id)
        if there is None:
            there = self._try_open(wishes)
            await self._note(wishes)
        if there is not None:
            if there.closing is not None:
                there.closing.cancel()
                there.closing = None
            there.worker.begin(wish.run, wish.stop_after_failures)
            there.queues.add(wish.run)

    def _withdrawn(self, pool: str, run: str) -> None:
        wishes = self._wishes.get(pool)
        if wishes is None:
            return
        wishes.runs.pop(run, None)
        there = self._open.get(pool)
        if there is not None:
            there.queues.remove(run)
            there.worker.end(run)
        if wishes.runs:
            return
        if there is None:
            del self._wishes[pool]
        elif there.closing is None:
            # Whoever tries a model often finds its connections open. Engines that run here are kept by those who open
            # them, who know when another wants their memory.
            after_s = 0.0 if wishes.pool.model.engine in OWN_ENGINES else self._settings.idle_close_s
            there.closing = asyncio.get_running_loop().call_later(after_s, self._close_later, pool)

    def _close_later(self, pool: str) -> None:
        task = asyncio.create_task(self._close(pool))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _try_open(self, wishes: _Wishes) -> _OpenPool | None:
        pool, ports = wishes.pool, self._ports
        try:
            endpoint = ports.open_endpoint(pool)
        except EvalmeshError as error:
            # Another runner may have the engine or the key; one that comes to have it is asked at the next wish.
            _LOG.warning("pool %s is not for this runner: %s", pool.id, error.message)
            wishes.refusal = error.message
            return None
        wishes.refusal = ""
        worker = PoolWorker(
            endpoint=endpoint,
            calls=ModelCalls(endpoint, pool.model),
            files=ports.files,
            plans=self._plans,
            pass_on=self._pass_on,
            bus=ports.bus,
            control=self._control,
            clock=ports.clock,
            settings=self._settings,
            lost=self._lost,
            holds=Holds(ports.signals),
        )
        queues = FairConsumer(partial(ports.bus.consume, Queue.GENERATE, pool.id), ports.bus.ack_wait_s / 3)
        opened = _OpenPool(asyncio.create_task(self._serve(pool, worker, queues)), worker, queues)
        self._open[pool.id] = opened
        return opened

    async def _serve(self, pool: Pool, worker: PoolWorker, queues: FairConsumer) -> None:
        async def take_from() -> FairConsumer:
            return queues

        take = Worker[WorkItem](
            bus=self._ports.bus,
            take_from=take_from,
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
            await self._keep_running(pool.id, take.run)
        finally:
            keep_safe.cancel()
            activity.cancel()
            await worker.close()

    async def _keep_running(self, pool: str, run: Callable[[], object]) -> None:
        while True:
            try:
                await run()  # type: ignore[misc]  # a coroutine function
            except Exception:  # noqa: BLE001  (whatever it was is logged; a pool that nobody serves stops its runs)
                _LOG.exception("serving pool %s failed; starting again", pool)
                await asyncio.sleep(1.0)

    async def _lost(self, run: str, message: str, reason: str) -> None:
        """Ends a run that leads nowhere."""
        _LOG.error("run %s cannot go on: %s", run, message)
        await wait_out(partial(self._records.wind_up, run, message, reason), Patience())

    async def _tell_troubles(self) -> None:
        """What requests wait for is said at once, and that it is over."""
        while True:
            await asyncio.sleep(_TROUBLE_S)
            now_s = time.monotonic()
            for name, there in list(self._open.items()):
                trouble = there.worker.trouble
                begun_or_over = bool(trouble) != bool(there.told)
                if begun_or_over:
                    there.trouble_s = now_s
                pause_s = max(_TROUBLE_REPEATED_S, (now_s - there.trouble_s) / 5)
                if begun_or_over or (trouble and now_s - there.told_s >= pause_s):
                    there.told, there.told_s = trouble, now_s
                    if (wishes := self._wishes.get(name)) is not None:
                        await self._note(wishes)

    async def _tell(self) -> None:
        """Repeats what this runner says of pools, and tries again what it could not open."""
        while True:
            await asyncio.sleep(NOTE_S)
            for wishes in list(self._wishes.values()):
                if wishes.refusal:
                    for wish in list(wishes.runs.values()):
                        await self._wished(wish)
                else:
                    await self._note(wishes)

    async def _note(self, wishes: _Wishes) -> None:
        there = self._open.get(wishes.pool.id)
        note = PoolNote(
            wishes.pool.id,
            self._name,
            not wishes.refusal,
            wishes.refusal[:500],
            self._ports.clock.now(),
            there.told if there is not None else "",
        )
        try:
            await self._ports.runs.note_pool(note)
        except EvalmeshError as error:
            _LOG.warning("a note on pool %s is lost: %s", note.pool, error.message)

    async def _close(self, name: str) -> None:
        pool = self._open.pop(name, None)
        if pool is None:
            return
        if not self._wishes[name].runs:
            del self._wishes[name]
        if pool.closing is not None:
            pool.closing.cancel()
        pool.serving.cancel()
        await asyncio.gather(pool.serving, return_exceptions=True)
