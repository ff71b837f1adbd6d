"""Leading load tests: fill the seats, take them through the levels together, compute each level, end with a report."""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from evalmesh.domain.errors import EvalmeshError, FailedPrecondition, NotFound, Unavailable
from evalmesh.domain.load_test import LevelStatus, LoadTest
from evalmesh.domain.load_work import LoadItem
from evalmesh.domain.state import State
from evalmesh.domain.work import Queue
from evalmesh.load.objective.slo import per_request
from evalmesh.load_generator import seat_talk as talk
from evalmesh.load_generator.conductor.desk import Desk
from evalmesh.load_generator.conductor.level_files import LevelFiles
from evalmesh.load_generator.conductor.level_run import LevelLead, LevelOrder, LevelRun, Lookout, Superseded
from evalmesh.load_generator.conductor.programme import Document, Planned, programme_of
from evalmesh.load_generator.conductor.statuses import status_of
from evalmesh.load_generator.probes.counting import TokenScale, measure_tokens
from evalmesh.load_generator.seat.clocks import boot_id
from evalmesh.load_generator.seat.shares import performers, warmup_count
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.load_tests.probe import LoadProbe
from evalmesh.ports.load_tests.server_metrics import OpenServerMetrics, ServerMetrics
from evalmesh.ports.signals import Signals
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.submission import RecordBook
from evalmesh.runtime.telemetry import current_trace, span
from evalmesh.runtime.telemetry.metrics import LOAD_LEVELS, LOAD_REQUESTS
from evalmesh.wire.subjects import conductor_subject

_LOG = logging.getLogger(__name__)
_PING_S = 2.0
_LOOK_S = 1.0
_CANCEL_LOOK_S = 0.2
_FAREWELL_S = 3.0
_NOBODY = frozenset({"connect", "connect_timeout", "tls"})
Change = Callable[[LoadTest], LoadTest]
_TAKEOVER_S = 15.0
"""A conductor that takes over waits this long for the seats to be heard: longer than they wait between questions."""


@dataclass(frozen=True, slots=True)
class ConductorTools:
    """What every load test conducted by a process shares."""

    tests: RecordBook[LoadTest]
    bus: Bus
    signals: Signals
    clock: Clock
    control: ControlView
    levels: LevelFiles
    probe: LoadProbe
    open_server_metrics: OpenServerMetrics
    join_timeout_s: float
    lost_after_s: float


class ConductWorker:
    """Takes *conduct* items: each is a load test to be led to its end."""

    def __init__(self, tools: ConductorTools) -> None:
        self._tools = tools

    async def handle(self, item: LoadItem) -> None:
        """Returns when the load test has its report item, or is another conductor's."""
        test = await self._unconducted(item.load_test)
        if test is None:
            return
        try:
            await _Conducting(self._tools, test).conduct()
        except Superseded:
            _LOG.info("another conductor has taken over %s", item.load_test)

    async def _unconducted(self, load_test: str) -> LoadTest | None:
        """The record, once no other conductor is at it; `None` when there is nothing to conduct any more."""
        while True:
            try:
                test = await self._tools.tests.get(load_test)
            except NotFound:
                return None
            if test.state.terminal:
                return None
            if test.attempt == 0 or not await self._is_conducted(load_test):
                return test
            await asyncio.sleep(_LOOK_S)

    async def _is_conducted(self, load_test: str) -> bool:
        try:
            await self._tools.signals.ask(conductor_subject(load_test), talk.encode(talk.Ping()), _PING_S)
        except Unavailable:
            return False
        return True

    async def set_aside(self, item: LoadItem, error: str) -> None:
        """The load test ends with what it has."""

        def failed(test: LoadTest) -> LoadTest:
            return test if test.state.terminal else replace(test, error=error, error_reason="INTERNAL")

        test = await self._tools.tests.change(item.load_test, failed)
        await _ask_for_report(self._tools.bus, test)


async def _ask_for_report(bus: Bus, test: LoadTest) -> None:
    await bus.publish([LoadItem(test.id, Queue.LOAD_REPORT, ends=True, attempt=test.attempt, trace=current_trace())])


