"""Metrics from scores: right values, honest denominators, and no trace of how the work was cut."""

import json
import random
from dataclasses import asdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.score import Score
from evalmesh.scoring.statistics import clustered_mean_and_stderr, mean_and_stderr, t_interval, wilson_interval
from evalmesh.scoring.tally import Accumulator, MetricRule, Moments, finish, merge, tally_shard

MEAN = MetricRule("accuracy", "accuracy")


def scores(sample: str, *values: float | str, answers: str = "") -> list[Score]:
    """One sample: a number is a scored repeat, `errored` and `unscored` are what they say."""
    return [
        Score(sample, repeat, value, reason="why")
        if isinstance(value, str)
        else Score(sample, repeat, "scored", {"accuracy": value}, answer=answers[repeat] if answers else None)
        for repeat, value in enumerate(values)
    ]


def metric(rows, rule=MEAN, on_error="exclude"):
    return finish(rule, tally_shard([rule], rows)[rule.name], on_error)


def test_a_proportion_gets_a_wilson_interval():
    m = metric([scores("a", 1.0), scores("b", 0.0), scores("c", 1.0)])
    assert m.value == pytest.approx(2 / 3)
    assert m.stderr == pytest.approx(mean_and_stderr([1, 0, 1])[1])
    assert m.ci95 == wilson_interval(2, 3)
    assert (m.n_scored, m.n_errored, m.n_unscored, m.bounds) == (3, 0, 0, (2 / 3, 2 / 3))


def test_graded_values_get_a_t_interval_inside_their_range():
    m = metric([scores("a", 0.25), scores("b", 0.5), scores("c", 0.75)])
    mean, stderr = mean_and_stderr([0.25, 0.5, 0.75])
    assert (m.value, m.stderr) == pytest.approx((mean, stderr))
    low, high = t_interval(mean, stderr, 2)
    assert m.ci95 == pytest.approx((max(0, low), min(1, high)))


def test_values_beyond_one_have_no_bounds():
    m = metric([scores("a", 7.0), scores("b", 9.0), scores("c", "errored")])
    assert (m.value, m.bounds) == (8.0, None)
    assert m.ci95[1] > 9


def test_repeats_of_a_sample_are_not_independent():
    rows = [scores("a", 1.0, 1.0, 0.0), scores("b", 0.0, 0.0), scores("c", 1.0)]
    m = metric(rows)
    assert (m.value, m.stderr) == pytest.approx(clustered_mean_and_stderr([[1, 1, 0], [0, 0], [1]]))
    assert m.n_scored == 6


def test_nothing_leaves_the_denominator_in_silence():
    rows = [scores("a", 1.0), scores("b", "errored"), scores("c", "unscored"), scores("d", 0.0)]
    excluded, zeroed, failed = (metric(rows, on_error=policy) for policy in ("exclude", "zero", "fail"))
    assert (excluded.value, zeroed.value, failed.value) == (0.5, 0.25, 0.5)
    assert zeroed.stderr == pytest.approx(mean_and_stderr([1, 0, 0, 0])[1])
    assert zeroed.ci95 == wilson_interval(1, 4)
    assert {(m.n_scored, m.n_errored, m.n_unscored, m.bounds) for m in (excluded, zeroed)} == {(2, 1, 1, (0.25, 0.75))}


def test_without_scores_there_is_no_value():
    m = metric([scores("a", "errored"), scores("b", "unscored")])
    assert (m.value, m.stderr, m.ci95, m.bounds) == (None, None, None, (0.0, 1.0))
    assert metric([]).bounds is None


def test_one_sample_has_an_interval_and_no_error():
    m = metric([scores("a", 1.0)])
    assert (m.value, m.stderr) == (1.0, None)
    assert m.ci95[0] < 0.3


def test_all_right_with_repeats_is_not_certainty():
    m = metric([scores(str(i), 1.0, 1.0) for i in range(10)])
    assert m.ci95 == wilson_interval(10, 10)


