"""What a conductor's desk answers its seats, and how a level is led over it."""

import asyncio
from collections.abc import Callable

import pytest

from evalmesh.domain.errors import FailedPrecondition, InvalidInput
from evalmesh.domain.load_test import ArrivalSpec, LoadLevel
from evalmesh.load_generator import seat_talk as talk
from evalmesh.load_generator.conductor.desk import Desk
from evalmesh.load_generator.conductor.level_run import LevelLead, LevelOrder, LevelRun, Lookout, Superseded
from evalmesh.load_generator.conductor.programme import Planned

LOST_AFTER_S = 0.3


class Caller:
    """A generator, reduced to what it says."""

    def __init__(self, desk: Desk, seat: int, name: str) -> None:
        self._desk, self._seat, self._name = desk, seat, name

    async def says(self, question: talk.SeatSays) -> talk.ConductorSays:
        return talk.decode_answer(await self._desk.handle(talk.encode(question)))

    async def hello(self, problem: str = "") -> talk.ConductorSays:
        return await self.says(talk.Hello(self._seat, self._name, "host", "boot", problem))

    async def next(self, after: int = -1) -> talk.ConductorSays:
        return await self.says(talk.Next(self._seat, self._name, after))

    async def ready(self, number: int) -> talk.ConductorSays:
        return await self.says(talk.ReadyFor(self._seat, self._name, number))

    async def beat(self, number: int) -> talk.ConductorSays:
        return await self.says(talk.Beat(self._seat, self._name, number))

    async def finished(self, number: int) -> talk.ConductorSays:
        return await self.says(talk.Finished(self._seat, self._name, number))


@pytest.fixture
def desk() -> Desk:
    return Desk("conductor", "boot")


async def _nothing() -> None:
    return None


async def _yes() -> bool:
    return True


def lead_of(desk: Desk, seats: int = 2, *, bus_answers: Callable[..., object] = _yes, slices: object = ()) -> LevelLead:
    async def has_slice(level: int, seat: int) -> bool:
        return (level, seat) in slices

    return LevelLead(desk, seats, LOST_AFTER_S, Lookout(_nothing, bus_answers, has_slice))


def orders(seats: dict[int, str]) -> tuple[LevelRun, dict[int, talk.Perform]]:
    level = LoadLevel(parallel=len(seats), number=10)
    order = LevelOrder(0, seats, Planned(level), 0, 0)
    perform = {
        seat: talk.Perform(0, 0, level, ArrivalSpec(), position, len(seats), 0, 0, 0.0, {})
        for position, seat in enumerate(seats)
    }
    return LevelRun(order), perform


async def joined(desk: Desk, *names: str) -> list[Caller]:
    callers = [Caller(desk, seat, name) for seat, name in enumerate(names)]
    for caller in callers:
        await caller.hello()
    return callers


class TestSeats:
    async def test_a_generator_that_joins_is_told_the_time_of_the_conductor(self, desk: Desk) -> None:
        answer = await Caller(desk, 0, "a").hello()
        assert isinstance(answer, talk.Time)
        assert desk.seats[0].same_clock

    async def test_whoever_is_not_known_is_asked_to_say_hello(self, desk: Desk) -> None:
        assert await Caller(desk, 0, "a").next() == talk.Stranger()

    async def test_a_seat_belongs_to_the_last_who_took_it(self, desk: Desk) -> None:
        (first,) = await joined(desk, "a")
        await Caller(desk, 0, "b").hello()
        assert await first.next() == talk.Over()
        assert desk.seats[0].earlier == ["a"]

    async def test_an_unreadable_question_ends_the_one_who_asks(self, desk: Desk) -> None:
        assert talk.decode_answer(await desk.handle(b"{}")) == talk.Over()

    async def test_all_are_told_that_it_is_over_before_the_desk_is_left(self, desk: Desk) -> None:
        (caller,) = await joined(desk, "a")
        waiting = asyncio.create_task(caller.next())
        await asyncio.sleep(0)
        desk.end()
        await desk.farewell(5.0)
        assert await waiting == talk.Over()


