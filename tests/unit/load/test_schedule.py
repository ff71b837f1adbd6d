"""Arrivals are what was asked for: their rate, their spread, their law; and the same at every seat."""

import math
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import ArrivalSpec, LoadLevel, Stage
from evalmesh.load.arrivals.schedule import Share, due_times, duration_s, is_open, planned

POISSON, CONSTANT = ArrivalSpec("poisson"), ArrivalSpec("constant")
KS_LIMIT = 1.95
"""Of D * sqrt(n): a true hypothesis exceeds it once in a thousand seeds (Kolmogorov's distribution)."""


def ks(samples: Sequence[float], cdf: Callable[[float], float]) -> float:
    """Kolmogorov-Smirnov: the largest distance between the samples' distribution and `cdf`, times sqrt(n)."""
    ordered, n = sorted(samples), len(samples)
    return max(max((i + 1) / n - cdf(x), cdf(x) - i / n) for i, x in enumerate(ordered)) * math.sqrt(n)


def gaps(times: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def cv(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)) / mean


def exponential(x: float) -> float:
    return 1 - math.exp(-x)


def gamma_cdf(shape: float, x: float) -> float:
    """Of a gamma distribution with mean 1: the series of the lower incomplete gamma function."""
    x *= shape
    if x <= 0:
        return 0.0
    term = total = 1.0 / shape
    for n in range(1, 2000):
        term *= x / (shape + n)
        total += term
        if term < total * 1e-15:
            break
    return min(1.0, total * math.exp(-x + shape * math.log(x) - math.lgamma(shape)))


class TestClosedLoop:
    def test_has_no_due_times(self) -> None:
        times = list(due_times(LoadLevel(parallel=8, number=100), ArrivalSpec(), 1))
        assert len(times) == 100
        assert all(math.isnan(time) for time in times)

    def test_a_rate_of_zero_is_closed_whatever_the_arrival(self) -> None:
        level = LoadLevel(parallel=4, number=3)
        assert not is_open(level, POISSON)
        assert all(math.isnan(time) for time in due_times(level, POISSON, 1))

    def test_a_duration_alone_is_endless(self) -> None:
        times = due_times(LoadLevel(parallel=8, duration_s=5), ArrivalSpec(), 1)
        assert len(list(islice(times, 10_000))) == 10_000

    def test_warm_up_comes_on_top(self) -> None:
        assert len(list(due_times(LoadLevel(parallel=8, number=100), ArrivalSpec(), 1, warmup=20))) == 120


class TestConstant:
    def test_requests_are_evenly_spaced_from_zero(self) -> None:
        times = list(due_times(LoadLevel(rate=200, number=1000), CONSTANT, 1))
        assert times == [i / 200 for i in range(1000)]

    @pytest.mark.parametrize(("rate", "duration", "count"), [(10, 0.3, 3), (0.1, 30, 3), (7, 1, 7), (3, 1.1, 4)])
    def test_a_duration_has_a_request_per_begun_gap(self, rate: float, duration: float, count: int) -> None:
        level = LoadLevel(rate=rate, duration_s=duration)
        times = list(due_times(level, CONSTANT, 1))
        assert len(times) == planned(level, CONSTANT) == count
        assert times[-1] < duration

    def test_the_smaller_bound_holds(self) -> None:
        assert len(list(due_times(LoadLevel(rate=10, number=5, duration_s=3), CONSTANT, 1))) == 5
        assert len(list(due_times(LoadLevel(rate=10, number=50, duration_s=3), CONSTANT, 1))) == 30