@pytest.mark.parametrize("values", [{"other": 1.0}, {"accuracy": float("nan")}, {"accuracy": float("inf")}])
def test_a_score_without_a_finite_value_is_unscored(values):
    m = metric([[Score("a", 0, "scored", values)], scores("b", 1.0)])
    assert (m.value, m.n_scored, m.n_unscored) == (1.0, 1, 1)


@pytest.mark.parametrize(
    ("kind", "k", "expected"),
    [
        ("pass_at_k", 1, 0.5), ("pass_at_k", 4, 1.0), ("pass_at_k", 2, 1 - 1 / 6), ("pass_hat_k", 2, 1 / 6),
        ("pass_hat_k", 0, 0.0), ("majority_at_k", 4, 1.0),
    ],
)  # fmt: skip
def test_metrics_with_a_k(kind, k, expected):
    rows = [scores("a", 1.0, 0.0, 1.0, 0.0, answers="1213")]
    assert metric(rows, MetricRule("m", "accuracy", kind, k)).value == pytest.approx(expected)


def test_majority_joins_equal_numbers():
    row = [
        Score("a", 0, "scored", {"accuracy": 1.0}, answer="18"),
        Score("a", 1, "scored", {"accuracy": 1.0}, answer="$18.00"),
        Score("a", 2, "scored", {"accuracy": 0.0}, answer="17"),
    ]
    assert metric([row], MetricRule("m", "accuracy", "majority_at_k")).value == 1.0


def test_an_error_leaves_a_sample_without_pass_at_k_or_counts_as_wrong():
    rows = [scores("a", 1.0, "errored"), scores("b", 0.0, 1.0)]
    rule = MetricRule("m", "accuracy", "pass_hat_k", 2)
    assert (metric(rows, rule).value, metric(rows, rule, "zero").value) == (0.0, 0.0)
    assert metric(rows, rule).bounds == (0.0, 0.5)


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(InvalidInput, match="median"):
        tally_shard([MetricRule("m", "accuracy", "median")], [])


def test_accumulators_survive_json():
    acc = tally_shard([MEAN], [scores("a", 0.1, 0.3), scores("b", 1.0)])["accuracy"]
    plain = json.loads(json.dumps(asdict(acc)))
    moments = {key: Moments(**plain.pop(key)) for key in ("scored", "zeroed", "best")}
    assert Accumulator(**plain, **moments) == acc


_VALUE = st.one_of(
    st.sampled_from([0.0, 1.0]), st.floats(-10, 10, allow_nan=False), st.sampled_from(["errored", "unscored"])
)
_WEIGHED = [MetricRule(kind, "accuracy", kind, weight="n") for kind in ("mean", "amount", "perplexity")]


def weighed(*pairs):
    return [[Score(str(n), 0, "scored", {"accuracy": value, "n": weight})] for n, (value, weight) in enumerate(pairs)]


def test_a_weighted_mean_counts_each_value_as_often_as_its_weight_says():
    m = metric(weighed((0.5, 2.0), (1.0, 1.0), (0.0, 3.0)), _WEIGHED[0])
    assert (m.value, m.n_scored, m.n_samples) == (pytest.approx(2 / 6), 3, 3)
    assert m.stderr == pytest.approx(clustered_mean_and_stderr([[1, 0], [1], [0, 0, 0]])[1])
    assert 0 <= m.ci95[0] < m.ci95[1] <= 1


@pytest.mark.parametrize(("policy", "value"), [("exclude", 3 / 6), ("zero", 3 / 8)])
def test_what_has_no_weight_counts_as_much_as_the_others_do(policy, value):
    rows = [*weighed((0.5, 2.0), (1.0, 2.0), (0.0, 2.0)), scores("x", "errored")]
    m = metric(rows, _WEIGHED[0], policy)
    assert (m.value, m.bounds, m.n_errored) == (pytest.approx(value), (3 / 8, 5 / 8), 1)


def test_amounts_may_lie_in_0_to_1_and_still_have_no_best():
    m = metric([*weighed((0.5, 2.0), (0.9, 2.0)), scores("x", "errored")], _WEIGHED[1], "zero")
    assert (m.value, m.bounds, m.ci95[1] > 1) == (pytest.approx(0.7), None, True)


