"""One level, from the order to the seats until their slices are in."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from evalmesh.domain.errors import FailedPrecondition, InvalidInput
from evalmesh.load_generator import seat_talk as talk
from evalmesh.load_generator.conductor.desk import Desk
from evalmesh.load_generator.conductor.programme import Planned
from evalmesh.load_generator.seat.shares import performers

_LOG = logging.getLogger(__name__)
_PREPARE_S = 120.0
_LEAD_ONE_CLOCK_S = 0.01
_LEAD_S = 0.25
"""From the word to the start: generators on other machines must have heard it by then."""
_LOOK_S = 0.5
_HEARD_WITHIN_S = 3.0
"""Whoever is still at it beats each second; a level that is to end need not be waited for any longer."""
Now = Callable[[], float]


class Superseded(Exception):
    """Another conductor has taken over."""


class LevelOrder(msgspec.Struct, frozen=True):
    """Which generators perform a level: kept, so that another conductor can collect what they leave behind."""

    number: int
    seats: dict[int, str]
    """Generator by seat."""
    planned: Planned
    warmup: int
    first_prompt: int


@dataclass(slots=True)
class LevelRun:
    """How a level goes, before its figures are computed."""

    order: LevelOrder
    start_s: float | None = None
    """On the conductor's monotonic clock; `None` when another conductor started it."""
    start_time: float = 0.0
    """Unix seconds, by the conductor's wall clock."""
    lost: dict[int, str] = field(default_factory=dict)
    """Why, by seat."""
    finished: set[int] = field(default_factory=set)
    stopped: str = ""

    @property
    def waiting(self) -> list[int]:
        """Seats that are still at it."""
        return [seat for seat in self.order.seats if seat not in self.lost and seat not in self.finished]


@dataclass(frozen=True, slots=True)
class Lookout:
    """What the lead of a level asks the world."""

    still_mine: Callable[[], Awaitable[None]]
    """Raises `Superseded` when another conductor has taken over."""
    bus_answers: Callable[[], Awaitable[bool]]
    """Whether the bus works: when it does not, silence says nothing about the seats."""
    has_slice: Callable[[int, int], Awaitable[bool]]
    """Whether the level (first) of a seat (second) has its slice in the store."""
    cancelled: Callable[[], bool] = lambda: False
    """Whether the load test is to end."""


@dataclass(frozen=True, slots=True)
class LevelLead:
    """Takes the seats of a desk through levels."""

    desk: Desk
    seats: int
    lost_after_s: float
    lookout: Lookout
    now: Now = time.monotonic

    async def gather(self, planned: Planned, timeout_s: float) -> list[int]:
        """Seats that can perform the level: as many as it can use, or those that came in time, or before a cancel.

        Raises:
            InvalidInput: a generator cannot read the data set or tokenizer.
            FailedPrecondition: no seat was taken in time.
        """
        wanted = performers(planned.level, self.seats)
        deadline = self.now() + timeout_s
        while True:
            silent = self.desk.silent(list(self.desk.seats), self.lost_after_s)
            here = [number for number, one in sorted(self.desk.seats.items()) if not one.left and number not in silent]
            for number in here:
                if problem := self.desk.seats[number].problem:
                    raise InvalidInput(problem)
            left_s = deadline - self.now()
            if len(here) >= wanted or (here and left_s <= 0) or self.lookout.cancelled():
                return here[:wanted]
            if left_s <= 0:
                raise FailedPrecondition(
                    f"No load generator took a seat within {timeout_s:.0f} s. Start one "
                    "(python -m evalmesh.load_generator), or see why those that run are busy."
                )
            await self.desk.change(min(left_s, _LOOK_S))
            await self.lookout.still_mine()

    async def prepare(self, run: LevelRun, orders: Mapping[int, talk.Perform]) -> bool:
        """Gives the orders and waits until every seat is ready; whether the level can begin.

        When it was stopped before, seats that have their orders write down what was not sent.
        """
        self.desk.offer(orders)
        deadline = self.now() + _PREPARE_S
        while waiting := [seat for seat in run.waiting if not self._is_ready(run, seat)]:
            await self._note_lost(run, waiting)
            if run.stopped:
                break
            if self.now() > deadline:
                run.lost.update(dict.fromkeys(waiting, f"it did not get ready within {_PREPARE_S:.0f} s"))
                break
            await self.desk.change(_LOOK_S)
        if run.stopped:
            self.desk.stop(run.stopped)
            return False
        return any(seat not in run.lost for seat in run.order.seats)

    def start(self, run: LevelRun, wall_s: float) -> None:
        """Sets the moment at which every generator begins."""
        one_clock = all(self.desk.seats[seat].same_clock for seat in run.waiting)
        lead_s = _LEAD_ONE_CLOCK_S if one_clock else _LEAD_S
        run.start_s = self.now() + lead_s
        run.start_time = wall_s + lead_s
        self.desk.start(run.start_s)

    async def finish(self, run: LevelRun) -> None:
        """Returns when every seat has finished or is lost."""
        looked_s = self.now()
        while True:
            for seat in run.waiting:
                if self._holds(run, seat) and self.desk.seats[seat].finished >= run.order.number:
                    run.finished.add(seat)
            if not run.waiting:
                return
            await self.desk.change(_LOOK_S)
            if self.now() - looked_s >= _LOOK_S:
                looked_s = self.now()
                await self.lookout.still_mine()
                await self._note_lost(run, run.waiting)

    async def _note_lost(self, run: LevelRun, waiting: list[int]) -> None:
        gone = {seat: why for seat in waiting if (why := self._why_gone(run, seat))}
        if not gone or not await self.lookout.bus_answers():
            return
        for seat in gone:
            if await self.lookout.has_slice(run.order.number, seat):
                run.finished.add(seat)
            elif why := self._why_gone(run, seat):
                run.lost[seat] = why
                _LOG.warning("seat %d is lost in level %d: %s", seat, run.order.number, why)

    def _holds(self, run: LevelRun, seat: int) -> bool:
        """Whether the seat's holder is the one that performs this level."""
        known = self.desk.seats.get(seat)
        return known is not None and known.generator == run.order.seats[seat]

    def _is_ready(self, run: LevelRun, seat: int) -> bool:
        return self._holds(run, seat) and self.desk.seats[seat].ready

    def _why_gone(self, run: LevelRun, seat: int) -> str:
        """Empty while there is no reason to think so."""
        generator = run.order.seats[seat]
        known = self.desk.seats.get(seat)
        if known is None:
            patience_s = min(self.lost_after_s, _HEARD_WITHIN_S) if run.stopped else self.lost_after_s
            silent = self.now() - self.desk.opened_s > patience_s
            return f"generator {generator} was not heard again after another conductor took over" if silent else ""
        if known.generator != generator:
            return f"generator {generator} ended, and {known.generator} took its seat"
        silent = bool(self.desk.silent([seat], self.lost_after_s))
        return f"generator {generator} was not heard for {self.lost_after_s:.0f} s" if silent else ""
