"""Lengths have the asked distribution and never leave their bounds."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import Lengths
from evalmesh.load.arrivals.lengths import check, sampler

EVEN = [(i + 0.5) / 20_000 for i in range(20_000)]


def test_fixed_is_always_the_same() -> None:
    assert {sampler(Lengths("fixed", 7, 7))(u) for u in EVEN[:50]} == {7}


def test_uniform_includes_both_bounds_equally_often() -> None:
    drawn = [sampler(Lengths("uniform", 3, 6))(u) for u in EVEN]
    assert {value: drawn.count(value) for value in set(drawn)} == {3: 5000, 4: 5000, 5: 5000, 6: 5000}


def test_normal_has_its_mean_and_deviation() -> None:
    drawn = [sampler(Lengths("normal", 1, 10_000, mean=500, spread=50))(u) for u in EVEN]
    assert statistics.fmean(drawn) == pytest.approx(500, abs=0.5)
    assert statistics.pstdev(drawn) == pytest.approx(50, abs=0.5)


def test_lognormal_has_its_median_and_sigma() -> None:
    drawn = [sampler(Lengths("lognormal", 1, 10**6, mean=400, spread=0.8))(u) for u in EVEN]
    assert statistics.median(drawn) == pytest.approx(400, abs=1)
    assert statistics.pstdev([math.log(value) for value in drawn]) == pytest.approx(0.8, abs=0.005)


@given(
    st.sampled_from(("fixed", "uniform", "normal", "lognormal")),
    st.integers(1, 1000),
    st.integers(0, 1000),
    st.floats(0.1, 1e6),
    st.floats(0, 50),
    st.floats(0, 1, exclude_max=True),
)
def test_bounds_hold(kind: str, low: int, width: int, middle: float, spread: float, u: float) -> None:
    asked = Lengths(kind, low, low if kind == "fixed" else low + width, middle, spread)
    check(asked, "x")
    assert asked.low <= sampler(asked)(u) <= asked.high


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (Lengths("weird", 1, 1), "input.kind"),
        (Lengths("fixed", 1, 2), "input.high"),
        (Lengths("uniform", 5, 4), "input.high"),
        (Lengths("uniform", -1, 4), "input.low"),
        (Lengths("uniform", 1, 10**9), "input.high"),
        (Lengths("normal", 1, 10, mean=0, spread=1), "input.mean"),
        (Lengths("normal", 1, 10, mean=math.nan, spread=1), "input.mean"),
        (Lengths("lognormal", 1, 10, mean=5, spread=-1), "input.spread"),
    ],
)
def test_what_is_no_distribution_is_refused_by_field(asked: Lengths, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check(asked, "input")
    assert caught.value.details["field"] == field


def test_lengths_of_a_trace_come_from_its_rows() -> None:
    check(Lengths("trace"), "input")
    with pytest.raises(InvalidInput, match="trace"):
        sampler(Lengths("trace"))