class TestPoisson:
    @pytest.mark.parametrize("seed", range(5))
    def test_the_rate_is_the_asked_one(self, seed: int) -> None:
        times = list(due_times(LoadLevel(rate=200, number=3000), POISSON, seed))
        assert len(times) == 3000
        assert (len(times) - 1) / (times[-1] - times[0]) == pytest.approx(200, rel=0.004)
        assert times[-1] < 3000 / 200

    def test_the_spread_of_gaps_is_one(self) -> None:
        times = list(due_times(LoadLevel(rate=200, number=100_000), POISSON, 3))
        assert cv(gaps(times)) == pytest.approx(1, abs=0.01)

    @pytest.mark.parametrize("seed", range(3))
    def test_gaps_are_exponential(self, seed: int) -> None:
        times = list(due_times(LoadLevel(rate=50, number=20_000), POISSON, seed))
        assert ks([gap * 50 for gap in gaps(times)], exponential) < KS_LIMIT

    def test_gaps_are_independent(self) -> None:
        values = gaps(list(due_times(LoadLevel(rate=1, number=50_000), POISSON, 8)))
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values)
        together = sum((a - mean) * (b - mean) for a, b in pairwise(values))
        assert abs(together / variance) < 4 / math.sqrt(len(values))

    def test_a_duration_is_filled_to_its_end_with_what_the_rate_says(self) -> None:
        times = list(due_times(LoadLevel(rate=100, duration_s=50), POISSON, 4))
        assert len(times) == 5000
        assert times[-1] < 50
        assert ks([time / 50 for time in times], lambda x: min(1, max(0, x))) < KS_LIMIT

    def test_without_any_bound_it_goes_on(self) -> None:
        times = list(islice(due_times(LoadLevel(rate=100), POISSON, 4), 50_000))
        assert ks([gap * 100 for gap in gaps(times)], exponential) < KS_LIMIT
        assert times[-1] == pytest.approx(500, rel=0.02)

    def test_a_short_level_at_a_low_rate_has_a_request(self) -> None:
        assert len(list(due_times(LoadLevel(rate=0.1, duration_s=2), POISSON, 4))) == 1


class TestGamma:
    @pytest.mark.parametrize("shape", [0.25, 0.5, 2.0, 8.0])
    def test_the_spread_of_gaps_is_that_of_the_shape(self, shape: float) -> None:
        times = list(due_times(LoadLevel(rate=20, number=40_000), ArrivalSpec("gamma", shape), 5))
        assert cv(gaps(times)) == pytest.approx(shape**-0.5, rel=0.03)
        assert len(times) / times[-1] == pytest.approx(20, rel=0.01)

    @pytest.mark.parametrize("shape", [0.5, 4.0])
    def test_gaps_have_the_law(self, shape: float) -> None:
        times = list(due_times(LoadLevel(rate=1, number=10_000), ArrivalSpec("gamma", shape), 6))
        assert ks(gaps(times), lambda x: gamma_cdf(shape, x)) < KS_LIMIT

    def test_a_shape_of_one_is_poisson(self) -> None:
        level = LoadLevel(rate=7, number=100)
        assert list(due_times(level, ArrivalSpec("gamma", 1.0), 9)) == list(due_times(level, POISSON, 9))

    def test_an_endless_bursty_process_does_not_begin_with_a_burst(self) -> None:
        """An ordinary renewal process with this shape has 7.5 arrivals too many at its start."""
        arrival, level = ArrivalSpec("gamma", 0.0625), LoadLevel(rate=10)
        counts = []
        for seed in range(400):
            times = due_times(level, arrival, seed)
            counts.append(next(i for i, time in enumerate(times) if time >= 10))
        assert sum(counts) / len(counts) == pytest.approx(100, abs=6)

    def test_no_shape_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match="burstiness is 0"):
            due_times(LoadLevel(rate=1, number=1), ArrivalSpec("gamma", 0.0), 1)


