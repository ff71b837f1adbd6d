"""When nobody is there, slots rest longer and longer, and a level that ends by its number is given up."""

import asyncio
import time

import pytest

from evalmesh.load.exchange import Exchange
from evalmesh.load.measure.records import Outcome
from evalmesh.load_generator.engine import outage
from evalmesh.load_generator.engine.outage import Outage


def ended(outcome: Outcome, at_s: float, *, first_byte: bool = False) -> Exchange:
    exchange = Exchange(b"", None)
    exchange.outcome, exchange.end_s, exchange.detail = outcome, at_s, "connection refused"
    exchange.first_byte_s = at_s if first_byte else 0.0
    return exchange


class Waiting:
    """An event loop that notes how long is waited."""

    def __init__(self) -> None:
        self.delays: list[float] = []
        self._loop = asyncio.get_running_loop()

    def call_later(self, delay_s: float, *call: object) -> asyncio.TimerHandle:
        self.delays.append(delay_s)
        return self._loop.call_later(0, *call)


def refusals(one: Outage, times: list[float]) -> list[bool]:
    return [one.rests(ended(Outcome.CONNECT, at_s), lambda _: None) for at_s in times]


async def test_a_few_refusals_rest_nobody_and_a_row_of_them_does() -> None:
    loop = Waiting()
    one = Outage(loop, slots=2, start_s=0.0)
    assert refusals(one, [0.1] * 7) == [False] * 7
    assert refusals(one, [0.05, 1.0, 5.0, 100.0]) == [True] * 4
    assert loop.delays == [0.01, 0.1, 0.5, 1.0]


async def test_as_many_as_there_are_slots_may_fail_before_any_rests() -> None:
    one = Outage(Waiting(), slots=32, start_s=0.0)
    assert refusals(one, [0.1] * 32) == [False] * 31 + [True]


@pytest.mark.parametrize(
    "sign",
    [
        ended(Outcome.OK, 3.0, first_byte=True),
        ended(Outcome.HTTP, 3.0, first_byte=True),
        ended(Outcome.RESET, 3.0, first_byte=True),
        ended(Outcome.READ_TIMEOUT, 3.0),
    ],
)
async def test_a_sign_of_life_ends_the_row(sign: Exchange) -> None:
    loop = Waiting()
    one = Outage(loop, slots=1, start_s=0.0)
    assert refusals(one, [1.0] * 8)[-1]
    assert not one.rests(sign, lambda _: None)
    assert refusals(one, [4.0] * 8) == [False] * 7 + [True]
    assert loop.delays[-1] == pytest.approx(0.1), "a tenth of the second since the sign of life"


@pytest.mark.parametrize(("gone_s", "was_there", "given_up"), [(5, False, False), (11, False, True), (11, True, False),
                                                              (31, True, True)])  # fmt: skip
async def test_a_verdict_comes_when_it_has_been_long(gone_s, was_there, given_up) -> None:
    start_s = time.monotonic() - gone_s
    one = Outage(Waiting(), slots=1, start_s=start_s)
    if was_there:
        one.rests(ended(Outcome.OK, start_s, first_byte=True), lambda _: None)
    told: list[str] = []
    for _ in range(8):
        one.rests(ended(Outcome.CONNECT, time.monotonic()), told.append)
    await asyncio.sleep(0.01)
    assert len(told) == 1
    assert told[0] == (f"nobody answered for {gone_s} s: connection refused" if given_up else "")


async def test_rests_that_are_ended_tell_nobody() -> None:
    one = Outage(asyncio.get_running_loop(), slots=1, start_s=time.monotonic())
    told: list[str] = []
    for _ in range(9):
        one.rests(ended(Outcome.TLS, time.monotonic()), told.append)
    assert one.end_rests() == 2
    assert one.end_rests() == 0
    await asyncio.sleep(2 * outage._SHORTEST_S)
    assert told == []
