"""Verdicts at the limit itself are wrong at most once in twenty, also where requests are late together."""

import math

import numpy as np
import pytest
from tests.unit.load.test_load_intervals import Series, autoregressive, independent, normal, queueing, waiting

from evalmesh.load.measure.distributions import ExactDistribution
from evalmesh.load.measure.histogram import Histogram
from evalmesh.load.measure.intervals import Beyond
from evalmesh.scoring.statistics import binomial_tails

RUNS = 200
MOST = 0.05 + 2 * math.sqrt(0.05 * 0.95 / RUNS)
"""One in twenty, and what as many runs scatter by."""


def verdicts(series: Series, n: int, q: float, limit: float) -> list[str]:
    rng = np.random.default_rng(7)
    return [ExactDistribution(series(rng, n)).beyond(limit).against(1 - q) for _ in range(RUNS)]


@pytest.mark.parametrize(
    ("series", "truth"),
    [
        (independent, lambda q: math.exp(0.7 * normal(q))),
        (autoregressive(0.9), normal),
        (queueing(0.5), lambda q: waiting(0.5, q)),
    ],
    ids=["independent", "autoregressive", "queue"],
)
@pytest.mark.parametrize("q", [0.9, 0.99])
def test_a_verdict_at_the_limit_is_wrong_once_in_twenty(series: Series, truth: object, q: float) -> None:
    value = truth(q)  # type: ignore[operator]
    assert verdicts(series, 1000, q, 0.999 * value).count("met") <= MOST * RUNS
    assert verdicts(series, 1000, q, 1.001 * value).count("missed") <= MOST * RUNS


def test_what_is_clear_is_decided() -> None:
    value = math.exp(0.7 * normal(0.99))
    assert verdicts(independent, 1000, 0.99, 2 * value).count("met") >= 0.8 * RUNS
    assert verdicts(independent, 1000, 0.99, 0.5 * value).count("missed") >= 0.95 * RUNS


@pytest.mark.parametrize(
    ("hits", "n", "share", "at_most", "at_least"),
    [
        (0, 299, 0.01, 0.99**299, 1.0),
        (3, 10, 0.5, 176 / 1024, 968 / 1024),
        (10, 10, 0.5, 1.0, 1 / 1024),
    ],
)
def test_tails_of_the_binomial_distribution(hits: int, n: int, share: float, at_most: float, at_least: float) -> None:
    assert binomial_tails(hits, n, share) == pytest.approx((at_most, at_least))


def test_the_rule_of_three() -> None:
    least = {0.01: 299, 0.05: 59, 0.1: 29}
    for allowed, n in least.items():
        assert Beyond(0, n, n).against(allowed) == "met"
        assert Beyond(0, n - 1, n - 1).against(allowed) == "undecided"
    assert Beyond(3, 3, 3).against(0.1) == "missed"


def test_a_histogram_counts_what_is_beyond_a_time() -> None:
    found = Histogram()
    for value_s in (0.001, 0.002, 0.004, 0.008):
        found.add(value_s, 2)
    assert [found.beyond(limit_s) for limit_s in (0.0, 0.0015, 0.003, 0.01)] == [8, 6, 4, 0]