class TestLevels:
    async def test_nobody_begins_before_all_are_ready_and_all_begin_at_once(self, desk: Desk) -> None:
        a, b = await joined(desk, "a", "b")
        run, perform = orders({0: "a", 1: "b"})
        lead = lead_of(desk)
        preparing = asyncio.create_task(lead.prepare(run, perform))
        assert await a.next() == perform[0]
        early = asyncio.create_task(a.ready(0))
        await asyncio.sleep(0.05)
        assert not preparing.done()
        late = asyncio.create_task(b.ready(0))
        assert await preparing
        lead.start(run, wall_s=1000.0)
        assert await early == await late == talk.Go(run.start_s)

    async def test_a_level_ends_when_all_have_finished(self, desk: Desk) -> None:
        a, b = await joined(desk, "a", "b")
        run, perform = orders({0: "a", 1: "b"})
        desk.offer(perform)
        finishing = asyncio.create_task(lead_of(desk).finish(run))
        await a.finished(0)
        await asyncio.sleep(0.05)
        assert not finishing.done()
        await b.finished(0)
        await finishing
        assert run.finished == {0, 1}
        assert run.lost == {}

    async def test_a_silent_generator_is_lost_and_the_others_are_waited_for(self, desk: Desk) -> None:
        a, _ = await joined(desk, "a", "b")
        run, perform = orders({0: "a", 1: "b"})
        desk.offer(perform)
        finishing = asyncio.create_task(lead_of(desk).finish(run))
        for _ in range(12):
            await asyncio.sleep(0.1)
            await a.beat(0)
        assert list(run.lost) == [1]
        assert "b" in run.lost[1]
        await a.finished(0)
        await finishing

    async def test_a_seat_that_was_taken_again_is_lost_for_the_level(self, desk: Desk) -> None:
        await joined(desk, "a")
        run, perform = orders({0: "a"})
        desk.offer(perform)
        await Caller(desk, 0, "z").hello()
        await lead_of(desk, 1).finish(run)
        assert "z took its seat" in run.lost[0]

    async def test_silence_while_the_bus_is_away_says_nothing(self, desk: Desk) -> None:
        async def no() -> bool:
            return False

        (a,) = await joined(desk, "a")
        run, perform = orders({0: "a"})
        desk.offer(perform)
        finishing = asyncio.create_task(lead_of(desk, 1, bus_answers=no).finish(run))
        await asyncio.sleep(1.2)
        assert run.lost == {}
        await a.finished(0)
        await finishing

    async def test_a_slice_in_the_store_counts_though_its_generator_is_gone(self, desk: Desk) -> None:
        await joined(desk, "a")
        run, perform = orders({0: "a"})
        desk.offer(perform)
        await lead_of(desk, 1, slices={(0, 0)}).finish(run)
        assert run.finished == {0}
        assert run.lost == {}

    async def test_a_stop_reaches_those_at_work_and_those_who_wait(self, desk: Desk) -> None:
        a, b = await joined(desk, "a", "b")
        _, perform = orders({0: "a", 1: "b"})
        desk.offer(perform)
        waiting = asyncio.create_task(b.ready(0))
        await asyncio.sleep(0)
        desk.stop("cancelled")
        assert await waiting == await a.beat(0) == talk.StopLevel("cancelled")


class TestTakingOver:
    async def test_a_level_that_ended_while_nobody_conducted_is_noticed(self, desk: Desk) -> None:
        """The seat's news of its end reached nobody who knew it; its next question tells it again."""
        run, _ = orders({0: "a"})
        seat = Caller(desk, 0, "a")
        finishing = asyncio.create_task(lead_of(desk, 1).finish(run))
        assert await seat.finished(0) == talk.Stranger()
        await seat.hello()
        asking = asyncio.create_task(seat.next(after=0))
        await asyncio.wait_for(finishing, 5)
        assert run.finished == {0}
        desk.end()
        await asking


class TestGathering:
    async def test_a_generator_that_cannot_read_the_data_set_says_so(self, desk: Desk) -> None:
        await Caller(desk, 0, "a").hello("dataset_path: line 3 is no JSON")
        with pytest.raises(InvalidInput, match="line 3"):
            await lead_of(desk, 1).gather(Planned(LoadLevel(parallel=1, number=1)), 1.0)

    async def test_an_empty_desk_is_an_error_that_says_what_to_start(self, desk: Desk) -> None:
        with pytest.raises(FailedPrecondition, match=r"evalmesh\.load_generator"):
            await lead_of(desk, 1).gather(Planned(LoadLevel(parallel=1, number=1)), 0.1)

    async def test_no_more_generators_than_slots_are_used(self, desk: Desk) -> None:
        await joined(desk, "a", "b")
        assert await lead_of(desk).gather(Planned(LoadLevel(parallel=1, number=1)), 1.0) == [0]

    async def test_a_conductor_that_was_superseded_stops(self, desk: Desk) -> None:
        async def superseded() -> None:
            raise Superseded

        lead = LevelLead(desk, 1, LOST_AFTER_S, Lookout(superseded, _yes, lambda *_: _yes()))
        with pytest.raises(Superseded):
            await lead.gather(Planned(LoadLevel(parallel=1, number=1)), 5.0)
