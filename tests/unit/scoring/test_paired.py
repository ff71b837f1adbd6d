import math
from fractions import Fraction
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.scoring.paired import mcnemar, paired_effect, tango_interval, verdict
from evalmesh.scoring.statistics import holm, t_quantile

RIGHT_OR_WRONG = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=60)
SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=40)
EITHER = st.one_of(RIGHT_OR_WRONG, SCORES)


def effect(pairs, clusters=None):
    a, b = np.array(pairs, dtype=float).reshape(-1, 2).T
    return paired_effect(a, b, None if clusters is None else np.array(clusters))


def pairs_of(both, won, lost, neither):
    return [(1, 1)] * both + [(0, 1)] * won + [(1, 0)] * lost + [(0, 0)] * neither


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (5, 0), (6, 0), (3, 9), (7, 7), (12, 13), (1, 20)])
def test_mcnemar_is_the_share_of_coin_tosses_as_uneven(won, lost):
    n, uneven = won + lost, abs(won - lost)
    exact = Fraction(sum(math.comb(n, heads) for heads in range(n + 1) if abs(2 * heads - n) >= uneven), 2**n)
    assert mcnemar(won, lost) == pytest.approx(float(exact), rel=1e-12)


def test_mcnemar_of_many_flips_goes_on_where_whole_numbers_end():
    exact = float(Fraction(2 * sum(math.comb(1001, i) for i in range(471)), 2**1001))
    assert mcnemar(470, 531) == mcnemar(531, 470) == pytest.approx(exact, rel=1e-9)
    # The normal approximation with continuity correction, which is good to a per cent at half a million flips.
    z = (251_000 - 249_000 - 1) / math.sqrt(500_000)
    assert mcnemar(251_000, 249_000) == pytest.approx(2 * (1 - NormalDist().cdf(z)), rel=1e-2)
    assert mcnemar(400_000, 100_000) == pytest.approx(0, abs=1e-300)


def likeliest_share(delta, won, lost, n):
    """P(lost) that makes won, lost of n the likeliest under P(won) - P(lost) = delta, by search."""
    low, high = max(0.0, -delta), (1 - delta) / 2

    def likelihood(q):
        total = 0.0
        for count, p in ((won, q + delta), (lost, q), (n - won - lost, 1 - 2 * q - delta)):
            if count:
                total += count * math.log(p) if p > 0 else -math.inf
        return total

    for _ in range(200):
        third = (high - low) / 3
        if likelihood(low + third) < likelihood(high - third):
            low += third
        else:
            high -= third
    return (low + high) / 2


@pytest.mark.parametrize(("won", "lost", "n"), [(260, 88, 1319), (9, 4, 32), (3, 0, 20), (1, 5, 40), (2, 2, 10)])
def test_tango_ends_are_where_the_score_is_one_quantile(won, lost, n):
    for end, sign in zip(tango_interval(won, lost, n), (1, -1), strict=True):
        q = likeliest_share(end, won, lost, n)
        variance = n * (2 * q + end - end * end)
        score = (won - lost - n * end) / math.sqrt(variance)
        assert score == pytest.approx(sign * NormalDist().inv_cdf(0.975), abs=1e-4)


def test_no_flips_leave_an_interval_that_shrinks_with_the_samples():
    assert tango_interval(0, 0, 10)[1] > tango_interval(0, 0, 100)[1] > 0.02
    assert tango_interval(20, 0, 20)[1] == 1
    assert tango_interval(0, 20, 20)[0] == -1


def test_the_interval_covers_what_it_promises():
    """Over all outcomes of 30 pairs, weighted by their chance."""
    n = 30
    intervals = {(w, x): tango_interval(w, x, n) for w, x in product(range(n + 1), repeat=2) if w + x <= n}
    for p_won, p_lost in ((0.2, 0.1), (0.05, 0.05), (0.4, 0.1)):
        covered = sum(
            math.comb(n, w) * math.comb(n - w, x) * p_won**w * p_lost**x * (1 - p_won - p_lost) ** (n - w - x)
            for (w, x), (low, high) in intervals.items()
            if low <= p_won - p_lost <= high
        )
        assert 0.93 < covered < 0.99


def test_scores_of_0_and_1_are_judged_by_flips():
    found = effect(pairs_of(both=198, won=260, lost=88, neither=773))
    assert (found.n, found.clusters, found.test) == (1319, 1319, "mcnemar")
    assert (found.higher, found.lower) == (260, 88)
    assert (found.a, found.b) == (pytest.approx(286 / 1319), pytest.approx(458 / 1319))
    assert found.difference == pytest.approx(172 / 1319)
    assert found.p_value == mcnemar(260, 88)
    assert found.smallest == pytest.approx(2.8016 * math.sqrt(348) / 1319, rel=1e-4)


