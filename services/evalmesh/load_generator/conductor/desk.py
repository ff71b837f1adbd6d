"""The conductor's desk: who holds which seat, what each was told, who is ready, who is finished, who is lost."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from evalmesh.load_generator.seat_talk import (
    Beat,
    CarryOn,
    ClockIs,
    ConductorSays,
    Finished,
    Go,
    Hello,
    Next,
    Over,
    Perform,
    Ping,
    ReadyFor,
    SeatSays,
    StopLevel,
    Stranger,
    Time,
    Wait,
    decode_question,
    encode,
)

_LONG_POLL_S = 2.0
Now = Callable[[], float]


@dataclass(slots=True)
class Seat:
    """One seat, as its present holder tells."""

    number: int
    generator: str
    host: str
    same_clock: bool
    heard_s: float
    problem: str = ""
    note: str = ""
    offset_s: float = 0.0
    clock_error_s: float = 0.0
    order: Perform | None = None
    """What it is to do next, or is doing."""
    ready: bool = False
    finished: int = -1
    """Number of the last level it finished."""
    left: bool = False
    """It has said that it is going; another one will come."""
    earlier: list[str] = field(default_factory=list)
    """Generators that held the seat before and were lost."""


class Desk:
    """Answers the seats of one load test. All times are of the monotonic clock `now`."""

    def __init__(self, conductor: str, boot_id: str, now: Now = time.monotonic) -> None:
        self._conductor = conductor
        self._boot_id = boot_id
        self._now = now
        self.opened_s = now()
        self.seats: dict[int, Seat] = {}
        self._start_at: float | None = None
        self._stop_reason = ""
        self._over = False
        self._told: set[int] = set()
        self._changed = asyncio.Event()

    async def handle(self, body: bytes) -> bytes:
        """One question. A question that cannot be read gets `Over`: whoever asks it is of another version."""
        try:
            question = decode_question(body)
        except msgspec.DecodeError:
            return encode(Over())
        return encode(await self._answer(question))

    async def _answer(self, question: SeatSays) -> ConductorSays:
        if isinstance(question, Ping):
            return Time(self._now(), self._boot_id, self._conductor)
        if isinstance(question, Hello):
            return self._welcome(question)
        seat = self.seats.get(question.seat)
        if seat is None or seat.generator != question.generator:
            return Stranger() if seat is None else Over()
        seat.heard_s = self._now()
        if isinstance(question, Next):
            return await self._next(seat, question.after)
        if isinstance(question, ReadyFor):
            return await self._go(seat, question.number)
        return self._noted(seat, question)

    def _noted(self, seat: Seat, news: ClockIs | Beat | Finished) -> ConductorSays:
        match news:
            case ClockIs(offset_s=offset_s, error_s=error_s):
                seat.offset_s, seat.clock_error_s = offset_s, error_s
            case Beat() if self._stop_reason:
                return StopLevel(self._stop_reason)
            case Finished(number=number, leaves=leaves):
                seat.finished = max(seat.finished, number)
                seat.left = leaves
                self._tell()
        return CarryOn()

    def _welcome(self, hello: Hello) -> ConductorSays:
        known = self.seats.get(hello.seat)
        same_clock = bool(hello.boot_id) and hello.boot_id == self._boot_id
        if known is not None and known.generator == hello.generator:
            known.heard_s = self._now()
        else:
            earlier = [] if known is None else [*known.earlier, known.generator]
            self.seats[hello.seat] = Seat(
                number=hello.seat,
                generator=hello.generator,
                host=hello.host,
                same_clock=same_clock,
                heard_s=self._now(),
                problem=hello.problem,
                note=hello.note,
                earlier=earlier,
            )
        if self._over:
            self._told.add(hello.seat)
        self._tell()
        return Over() if self._over else Time(self._now(), self._boot_id, self._conductor)

    async def _next(self, seat: Seat, after: int) -> ConductorSays:
        if after > seat.finished:
            # Told with this question too, since a conductor that has just taken over did not hear the news itself.
            seat.finished = after
            self._tell()
        await self._until(lambda: self._over or self._has_order(seat, after))
        if self._over:
            self._told.add(seat.number)
            self._tell()
            return Over()
        return seat.order if self._has_order(seat, after) and seat.order is not None else Wait()

    def _has_order(self, seat: Seat, after: int) -> bool:
        return seat.order is not None and seat.order.number > after

    async def _go(self, seat: Seat, number: int) -> ConductorSays:
        if seat.order is None or seat.order.number != number:
            return StopLevel("the level is over")
        seat.ready = True
        self._tell()
        await self._until(lambda: self._start_at is not None or bool(self._stop_reason))
        if self._stop_reason:
            return StopLevel(self._stop_reason)
        return Wait() if self._start_at is None else Go(self._start_at)

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Returns when it holds, or after a moment all the same."""
        deadline = self._now() + _LONG_POLL_S
        while not holds() and (left_s := deadline - self._now()) > 0:
            await self._wait(left_s)

    async def _wait(self, timeout_s: float) -> None:
        changed = self._changed
        try:
            await asyncio.wait_for(changed.wait(), timeout_s)
        except TimeoutError:
            return

    def _tell(self) -> None:
        """Wakes everybody who waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    # The conductor's side.

    async def change(self, timeout_s: float) -> None:
        """Returns when a seat said something that matters, or after `timeout_s`."""
        await self._wait(timeout_s)

    def offer(self, orders: Mapping[int, Perform]) -> None:
        """Gives seats their orders for a level; the others wait."""
        self._start_at, self._stop_reason = None, ""
        for number, order in orders.items():
            self.seats[number].order = order
            self.seats[number].ready = False
        self._tell()

    def start(self, start_at: float) -> None:
        """Lets the level begin at this moment."""
        self._start_at = start_at
        self._tell()

    def stop(self, reason: str) -> None:
        """Ends the level under way."""
        self._stop_reason = reason or "stopped"
        self._tell()

    def end(self) -> None:
        """Ends the load test: whoever asks may go."""
        self._over = True
        self._tell()

    async def farewell(self, timeout_s: float) -> None:
        """Returns when every seat knows that the load test is over, or after `timeout_s`."""
        deadline = self._now() + timeout_s
        staying = {number for number, seat in self.seats.items() if not seat.left}
        while self._told < staying and (left_s := deadline - self._now()) > 0:
            await self._wait(left_s)

    def silent(self, seats: Sequence[int], lost_after_s: float) -> list[int]:
        """Those not heard for this long."""
        now = self._now()
        return [number for number in seats if now - self.seats[number].heard_s > lost_after_s]