class _Conducting:
    """One load test under one conductor."""

    def __init__(self, tools: ConductorTools, test: LoadTest) -> None:
        self._tools = tools
        self._test = test
        self._spec = test.spec
        self._taken_over = test.attempt > 0
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._desk = Desk(name, boot_id())
        self._lead = LevelLead(
            self._desk,
            self._spec.generators,
            tools.lost_after_s,
            Lookout(self._still_mine, self._bus_answers, self._has_slice, lambda: self._cancelled),
        )
        self._documents: list[Document] = []
        self._scale = TokenScale()
        self._next_prompt = 0
        self._run: LevelRun | None = None

    async def conduct(self) -> None:
        """Raises `Superseded`, and `Unavailable` when store or bus are away: then it is taken up again."""
        self._test = await self._change(_begun(self._tools.clock.now()))
        if self._test.state.terminal:
            return
        subject = conductor_subject(self._test.id)
        async with self._tools.signals.answer(subject, self._desk.handle), self._heeding_cancel():
            try:
                await self._levels()
            except EvalmeshError as error:
                if error.retryable:
                    raise
                await self._fail(error)
            self._desk.end()
            await _ask_for_report(self._tools.bus, self._test)
            await self._desk.farewell(_FAREWELL_S)

    async def _levels(self) -> None:
        programme = programme_of(self._spec)
        async with AsyncExitStack() as stack:
            opened = self._tools.open_server_metrics(self._spec.server_metrics, self._spec.target.url)
            server = await stack.enter_async_context(opened)
            if not self._cancelled:
                await self._publish_seats()
                self._scale = await self._measure()
            await self._recall(server)
            while not self._cancelled and (planned := programme.next(self._documents)) is not None:
                if self._documents and self._spec.pause_s:
                    await self._pause()
                if not self._cancelled:
                    await self._level(planned, server)
                if self._spec.search is not None and self._documents and _met_nobody(self._documents[-1]):
                    # Whatever a search would conclude from now on would be said of a server that is gone.
                    await self._fail(Unavailable(f"url: nobody answered at {self._spec.target.url} during the search."))
                    return

    async def _measure(self) -> TokenScale:
        """A server that is silent must not keep a load test from being cancelled."""
        asking = asyncio.create_task(measure_tokens(self._spec, self._tools.probe))
        while not asking.done() and not self._cancelled:
            await asyncio.wait([asking], timeout=_CANCEL_LOOK_S)
        if not asking.done():
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            return TokenScale()
        return asking.result()

    async def _publish_seats(self) -> None:
        """Again by a conductor that takes over: what is queued or held already is the same message."""
        items = [
            LoadItem(self._test.id, Queue.LOAD, seat=seat, trace=current_trace())
            for seat in range(self._spec.generators)
        ]
        await self._tools.bus.publish(items)

    async def _recall(self, server: ServerMetrics) -> None:
        """What an earlier conductor left: levels that are done, and perhaps one under way."""
        for status in self._test.levels:
            document = await self._tools.levels.document(self._test.id, status.index)
            if document is None:
                await self._collect_interrupted(status, server)
            else:
                self._documents.append(document)
        self._next_prompt = await self._tools.levels.prompts_used(self._test.id, len(self._documents))
        if self._taken_over and not self._cancelled:
            await self._lead.gather(Planned(self._spec.levels[0]), _TAKEOVER_S)

    async def _collect_interrupted(self, status: LevelStatus, server: ServerMetrics) -> None:
        order = await self._tools.levels.order(self._test.id, status.index)
        if order is None:
            raise FailedPrecondition(f"The load test was interrupted while level {status.index} was being prepared.")
        self._run = run = LevelRun(order, start_time=status.start_time or self._tools.clock.now())
        run.stopped = "cancelled" if self._cancelled else ""
        await self._lead.finish(run)
        await self._conclude(run, server)
        if not run.finished:
            raise FailedPrecondition(
                f"The load test was interrupted in level {status.index}: its generators and its conductor ended. "
                "Levels that were finished are in the report; load that was broken off is not repeated."
            )

    async def _pause(self) -> None:
        deadline = self._lead.now() + self._spec.pause_s
        while not self._cancelled and (left_s := deadline - self._lead.now()) > 0:
            await self._desk.change(min(left_s, _LOOK_S))

    async def _level(self, planned: Planned, server: ServerMetrics) -> None:
        level, number = planned.level, len(self._documents)
        about = {"evalmesh.level": number, "evalmesh.parallel": level.parallel, "evalmesh.rate": level.rate}
        with span("level", about):
            await self._perform(planned, server)

    async def _perform(self, planned: Planned, server: ServerMetrics) -> None:
        timeout_s = self._tools.join_timeout_s
        number = len(self._documents)
        seats = await self._lead.gather(planned, timeout_s)
        if self._cancelled:
            return  # there is no level to be told of
        wanted = performers(planned.level, self._spec.generators)
        if number == 0 and len(seats) < wanted:
            raise FailedPrecondition(
                f"generators: {wanted} were asked for and {len(seats)} took a seat within {timeout_s:.0f} s. Start "
                f"more (python -m evalmesh.load_generator), or ask for {len(seats)}.",
                {"field": "generators"},
            )
        order = LevelOrder(
            number=number,
            seats={seat: self._desk.seats[seat].generator for seat in seats},
            planned=planned,
            warmup=warmup_count(self._spec.warmup, planned.level),
            first_prompt=self._next_prompt,
        )
        self._run = run = LevelRun(order)
        # From here on a cancel is noted in the run, and what was planned is counted.
        await self._tools.levels.write_order(self._test.id, order)
        await self._note(LevelStatus(number, planned.level, planned.repeat, "running", planned=planned.level.number))
        if await self._lead.prepare(run, self._orders(order)):
            self._lead.start(run, self._tools.clock.now())
            # The report of a load test that sends will be wanted: its aggregator may get ready.
            begun = LoadItem(self._test.id, Queue.LOAD_REPORT, trace=current_trace())
            await self._tools.bus.publish([begun])
        await self._lead.finish(run)
        await self._conclude(run, server)

    def _orders(self, order: LevelOrder) -> dict[int, talk.Perform]:
        planned = order.planned
        return {
            seat: talk.Perform(
                number=order.number,
                repeat=planned.repeat,
                level=planned.level,
                arrival=self._spec.arrival,
                position=position,
                of=len(order.seats),
                warmup=order.warmup,
                first_prompt=order.first_prompt,
                drain_s=0.0,
                goodput_ms=per_request(self._spec.slo),
                token_scale=self._scale.scale,
                token_offset=self._scale.offset,
            )
            for position, seat in enumerate(order.seats)
        }

    async def _conclude(self, run: LevelRun, server: ServerMetrics) -> None:
        """The level's document, its status, and where the next level's prompts begin."""
        notes = [*self._scale.notes, *{seat.note for seat in self._desk.seats.values() if seat.note}]
        missing = self._spec.generators - len(run.order.seats)
        if missing and run.order.planned.level.parallel == 0:
            notes.append(f"{missing} of {self._spec.generators} generators were not there.")
        document = await self._tools.levels.conclude(self._test, run, await server.take(), notes)
        self._documents.append(document)
        _count(document)
        self._next_prompt = await self._tools.levels.prompts_used(self._test.id, len(self._documents))
        await self._note(status_of(document, run))
        self._run = None

    # The record.

    async def _change(self, change: Change) -> LoadTest:
        return await self._tools.tests.change(self._test.id, change)

    async def _note(self, status: LevelStatus) -> None:
        mine = self._test.attempt

        def noted(test: LoadTest) -> LoadTest:
            if test.attempt != mine:
                raise Superseded
            return replace(test, levels=(*test.levels[: status.index], status, *test.levels[status.index + 1 :]))

        self._test = await self._change(noted)

    async def _fail(self, error: EvalmeshError) -> None:
        _LOG.error("load test %s: %s", self._test.id, error.message)
        self._test = await self._change(lambda test: replace(test, error=error.message, error_reason=error.reason))

    async def _still_mine(self) -> None:
        try:
            known = await self._tools.tests.get(self._test.id)
        except Unavailable:
            return
        if known.attempt != self._test.attempt:
            raise Superseded

    async def _bus_answers(self) -> bool:
        try:
            await self._tools.signals.ask(conductor_subject(self._test.id), talk.encode(talk.Ping()), _PING_S)
        except Unavailable:
            return False
        return True

    async def _has_slice(self, level: int, seat: int) -> bool:
        return await self._tools.levels.slice(self._test.id, level, seat) is not None

    # The wish to end.

    @property
    def _cancelled(self) -> bool:
        return self._tools.control.is_cancelled(self._test.id) or self._test.state is State.CANCELLING

    @asynccontextmanager
    async def _heeding_cancel(self) -> AsyncIterator[None]:
        def cancelled(load_test: str) -> None:
            if load_test == self._test.id:
                self._desk.stop("the load test was cancelled")
                if self._run is not None:
                    self._run.stopped = "cancelled"

        forget = self._tools.control.on_cancel(cancelled)
        try:
            yield
        finally:
            forget()


def _met_nobody(document: Document) -> bool:
    errors = document["errors"]
    return not document["ok"] and bool(errors) and _NOBODY.issuperset(errors)


def _count(document: Document) -> None:
    LOAD_LEVELS.add(1)
    LOAD_REQUESTS.add(document["ok"], "")
    for kind, count in document["errors"].items():
        LOAD_REQUESTS.add(count, kind)


def _begun(now: float) -> Change:
    def begun(test: LoadTest) -> LoadTest:
        if test.state.terminal:
            return test
        state = State.RUNNING if test.state is State.QUEUED else test.state
        return replace(test, state=state, start_time=test.start_time or now, attempt=test.attempt + 1)

    return begun
