"""What each generator of a level gets, and what clocks tell of each other."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.domain.load_test import LoadLevel, Stage
from evalmesh.load_generator.engine.pacing import parallel_at
from evalmesh.load_generator.seat.clocks import measure_offset
from evalmesh.load_generator.seat.shares import performers, share_of, warmup_count


@given(parallel=st.integers(1, 5000), number=st.integers(0, 10**6), of=st.integers(1, 64))
def test_shares_add_up_and_are_even(parallel: int, number: int, of: int) -> None:
    of = min(of, parallel)
    shares = [share_of(LoadLevel(parallel=parallel, number=number, rate=7.0), at, of) for at in range(of)]
    assert sum(share.parallel for share in shares) == parallel
    assert sum(share.number for share in shares) == number
    assert sum(share.rate for share in shares) == pytest.approx(7.0)
    assert max(share.parallel for share in shares) - min(share.parallel for share in shares) <= 1


@given(number=st.integers(1, 5000), of=st.integers(1, 9))
def test_the_counts_are_those_of_the_schedule(number: int, of: int) -> None:
    """Request i belongs to generator i mod n."""
    for at in range(of):
        mine = len(range(at, number, of))
        assert share_of(LoadLevel(parallel=of, number=number), at, of).number == mine


@given(slots=st.integers(0, 500), of=st.integers(1, 16))
def test_slots_of_stages_add_up(slots: int, of: int) -> None:
    """At each whole number of a ramp, over all generators."""
    level = LoadLevel(stages=(Stage(5, slots, slots),))
    shares = [share_of(level, at, of).stages for at in range(of)]
    assert sum(parallel_at(stages, 2.5) for stages in shares) == slots
    assert max(parallel_at(stages, 2.5) for stages in shares) <= slots // of + 1


def test_stages_of_rates_are_the_schedules() -> None:
    open_loop = LoadLevel(rate=4, stages=(Stage(5, 2, 8),))
    assert share_of(open_loop, 0, 2).stages == open_loop.stages


def test_a_level_uses_no_more_generators_than_slots() -> None:
    assert performers(LoadLevel(parallel=2, number=1), 4) == 2
    assert performers(LoadLevel(rate=5, number=1), 4) == 4


def test_warmup_is_a_count_or_a_share() -> None:
    level = LoadLevel(parallel=1, number=200)
    assert [warmup_count(value, level) for value in (0, 0.1, 1, 7)] == [0, 20, 1, 7]


async def test_an_offset_is_found_within_the_error_that_is_stated() -> None:
    async def theirs() -> float:
        return time.monotonic() + 123.456

    measured = await measure_offset(theirs)
    assert abs(measured.offset_s - 123.456) <= measured.error_s
    assert measured.error_s < 0.05
