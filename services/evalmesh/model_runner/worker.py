"""Turns requests into completions, keeping a fixed number of requests in flight per pool.

Shards are only how work arrives and is stored: the pool's endpoint sees one stream of requests across shards,
benchmarks and runs. The next shard is fetched when the endpoint would run dry, never when a shard ends.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable

from evalmesh.domain.completion import as_sentence
from evalmesh.domain.errors import EvalmeshError, NotFound
from evalmesh.domain.events import Activity, Event
from evalmesh.domain.request import Request
from evalmesh.domain.work import WorkItem
from evalmesh.model_runner.calls import ModelCalls
from evalmesh.model_runner.holds import Holds
from evalmesh.model_runner.settings import ModelRunnerSettings
from evalmesh.model_runner.shard_run import ShardRun
from evalmesh.model_runner.trial import HopelessError, Trial
from evalmesh.model_runner.turns import converse
from evalmesh.ports.bus import Bus
from evalmesh.ports.endpoint import Endpoint, EndpointGone
from evalmesh.ports.environment import Clock
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.outages import Patience, wait_out
from evalmesh.runtime.plans import PlanCache
from evalmesh.runtime.stages import PassOn
from evalmesh.runtime.telemetry.metrics import REUSED
from evalmesh.runtime.work import RunCancelledError
from evalmesh.wire.runs.shard_files import RunFiles, StageFiles

_LOG = logging.getLogger(__name__)

ShardKey = tuple[str, str, str, int]
"""Run, benchmark, stage, shard."""
Lost = Callable[[str, str, str], Awaitable[None]]
"""Ends a run for a reason: message and code."""
_GONE = "UNAVAILABLE"
_LATER = "The rest was not asked; resume the run when it is back, or with --api-url where it is now."
_ACTIVITY_REPEATED_S = 2.0
_LOST_CLASSES = frozenset({"auth", "connect"})


class PoolWorker:
    """Serves the generate stages of one pool."""

    def __init__(  # noqa: PLR0913  (ports, one by one)
        self,
        *,
        endpoint: Endpoint,
        calls: ModelCalls,
        files: RunFiles,
        plans: PlanCache,
        pass_on: PassOn,
        bus: Bus,
        control: ControlView,
        clock: Clock,
        settings: ModelRunnerSettings,
        lost: Lost,
        holds: Holds,
    ) -> None:
        self._endpoint = endpoint
        self._calls = calls
        self._unwatch = calls.watch()
        self._holds = holds
        self._lost = lost
        self._files = files
        self._plans = plans
        self._pass_on = pass_on
        self._bus = bus
        self._clock = clock
        self._settings = settings
        self._source = f"model_runner-{secrets.token_hex(4)}"
        self._active: dict[ShardKey, ShardRun] = {}
        self._asking: dict[str, set[asyncio.Task[None]]] = {}
        self._trials: dict[str, tuple[int, Trial]] = {}
        """By run, with its attempt."""
        self._stop_after: dict[str, int] = {}
        self._outstanding = 0
        """Requests handed to the endpoint and not answered, nor held."""
        self._loading = 0
        """Shards taken whose requests are not known yet."""
        self._shard_requests = 64
        """Size of the last shard seen: the best guess for those that load."""
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._told: dict[str, dict[str, Activity]] = {}
        self._unfollow = control.on_cancel(self._cancel)
        self._is_cancelled: Callable[[str], bool] = control.is_cancelled

    @property
    def trouble(self) -> str:
        """What the endpoint's requests wait for."""
        return self._endpoint.trouble

    def begin(self, run: str, stop_after_failures: int) -> None:
        """A run wishes for the pool."""
        self._stop_after[run] = stop_after_failures

    def end(self, run: str) -> None:
        """It does not any more."""
        self._stop_after.pop(run, None)
        self._trials.pop(run, None)

    def _trial(self, item: WorkItem) -> Trial:
        attempt, trial = self._trials.get(item.run, (-1, None))
        if trial is None or attempt < item.attempt:
            stop_after = self._stop_after.get(item.run, 0)
            trial = Trial(stop_after, self._settings.hold_s, self._wanted.set)
            self._trials[item.run] = (item.attempt, trial)
        return trial

    @property
    def _held(self) -> int:
        return sum(trial.held for _, trial in self._trials.values())

    async def wants_work(self) -> None:
        """Returns when the endpoint would run dry without another shard."""
        while self._outstanding - self._held + self._loading * self._shard_requests >= self._ready_limit():
            self._wanted.clear()
            await self._wanted.wait()

    def _ready_limit(self) -> int:
        # Half a load ahead hides the fetch of a shard; more would hoard what an idle runner could do.
        limit = self._endpoint.load.limit
        return limit + max(1, limit // 2)

    async def handle(self, item: WorkItem) -> None:
        """Generates what is missing of a shard and passes the shard on."""
        await self._holds.wait_free(item)
        async with self._holds.hold(item):
            await self._work_on(item)
        await self._pass_on(item)

    async def _work_on(self, item: WorkItem) -> None:
        key = (item.run, item.benchmark, item.stage, item.shard_index)
        self._endpoint.renew(f"{item.run}/{item.attempt}")
        self._loading += 1
        try:
            work = await self._open(key)
        finally:
            self._loading -= 1
            self._wanted.set()
        if work is not None:
            await self._generate_or_end(key, work, self._trial(item))

    async def _generate_or_end(self, key: ShardKey, work: ShardRun, trial: Trial) -> None:
        """Ends runs that lead nowhere. What they have not been answered is not run: there is no error in its place."""
        run = key[0]
        try:
            await self._generate(key, work, trial)
        except EndpointGone as gone:
            # And its neighbours, which wait for the same; those that ask nothing more go on.
            for one in {run, *self._asking}:
                await self._lost(one, f"{as_sentence(gone.message)} {_LATER}", _GONE)
            raise RunCancelledError from gone
        except HopelessError as hopeless:
            self._cancel(run)
            reason = "UNAUTHENTICATED" if hopeless.error_class in _LOST_CLASSES else "REQUESTS_FAILED"
            await self._lost(run, str(hopeless), reason)
            raise RunCancelledError from hopeless

    def _outputs(self, key: ShardKey) -> StageFiles:
        run, benchmark, stage, _ = key
        return self._files.of(run, benchmark).of(stage)

    async def _open(self, key: ShardKey) -> ShardRun | None:
        """The shard with everything that is known about it; `None` when all its completions are written."""
        run, benchmark, stage, shard = key
        outputs = self._outputs(key)
        if await outputs.has(shard):
            return None
        after = (await self._plans.get(run, benchmark)).graph.stage(stage).after
        header, rows = await self._files.of(run, benchmark).read_requests(shard, *after[:1])
        work = ShardRun(header, rows, self._source)
        work.checkpointed = work.restore(await outputs.read_parts(shard, unfinished=True)) > 0
        await self._reuse(work)
        self._shard_requests = max(1, len(work.requests))
        return work

    async def _generate(self, key: ShardKey, work: ShardRun, trial: Trial) -> None:
        self._active[key] = work
        outputs, shard = self._outputs(key), key[-1]
        written = False
        try:
            if not self._is_cancelled(key[0]):
                await self._ask_all(work, trial)
            if work.missing():
                raise RunCancelledError  # nothing is passed on; what was finished is checkpointed
            # What was paid for is held until it can be written.
            await wait_out(
                lambda: outputs.write(shard, work.completions()),
                Patience(),
                lambda: self._is_cancelled(key[0]),
            )
            written = True
        finally:
            del self._active[key]
            if not written:
                await asyncio.shield(self._checkpoint(key, work))
        if work.checkpointed:
            await outputs.drop_parts(shard)

    async def _reuse(self, work: ShardRun) -> None:
        if not work.header.reuse:
            return
        by_digest = {request.digest: request for request in work.missing()}
        before = work.generated
        for earlier in work.header.reuse:
            outputs = self._files.of(earlier.run, earlier.benchmark or work.header.benchmark).of(earlier.stage)
            try:
                completions = await outputs.read_completions(earlier.shard)
            except NotFound:
                completions = await outputs.read_parts(earlier.shard)
            work.reuse(earlier.run, completions, by_digest)
        REUSED.add(work.generated - before)

    async def _ask_all(self, work: ShardRun, trial: Trial) -> None:
        run = work.header.run
        tasks = [self._start(work, request, trial) for request in work.missing()]
        asking = self._asking.setdefault(run, set())
        asking.update(tasks)
        try:
            pending = set(tasks)
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
                # The first that knows that the run leads nowhere speaks for those that are not asked yet; a defect
                # that one request meets is its own.
                if any(not one.cancelled() and isinstance(one.exception(), HopelessError) for one in done):
                    break
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            asking.difference_update(tasks)
            if not asking:
                self._asking.pop(run, None)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def _start(self, work: ShardRun, request: Request, trial: Trial) -> asyncio.Task[None]:
        # Requests of one sample that fail are one failure each.
        name = f"{work.header.benchmark}/{request.id}"

        async def ask() -> None:
            completion = await converse(
                self._calls,
                request,
                work.header.generation,
                lambda error, sent_at: trial.failed(name, error, sent_at),
                work.begun(request),
                work.keep,
            )
            if completion.error is None:
                trial.succeeded(completion.timing.start_time if completion.timing is not None else time.time())
            else:
                sent_at = completion.timing.start_time if completion.timing is not None else time.time()
                await trial.failed(name, completion.error, sent_at)
            work.add(completion)

        def answered(_: asyncio.Task[None]) -> None:
            work.waiting -= 1
            trial.done(name)
            self._outstanding -= 1
            if self._outstanding < self._ready_limit():
                self._wanted.set()

        work.waiting += 1
        trial.open += 1
        self._outstanding += 1
        task = asyncio.create_task(ask())
        task.add_done_callback(answered)
        return task

    def _cancel(self, run: str) -> None:
        for task in list(self._asking.get(run, ())):
            task.cancel()

    async def keep_safe(self) -> None:
        """Checkpoints finished completions of unfinished shards, at least every `checkpoint_s`. Never ends."""
        while True:
            await asyncio.sleep(self._settings.checkpoint_s)
            await asyncio.gather(*(self._checkpoint(key, work) for key, work in list(self._active.items())))

    async def _checkpoint(self, key: ShardKey, work: ShardRun) -> None:
        name, unsaved = work.take_unsaved()
        if not unsaved:
            return
        work.checkpointed = True
        try:
            await self._outputs(key).write_part(key[-1], name, unsaved)
        except EvalmeshError as error:
            work.put_back(unsaved)
            _LOG.warning("checkpoint waits: %s", error.message)

    async def tell_activity(self) -> None:
        """Puts on the event stream what is in flight, whenever it changed and now and then. Never ends."""
        loop, told_s = asyncio.get_running_loop(), 0.0
        while True:
            await asyncio.sleep(self._settings.activity_s)
            now = self._activity()
            # Who watches forgets what is old, and while an endpoint is away nothing changes.
            again = loop.time() - told_s >= _ACTIVITY_REPEATED_S
            for run in {*now, *self._told}:
                if again or now.get(run) != self._told.get(run):
                    activity = now.get(run, {})
                    await self._bus.emit(Event(run, "activity", self._source, self._clock.now(), activity))
            self._told = now
            told_s = loop.time() if again else told_s

    def _activity(self) -> dict[str, dict[str, Activity]]:
        sums: dict[str, dict[str, Activity]] = {}
        # The endpoint knows how many requests are out, not whose: they are shared out by what waits.
        share = self._endpoint.load.in_flight / self._outstanding if self._outstanding else 0.0
        for (run, benchmark, *_), work in self._active.items():
            so_far = sums.setdefault(run, {}).get(benchmark, Activity())
            sums[run][benchmark] = Activity(
                in_flight=so_far.in_flight + round(work.waiting * share),
                generated=so_far.generated + work.generated,
                errored=so_far.errored + work.errored,
            )
        return sums

    async def close(self) -> None:
        """Frees the endpoint."""
        self._unfollow()
        self._unwatch()
        await self._endpoint.close()
