"""Holding a seat: join the conductor, perform each level it orders, leave slices behind, until all is over."""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from evalmesh.domain.errors import EvalmeshError, InvalidInput, NotFound, Unavailable
from evalmesh.domain.events import Event
from evalmesh.domain.load_test import LoadTest
from evalmesh.domain.load_work import LoadItem
from evalmesh.load.measure.ticks import encode_seat_tick
from evalmesh.load_generator import seat_talk as talk
from evalmesh.load_generator.protocol import EngineSetup, FeederSetup, FeedLevel, RunLevel, Tick
from evalmesh.load_generator.scratch import Scratch
from evalmesh.load_generator.seat.clocks import ClockOffset, boot_id, measure_offset
from evalmesh.load_generator.seat.local_copies import LocalCopies
from evalmesh.load_generator.seat.pair import GeneratorPair, PairBrokenError, Performance
from evalmesh.load_generator.seat.pairs import PairPool
from evalmesh.load_generator.seat.shares import share_of
from evalmesh.load_generator.seat.slices import Slice, SliceFiles
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.model_servers import ModelServers, destination_of
from evalmesh.ports.signals import Signals
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.outages import Patience, wait_out
from evalmesh.runtime.submission import RecordBook
from evalmesh.wire.subjects import conductor_subject

_LOG = logging.getLogger(__name__)
_ASK_S = 5.0
_BEAT_S = 1.0
_NO_CONDUCTOR = Patience(total_s=60.0, first_s=0.1, cap_s=2.0)
"""A conductor that died is replaced within the ack wait; so long its seats wait for the next one."""


@dataclass(frozen=True, slots=True)
class SeatTools:
    """What every seat of a process shares."""

    tests: RecordBook[LoadTest]
    bus: Bus
    signals: Signals
    servers: ModelServers
    clock: Clock
    control: ControlView
    pairs: PairPool
    files: LocalCopies
    slices: SliceFiles
    scratch: Scratch


class SeatWorker:
    """Takes *load* items: each is a seat of a load test, held to its end."""

    def __init__(self, tools: SeatTools) -> None:
        self._tools = tools

    async def handle(self, item: LoadItem) -> None:
        """Returns when the load test is over, or when the seat is somebody else's."""
        try:
            test = await self._tools.tests.get(item.load_test)
        except NotFound:
            return
        if test.state.terminal:
            return
        pair = await self._tools.pairs.take()
        holder = _Holder(self._tools, test, item.seat, pair)
        try:
            await holder.hold()
        finally:
            await self._tools.pairs.give_back(pair)

    async def set_aside(self, item: LoadItem, error: str) -> None:
        """The conductor notices by itself that the seat stays empty."""
        _LOG.error("seat %d of %s stays empty: %s", item.seat, item.load_test, error)