def test_the_smallest_difference_is_seen_in_four_of_five_cases():
    """Exact power of McNemar's test when a fifth of 400 pairs flip, as drawn."""
    n, flips = 400, 80
    smallest = effect(pairs_of(0, flips // 2, flips // 2, n - flips)).smallest
    p_won = (flips / n + smallest) / 2 / (flips / n)
    power = sum(
        math.comb(flips, won) * p_won**won * (1 - p_won) ** (flips - won)
        for won in range(flips + 1)
        if mcnemar(won, flips - won) <= 0.05 and won > flips / 2
    )
    assert 0.72 < power < 0.88


def test_other_scores_are_judged_by_t():
    found = effect([(0.1, 0.4), (0.5, 0.6), (0.2, 0.7), (0.9, 0.8)])
    differences = [0.3, 0.1, 0.5, -0.1]
    mean = sum(differences) / 4
    stderr = math.sqrt(sum((d - mean) ** 2 for d in differences) / 3 / 4)
    half = t_quantile(0.975, 3) * stderr
    assert (found.test, found.clusters) == ("paired-t", 4)
    assert (found.difference, found.stderr) == (pytest.approx(mean), pytest.approx(stderr))
    assert found.ci95 == (pytest.approx(mean - half), pytest.approx(mean + half))
    # P(|T| > t) with three degrees of freedom has a closed form.
    t = mean / stderr
    closed = 1 - 2 / math.pi * (math.atan(t / math.sqrt(3)) + t / math.sqrt(3) / (1 + t * t / 3))
    assert found.p_value == pytest.approx(closed, rel=1e-9)


def test_groups_are_what_is_counted():
    pairs = [(0, 1), (0, 1), (1, 0), (1, 1), (0, 0), (0, 1)]
    found = effect(pairs, clusters=[7, 7, 3, 3, -1, -2])
    assert (found.test, found.n, found.clusters) == ("clustered-t", 6, 4)
    mean, sums, sizes = 2 / 6, [2, -1, 0, 1], [2, 2, 1, 1]
    squares = sum((s - mean * m) ** 2 for s, m in zip(sums, sizes, strict=True))
    assert found.stderr == pytest.approx(math.sqrt(4 / 3 * squares) / 6)
    assert effect(pairs, clusters=range(6)) == effect(pairs)


def test_copies_of_the_samples_in_groups_add_no_certainty():
    pairs = [(0.1, 0.4), (0.5, 0.6), (0.2, 0.7), (0.9, 0.8)]
    once, thrice = effect(pairs), effect(pairs * 3, clusters=[0, 1, 2, 3] * 3)
    assert (thrice.stderr, thrice.p_value) == (pytest.approx(once.stderr), pytest.approx(once.p_value))


def test_differences_without_spread_are_judged_by_their_signs():
    found = effect([(0.25, 0.5)] * 8)
    assert (found.p_value, found.ci95, found.smallest) == (2**-7, None, None)
    same = effect([(0.25, 0.25), (0.5, 0.5)])
    assert (same.p_value, same.ci95) == (1.0, tango_interval(0, 0, 2))


def test_one_pair_says_nothing_and_no_pair_is_nothing():
    found = effect([(0.25, 0.5)])
    assert (found.p_value, found.stderr, found.ci95) == (None, None, None)
    assert effect([]) is None


@given(EITHER)
def test_swapping_the_sides_changes_signs_and_nothing_else(pairs):
    one, other = effect(pairs), effect([(b, a) for a, b in pairs])
    assert (one.a, one.b, one.difference) == (other.b, other.a, -other.difference)
    assert (one.higher, one.lower) == (other.lower, other.higher)
    assert (one.p_value, one.stderr, one.smallest, one.test) == (
        other.p_value,
        other.stderr,
        other.smallest,
        other.test,
    )
    if one.ci95 is not None:
        assert one.ci95 == (-other.ci95[1], -other.ci95[0])


@given(EITHER, st.randoms(use_true_random=False), st.integers(1, 5))
def test_the_order_of_the_pairs_does_not_show(pairs, rng, groups):
    marked = [(pair, at % groups) for at, pair in enumerate(pairs)]
    mixed = rng.sample(marked, len(marked))
    assert effect([p for p, _ in mixed]) == effect(pairs)
    assert effect([p for p, _ in mixed], [g for _, g in mixed]) == effect(pairs, [g for _, g in marked])


@given(EITHER)
def test_what_is_told_lies_where_it_must(pairs):
    found = effect(pairs)
    assert found.p_value is None or 0 <= found.p_value <= 1
    assert found.higher + found.lower <= found.n
    if found.ci95 is not None:
        assert -1 <= found.ci95[0] <= found.difference <= found.ci95[1] <= 1


def test_verdicts():
    assert verdict(0.1, 0.04) == "better"
    assert verdict(-0.1, 0.04) == "worse"
    assert verdict(-0.1, 0.04, higher_is_better=False) == "better"
    assert verdict(0.1, 0.06) == "inconclusive"
    assert verdict(0.0, 0.0) == "inconclusive"


def test_holm_multiplies_the_smallest_the_most_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03]) == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