class TestStages:
    RAMP = (Stage(10, 0, 20), Stage(5, 20, 20), Stage(10, 20, 0))
    LEVEL = LoadLevel(stages=RAMP)

    @staticmethod
    def integrated(t: float) -> float:
        """Arrivals expected up to t of the ramp above."""
        if t <= 10:
            return t * t
        return 100 + 20 * (t - 10) if t <= 15 else 300 - (25 - t) ** 2

    def test_constant_arrivals_come_where_the_integrated_rate_is_whole(self) -> None:
        times = list(due_times(self.LEVEL, CONSTANT, 1))
        assert len(times) == 300
        assert [self.integrated(time) for time in times] == pytest.approx(list(range(300)), abs=1e-6)

    @pytest.mark.parametrize("arrival", [POISSON, ArrivalSpec("gamma", 4.0)])
    def test_arrivals_follow_the_rate(self, arrival: ArrivalSpec) -> None:
        level = LoadLevel(stages=tuple(Stage(s.duration_s, s.start * 100, s.end * 100) for s in self.RAMP))
        times = list(due_times(level, arrival, 2))
        assert len(times) == 30_000
        assert ks([self.integrated(time) / 300 for time in times], lambda x: x) < KS_LIMIT

    def test_poisson_gaps_are_exponential_in_the_time_of_the_rate(self) -> None:
        level = LoadLevel(stages=tuple(Stage(s.duration_s, s.start * 100, s.end * 100) for s in self.RAMP))
        times = list(due_times(level, POISSON, 2))
        assert ks(gaps([self.integrated(time) * 100 for time in times]), exponential) < KS_LIMIT

    def test_steps_have_their_own_counts(self) -> None:
        level = LoadLevel(stages=(Stage(10, 100, 100), Stage(0, 5, 5), Stage(10, 300, 300)))
        times = list(due_times(level, POISSON, 7))
        assert len(times) == 4000
        assert sum(time < 10 for time in times) == pytest.approx(1000, abs=4 * math.sqrt(1000 * 0.75))

    def test_number_ends_a_ramp_early(self) -> None:
        level = LoadLevel(stages=self.RAMP, number=50)
        assert len(list(due_times(level, POISSON, 1))) == 50
        assert len(list(due_times(level, CONSTANT, 1))) == 50

    def test_the_durations_bound_the_level(self) -> None:
        assert duration_s(self.LEVEL) == 25
        assert max(due_times(self.LEVEL, POISSON, 3)) < 25


class TestTrace:
    OFFSETS = (0.0, 0.5, 0.5, 4.0, 9.0)

    def test_offsets_are_replayed_at_the_asked_speed(self) -> None:
        times = due_times(LoadLevel(), ArrivalSpec("trace", speed=2), 1, offsets_s=self.OFFSETS)
        assert list(times) == [0, 0.25, 0.25, 2, 4.5]

    def test_number_and_duration_bound_it(self) -> None:
        arrival = ArrivalSpec("trace")
        assert list(due_times(LoadLevel(number=2), arrival, 1, offsets_s=self.OFFSETS)) == [0, 0.5]
        assert list(due_times(LoadLevel(duration_s=4), arrival, 1, offsets_s=self.OFFSETS)) == [0, 0.5, 0.5]

    def test_no_speed_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match="speed is 0"):
            due_times(LoadLevel(), ArrivalSpec("trace", speed=0), 1, offsets_s=self.OFFSETS)


levels = st.builds(
    LoadLevel,
    rate=st.floats(0.5, 500),
    number=st.integers(0, 300),
    duration_s=st.floats(0.1, 3),
)
arrivals = st.builds(ArrivalSpec, st.sampled_from(("constant", "poisson", "gamma")), st.floats(0.2, 5))


@given(levels, arrivals, st.integers(1, 7), st.integers(0, 2**64 - 1), st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_the_union_of_the_seats_is_the_global_process(
    level: LoadLevel, arrival: ArrivalSpec, seats: int, seed: int, warmup: int
) -> None:
    whole = list(enumerate(due_times(level, arrival, seed, warmup)))
    shares = [Share(seat, seats).of(due_times(level, arrival, seed, warmup)) for seat in range(seats)]
    assert sorted(request for share in shares for request in share) == whole
    assert [time for _, time in whole] == sorted(time for _, time in whole)
    assert len(whole) == planned(level, arrival, warmup)
    assert all(0 <= time < level.duration_s for _, time in whole)


def test_warm_up_is_the_beginning_of_the_schedule() -> None:
    assert len(list(due_times(LoadLevel(rate=100, number=500), POISSON, 1, warmup=50))) == 550
    assert planned(LoadLevel(rate=100, duration_s=5), POISSON, warmup=50) == 500


@pytest.mark.parametrize("arrival", [CONSTANT, POISSON, ArrivalSpec("gamma", 0.5)])
def test_memory_does_not_grow_with_the_level(arrival: ArrivalSpec) -> None:
    times = due_times(LoadLevel(rate=1e6, number=10**9), arrival, 1)
    next(times)
    tracemalloc.start()
    try:
        last = 0.0
        for _ in range(30_000):
            last = next(times)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert last > 0
    assert peak < 20_000