class _Holder:
    """One generator on one seat."""

    def __init__(self, tools: SeatTools, test: LoadTest, seat: int, pair: GeneratorPair) -> None:
        self._tools = tools
        self._test = test
        self._seat = seat
        self._pair = pair
        self._host = socket.gethostname()
        self._name = f"{self._host}-{os.getpid()}-{secrets.token_hex(3)}"
        self._subject = conductor_subject(test.id)
        self._clock = ClockOffset(0.0, 0.0)
        self._same_clock = False
        self._conductor = ""
        self._set_up_for: tuple[object, ...] = ()
        self._finished = -1
        self._emits: set[asyncio.Task[None]] = set()

    async def hold(self) -> None:
        """Raises `Unavailable` when there is no conductor for long; then the item comes back."""
        note, problem = "", ""
        try:
            note = await self._set_up(self._seat, self._test.spec.generators, 0.0, 0)
        except (InvalidInput, NotFound) as error:
            problem = error.message
        except PairBrokenError as error:
            problem = f"its processes cannot be started: {error}"
        if not await self._hello(note, problem) or problem:
            return
        while True:
            order = await self._ask(talk.Next(self._seat, self._name, self._finished))
            match order:
                case talk.Perform():
                    if not await self._perform(order):
                        return
                case talk.Stranger():
                    if not await self._hello(note, ""):
                        return
                case talk.Over():
                    return

    async def _hello(self, note: str, problem: str) -> bool:
        hello = talk.Hello(self._seat, self._name, self._host, boot_id(), problem, note)
        answer = await self._ask(hello)
        if not isinstance(answer, talk.Time):
            return False
        self._same_clock = bool(answer.boot_id) and answer.boot_id == boot_id()
        return True

    async def _ask(self, question: talk.SeatSays) -> talk.ConductorSays:
        """The conductor's answer. Raises `Unavailable` when nobody answers for long."""
        body = talk.encode(question)
        answer = await wait_out(
            lambda: self._tools.signals.ask(self._subject, body, _ASK_S),
            _NO_CONDUCTOR,
            # Nobody will answer these any more; what is measured is worth more patience.
            lambda: self._tools.control.is_cancelled(self._test.id) and isinstance(question, talk.Hello | talk.Next),
        )
        return talk.decode_answer(answer)

    async def _set_up(self, position: int, of: int, token_scale: float, token_offset: int) -> str:
        wanted = (position, of, token_scale, token_offset)
        if wanted == self._set_up_for:
            return ""
        spec = self._test.spec
        data_set, tokenizer = await asyncio.gather(
            self._tools.files.data_set(spec.prompts), self._tools.files.tokenizer(spec.prompts)
        )
        admitted = self._tools.servers.admit(destination_of(spec.target))
        engine = EngineSetup(
            spec.target, admitted.complete(spec.target.url), self._seat, admitted.egress, admitted.secrets
        )
        feeder = FeederSetup(
            target=spec.target,
            prompts=spec.prompts,
            file_path=data_set,
            tokenizer_path=tokenizer,
            seed=spec.seed,
            seat=position,
            seats=of,
            token_scale=token_scale,
            token_offset=token_offset,
        )
        note = await self._pair.set_up(engine, feeder)
        self._set_up_for = wanted
        return note

    async def _measure_clock(self) -> None:
        if self._same_clock:
            return

        async def now_s() -> float:
            answer = await self._ask(talk.Ping(self._seat))
            if not isinstance(answer, talk.Time):
                raise Unavailable("The conductor did not say what time it is.")
            return answer.now_s

        self._clock = await measure_offset(now_s)
        await self._ask(talk.ClockIs(self._seat, self._name, self._clock.offset_s, self._clock.error_s))

    async def _perform(self, order: talk.Perform) -> bool:
        """One level; whether this generator is of further use."""
        await self._measure_clock()
        with TemporaryDirectory(prefix="evalmesh-level-", dir=self._tools.scratch.folder) as folder:
            records = Path(folder) / "records.bin"
            ticks: list[Tick] = []
            began = self._tools.clock.now()
            try:
                await self._set_up(order.position, order.of, order.token_scale, order.token_offset)
                async with self._stoppable(order.number):
                    run, feed = self._wishes(order, records)
                    performance = await self._pair.perform(
                        run, feed, partial(self._when_ready, order), partial(self._on_tick, ticks)
                    )
            except PairBrokenError as error:
                performance = Performance(None, None, str(error))
            if performance.done is not None and performance.done.sent_first_s is not None:
                began = self._tools.clock.now() - performance.done.wall_s
            # A store that is full for a while must not make this generator look lost, with all it has measured.
            async with self._beating(order.number):
                await self._leave_slice(order, performance, ticks, records, began)
        self._finished = order.number
        leaves = not self._pair.alive or self._pair.busy
        await self._ask(talk.Finished(self._seat, self._name, order.number, leaves))
        if leaves:
            raise Unavailable(
                f"{performance.error or 'a generator process ended'}; taking the seat again with new ones."
            )
        return True

    def _wishes(self, order: talk.Perform, records: Path) -> tuple[RunLevel, FeedLevel]:
        run = RunLevel(
            number=order.number,
            level=share_of(order.level, order.position, order.of),
            arrival=order.arrival,
            records_path=str(records),
            drain_s=order.drain_s,
            goodput_ms=order.goodput_ms,
        )
        return run, FeedLevel(order.number, order.level, order.arrival, order.warmup, order.first_prompt)

    async def _when_ready(self, order: talk.Perform) -> float | None:
        """When to start, on this machine's monotonic clock; `None`: not at all."""
        while True:
            answer = await self._ask(talk.ReadyFor(self._seat, self._name, order.number))
            if isinstance(answer, talk.Go):
                return answer.start_at - self._clock.offset_s
            if isinstance(answer, talk.StopLevel | talk.Over):
                return None
            if isinstance(answer, talk.Stranger) and not await self._hello("", ""):
                return None

    def _on_tick(self, ticks: list[Tick], tick: Tick) -> None:
        ticks.append(tick)
        event = Event(
            run=self._test.id,
            kind="load",
            source=self._name,
            time=self._tools.clock.now(),
            load=encode_seat_tick(self._seat, tick),
        )
        # Not awaited: a bus that is slow must not keep the engine's next words waiting in their pipe.
        task = asyncio.create_task(self._tools.bus.emit(event))
        self._emits.add(task)
        task.add_done_callback(self._emits.discard)

    @asynccontextmanager
    async def _stoppable(self, number: int) -> AsyncIterator[None]:
        """While the block lasts, the level ends when the conductor says so or the load test is cancelled."""
        stops: set[asyncio.Task[None]] = set()

        def cancelled(load_test: str) -> None:
            if load_test == self._test.id:
                stops.add(asyncio.create_task(self._pair.stop("the load test was cancelled")))

        forget = self._tools.control.on_cancel(cancelled)
        if self._tools.control.is_cancelled(self._test.id):
            cancelled(self._test.id)
        try:
            async with self._beating(number):
                yield
        finally:
            forget()
            await asyncio.gather(*stops, return_exceptions=True)

    @asynccontextmanager
    async def _beating(self, number: int) -> AsyncIterator[None]:
        """While the block lasts, the conductor hears that this generator lives."""
        beats = asyncio.create_task(self._beat(number))
        try:
            yield
        finally:
            beats.cancel()
            await asyncio.gather(beats, return_exceptions=True)

    async def _beat(self, number: int) -> None:
        """Tells that this generator lives; an outage of the bus or a conductor being replaced changes nothing."""
        while True:
            await asyncio.sleep(_BEAT_S)
            with contextlib.suppress(EvalmeshError):
                data = await self._tools.signals.ask(
                    self._subject, talk.encode(talk.Beat(self._seat, self._name, number)), _ASK_S
                )
                answer = talk.decode_answer(data)
                if isinstance(answer, talk.StopLevel):
                    await self._pair.stop(answer.reason)
                elif isinstance(answer, talk.Over):
                    await self._pair.stop("the load test is over")
                elif isinstance(answer, talk.Stranger):
                    await self._hello("", "")

    async def _leave_slice(
        self, order: talk.Perform, performance: Performance, ticks: list[Tick], records: Path, began: float
    ) -> None:
        one = Slice(
            seat=self._seat,
            generator=self._name,
            host=self._host,
            number=order.number,
            position=order.position,
            of=order.of,
            clock_offset_s=self._clock.offset_s,
            clock_error_s=self._clock.error_s,
            same_clock=self._same_clock,
            start_time=began,
            done=performance.done,
            fed=performance.fed,
            error=performance.error or (performance.done.error if performance.done is not None else ""),
        )
        await wait_out(
            lambda: self._tools.slices.write(self._test.id, one, ticks, records),
            Patience(),
            lambda: self._tools.control.is_cancelled(self._test.id),
        )