@pytest.mark.parametrize("weight", [-1.0, 0.5, float("nan"), float("inf")])
def test_what_is_no_weight_leaves_a_value_unscored(weight):
    m = metric(weighed((0.5, weight), (1.0, 1.0)), _WEIGHED[0])
    assert (m.value, m.n_scored, m.n_unscored) == (1.0, 1, 1)


def test_a_perplexity_beyond_all_numbers_is_none():
    m = metric(weighed((5000.0, 1.0), (4000.0, 1.0)), _WEIGHED[2])
    assert (m.value, m.stderr, m.ci95, m.n_scored) == (None, None, None, 2)


_RULES = [MEAN, *(MetricRule(kind, "accuracy", kind, 2) for kind in ("pass_at_k", "pass_hat_k", "majority_at_k"))]


@settings(max_examples=60)
@given(
    samples=st.lists(st.lists(_VALUE, min_size=1, max_size=4), max_size=25),
    cuts=st.lists(st.integers(0, 25), max_size=6),
    seed=st.integers(0, 10**6),
    policy=st.sampled_from(["exclude", "zero", "fail"]),
)
def test_no_split_or_order_of_shards_changes_a_metric(samples, cuts, seed, policy):
    rows = [scores(str(i), *values) for i, values in enumerate(samples)]
    whole = tally_shard(_RULES, rows)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    shards = [tally_shard(_RULES, rows[a:b]) for a, b in pairwise(edges)]
    random.Random(seed).shuffle(shards)
    while len(shards) > 1:
        left = shards.pop(seed % len(shards))
        right = shards.pop(seed % len(shards))
        shards.append({name: merge(left[name], right[name]) for name in left})
    assert shards[0] == whole
    for rule in _RULES:
        assert finish(rule, shards[0][rule.name], policy) == finish(rule, whole[rule.name], policy)


_REPEATS = st.lists(st.lists(st.sampled_from([0.0, 1.0]), min_size=3, max_size=3), min_size=2, max_size=12)


@given(_REPEATS)
def test_metrics_of_one_table_that_agree_in_value_and_error_agree_in_their_interval(samples):
    rules = [MEAN, *(MetricRule(kind, "accuracy", kind, 3) for kind in ("pass_at_k", "pass_hat_k", "majority_at_k"))]
    rows = [scores(str(i), *values, answers=["ab"[int(v)] for v in values]) for i, values in enumerate(samples)]
    found = tally_shard(rules, rows)
    by_numbers = {}
    for rule in rules:
        m = finish(rule, found[rule.name], "exclude")
        by_numbers.setdefault((m.value, m.stderr and round(m.stderr, 12)), set()).add(
            tuple(round(x, 9) for x in m.ci95)
        )
        assert m.ci95[0] <= m.value <= m.ci95[1]
        assert (m.n_samples, m.n_scored) == (len(samples), 3 * len(samples))
    assert all(len(intervals) == 1 for intervals in by_numbers.values())


def test_repeats_that_always_agree_tell_no_more_than_one_of_them():
    once = metric([scores(str(i), float(i % 3 == 0)) for i in range(9)])
    thrice = metric([scores(str(i), *[float(i % 3 == 0)] * 3) for i in range(9)])
    assert (*once.ci95, once.stderr) == pytest.approx((*thrice.ci95, thrice.stderr))
    assert once.n_samples == thrice.n_samples == 9


def test_repeats_that_differ_narrow_the_interval():
    agreeing = metric([scores(str(i), *[float(i % 2)] * 4) for i in range(40)])
    mixed = metric([scores(str(i), 1.0, 0.0, 1.0, float(i % 2)) for i in range(40)])
    assert mixed.ci95[1] - mixed.ci95[0] < (agreeing.ci95[1] - agreeing.ci95[0]) * 0.8


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_samples_that_do_not_differ_have_no_error_and_no_certainty(value):
    m = metric([scores(str(i), value) for i in range(5)])
    assert (m.value, m.stderr) == (value, None)
    assert m.ci95 == wilson_interval(5 * value, 5)
    assert metric([scores("a", 7.0), scores("b", 7.0)]).ci95 is None
