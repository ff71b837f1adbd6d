import math
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.scoring.statistics import (
    clustered_mean_and_stderr,
    majority_at_k,
    mean_and_stderr,
    pass_at_k,
    pass_hat_k,
    t_interval,
    t_quantile,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("p", "df", "expected"),
    [
        # NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2
        (0.975, 1, 12.706), (0.975, 2, 4.303), (0.975, 3, 3.182), (0.975, 5, 2.571), (0.975, 10, 2.228),
        (0.975, 30, 2.042), (0.975, 100, 1.984), (0.95, 7, 1.895), (0.99, 15, 2.602), (0.995, 60, 2.660),
        (0.999, 4, 7.173), (0.90, 20, 1.325),
    ],
)  # fmt: skip
def test_t_quantiles_equal_the_printed_table(p, df, expected):
    assert t_quantile(p, df) == pytest.approx(expected, abs=5e-4)


def test_t_quantiles_equal_closed_forms():
    assert t_quantile(0.975, 1) == pytest.approx(math.tan(math.pi * 0.475), rel=1e-10)
    assert t_quantile(0.975, 2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-10)


def test_both_ways_to_a_t_quantile_agree_where_they_meet():
    assert t_quantile(0.975, 2000) == pytest.approx(t_quantile(0.975, 2001), abs=1e-6)
    assert t_quantile(0.975, 2000) == pytest.approx(1.9611510, abs=1e-6)
    assert t_quantile(0.975, 10**9) == pytest.approx(1.959963985, abs=1e-8)


def test_wilson_equals_worked_examples():
    # R: prop.test(x, n, correct = FALSE)$conf.int
    assert wilson_interval(15, 20) == pytest.approx((0.5312960, 0.8881384), abs=2e-5)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775328), abs=1e-6)
    assert wilson_interval(10, 10) == pytest.approx((0.7224672, 1.0), abs=1e-6)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_proportion_and_stays_in_its_range(case):
    successes, n = case
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1


def test_mean_error_and_interval_of_a_small_sample():
    mean, stderr = mean_and_stderr([1.0, 2.0, 3.0, 4.0])
    assert (mean, stderr) == pytest.approx((2.5, math.sqrt(5 / 3 / 4)))
    assert t_interval(mean, stderr, 3) == pytest.approx((2.5 - 3.182446 * stderr, 2.5 + 3.182446 * stderr), abs=1e-5)
    assert mean_and_stderr([1.0]) == (1.0, None)


def test_clusters_of_one_are_plain_samples():
    values = [0.0, 1.0, 1.0, 0.5]
    assert clustered_mean_and_stderr([[v] for v in values]) == pytest.approx(mean_and_stderr(values))


def test_equal_repeats_add_no_certainty():
    assert clustered_mean_and_stderr([[1.0] * 8, [0.0] * 8, [1.0] * 8]) == pytest.approx(
        mean_and_stderr([1.0, 0.0, 1.0])
    )


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_k_of_n_estimators_count_all_draws(case):
    n, correct, k = case
    draws = list(combinations([True] * correct + [False] * (n - correct), k))
    assert pass_at_k(n, correct, k) == Fraction(sum(map(any, draws)), len(draws))
    assert pass_hat_k(n, correct, k) == Fraction(sum(map(all, draws)), len(draws))


def test_majority_takes_the_most_frequent_answer_and_shares_ties():
    one, zero = Fraction(1), Fraction(0)
    assert majority_at_k([("a", one), ("b", zero), ("a", one)]) == 1
    assert majority_at_k([("a", one), ("b", zero), ("b", zero)]) == 0
    assert majority_at_k([("a", one), ("b", zero), ("c", zero)]) == Fraction(1, 3)
