import json
from dataclasses import replace

import pytest
from tests.kit.compared import Answered, samples, write_run

from evalmesh.domain.comparison import ComparisonWish
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.run import RunState
from evalmesh.results.comparing import sampled
from evalmesh.results.comparing.alike import Source
from evalmesh.results.comparing.comparison import compare_runs
from evalmesh.scoring.paired import mcnemar


@pytest.fixture
def compare(tmp_path_factory):
    """Compares runs that answered so, the baseline first."""

    def sources(*runs, **spec):
        folder = tmp_path_factory.mktemp("outputs")
        for at, benchmarks in enumerate(runs):
            given = benchmarks if isinstance(benchmarks, tuple) else (benchmarks,)
            place = write_run(folder, f"r{at}", *given, model=f"m{at}", **spec)
            report = json.loads((place / "report.json").read_text())
            yield Source(report, lambda name, place=place: (place / "results" / f"{name}.parquet").open("rb"))

    def run(*runs, wish=ComparisonWish(), **spec):  # noqa: B008  (frozen)
        return compare_runs(list(sources(*runs, **spec)), wish, "2026-01-01T00:00:00Z")

    return run


def only(comparison, benchmark=0):
    return comparison.document["comparisons"][0]["benchmarks"][benchmark]


def primary(comparison, benchmark=0):
    return only(comparison, benchmark)["metrics"][0]


A = Answered(samples(1, 1, 0, 0, 1, 0, 1, 0))
B = Answered(samples(1, 0, 1, 1, 1, 1, 1, 0))


def test_pairs_are_won_lost_and_tied(compare):
    metric = primary(compare(A, B))
    assert (metric["a"], metric["b"], metric["difference"]) == (0.5, 0.75, 0.25)
    assert (metric["n"], metric["wins"], metric["losses"], metric["ties"]) == (8, 3, 1, 4)
    assert (metric["test"], metric["p_value"]) == ("mcnemar", mcnemar(3, 1))
    assert (metric["judged"], metric["verdict"]) == (True, "inconclusive")
    assert metric["left_out"] == {"a": 0, "b": 0, "both": 0}


def test_enough_flips_make_a_verdict(compare):
    metric = primary(compare(Answered(samples(*[0] * 10)), Answered(samples(*[1] * 8, 0, 0))))
    assert metric["verdict"] == "better"
    assert metric["ci95"][0] > 0


def test_flips_come_with_both_answers(compare):
    named = replace(B, answers={"main/1": "seven", "main/2": "one"})
    flips = list(compare(A, named).flips(texts=True))
    assert [one["sample_id"] for one in flips] == ["main/1", "main/2", "main/3", "main/5"]
    assert flips[0] == {
        "run": 1,
        "benchmark": "gsm8k",
        "subset": "main",
        "sample_id": "main/1",
        "input": "question 1",
        "target": ["1"],
        "a": {"value": 1.0, "answers": ["1"], "completions": ["I say 1"]},
        "b": {"value": 0.0, "answers": ["seven"], "completions": ["I say seven"]},
    }
    assert len(list(compare(A, named).flips(2))) == 2


def test_the_largest_differences_come_first(compare):
    flips = compare(Answered(samples(0.5, 0.5, 0.5)), Answered(samples(0.6, 0.5, 0.1))).flips()
    assert [one["sample_id"] for one in flips] == ["main/2", "main/0"]


def test_samples_are_paired_by_id_whatever_their_order(compare, monkeypatch):
    shuffled = [5, 2, 7, 0, 1, 6, 3, 4]
    other = replace(B, values={f"main/{at}": B.values[f"main/{at}"] for at in shuffled})
    straight = compare(A, B)
    expected = primary(straight)
    flips = list(straight.flips())
    for rows in (1, 3, 65_536):
        monkeypatch.setattr(sampled, "_ROWS", rows)
        found = compare(A, other)
        assert primary(found) == expected
        assert list(found.flips()) == flips


def test_what_is_in_one_run_only_is_counted(compare):
    fewer = replace(B, values=dict(list(B.values.items())[:5]))
    found = compare(A, fewer)
    assert only(found)["n_samples"] == {"common": 5, "only_a": 3, "only_b": 0}
    assert primary(found)["n"] == 5
    assert (
        "the 5 samples of both runs are compared; 3 are in A alone" in found.document["comparisons"][0]["warnings"][0]
    )


def test_pairs_without_a_score_are_left_out_counted_and_bounded(compare):
    metric = primary(compare(Answered(samples(1, 0, None, None)), Answered(samples(1, None, 1, None))))
    assert (metric["n"], metric["a"], metric["b"]) == (1, 1.0, 1.0)
    assert metric["left_out"] == {"a": 1, "b": 1, "both": 1}
    # Worst: B's lost ones wrong and A's right; best the other way round.
    assert metric["bounds"] == (pytest.approx((0 + 0 + 0 - 1) / 4), pytest.approx((0 + 1 + 1 + 1) / 4))


def test_nothing_to_pair_leaves_everything_open(compare):
    metric = primary(compare(Answered(samples(1, None)), Answered(samples(None, 1))))
    assert (metric["n"], metric["difference"], metric["p_value"], metric["verdict"]) == (0, None, None, "inconclusive")
    assert metric["bounds"] == (-0.5, 0.5)


def test_they_count_as_0_where_both_runs_say_so(compare):
    a, b = Answered(samples(1, 0, None, None), on_error="zero"), Answered(samples(1, None, 1, None), on_error="zero")
    found = compare(a, b)
    assert (primary(found)["n"], primary(found)["a"], primary(found)["b"]) == (4, 0.25, 0.5)
    assert primary(found)["left_out"] == {"a": 1, "b": 1, "both": 1}
    assert only(found)["without_score"] == "zero"


def test_repeats_are_averaged_per_sample_first(compare):
    a = Answered({"main/0": [1, 0], "main/1": [0, 0], "main/2": [1, None]})
    b = Answered({"main/0": [1, 1], "main/1": [0, 1], "main/2": [1, 1]})
    metric = primary(compare(a, b))
    assert (metric["n"], metric["test"], metric["wins"], metric["ties"]) == (3, "paired-t", 2, 1)
    assert (metric["a"], metric["b"]) == (pytest.approx(1.5 / 3), pytest.approx(2.5 / 3))
    # One of six requests is missing in A: it may have been right, which the sample's mean already says.
    assert metric["bounds"] == (pytest.approx((2.5 - 1.5) / 3), pytest.approx((2.5 - 1.0) / 3))


def test_repeats_that_cross_a_batch_stay_together(compare, monkeypatch):
    a = Answered({f"main/{at}": [at % 2, 1, 0] for at in range(7)})
    b = Answered({f"main/{at}": [1, at % 3 == 0, 1] for at in range(7)})
    expected = primary(compare(a, b))
    monkeypatch.setattr(sampled, "_ROWS", 4)
    assert primary(compare(a, b)) == expected


def test_other_metrics_are_told_and_not_judged(compare):
    a, b = Answered({"main/0": [1, 0], "main/1": [0, 0]}), Answered({"main/0": [1, 1], "main/1": [0, 0]})
    found = only(compare(a, b, wish=ComparisonWish(all_metrics=True), repeats=2))
    assert [(one["name"], one["judged"], one["b"]) for one in found["metrics"]] == [
        ("accuracy", True, 0.5),
        ("pass@2", False, 0.5),
    ]
    assert found["metrics"][1]["verdict"] is None
    wish = ComparisonWish(judged=frozenset({("gsm8k", "", "pass@2")}))
    judged = only(compare(a, b, wish=wish))["metrics"][1]
    assert (judged["judged"], judged["verdict"]) == (True, "inconclusive")


def test_groups_are_the_independent_ones(compare):
    groups = {f"main/{at}": f"passage {at // 4}" for at in range(8)}
    metric = primary(compare(replace(A, groups=groups), replace(B, groups=groups)))
    assert (metric["n"], metric["clusters"], metric["test"]) == (8, 2, "clustered-t")


def test_subsets_are_compared_by_themselves(compare):
    a = Answered({**samples(1, 0, subset="law"), **samples(0, 0, 0, subset="art", first=2)})
    b = Answered({**samples(1, 1, subset="law"), **samples(0, 1, 1, subset="art", first=2)})
    found = only(compare(a, b))["subsets"]
    assert [(one["name"], one["metrics"][0]["n"], one["metrics"][0]["wins"]) for one in found] == [
        ("law", 2, 1),
        ("art", 3, 2),
    ]
    assert not found[0]["metrics"][0]["judged"]


def test_p_values_are_corrected_for_all_benchmarks(compare):
    never, always = Answered(samples(*[0] * 9)), Answered(samples(*[1] * 6, 0, 0, 0))
    mmlu = {"name": "mmlu", "version": 2}
    found = compare((never, replace(never, **mmlu)), (always, replace(never, **mmlu)))
    assert found.document["judged"] == 2
    assert primary(found)["p_value"] == 2**-5
    assert primary(found)["p_corrected"] == 2**-4
    assert primary(found)["verdict"] == "inconclusive"


def test_each_run_is_held_against_the_first_and_all_against_each_other(compare):
    low, high = Answered(samples(*[0] * 12)), Answered(samples(*[1] * 12))
    document = compare(low, high, low).document
    assert [one["run"] for one in document["comparisons"]] == [1, 2]
    assert [
        (one["a"], one["b"], one["mean_difference"], one["better"], one["worse"]) for one in document["matrix"]
    ] == [
        (0, 1, 1.0, 1, 0),
        (0, 2, 0.0, 0, 0),
        (1, 2, -1.0, 0, 1),
    ]
    assert [one["label"] for one in document["runs"]] == ["m0", "m1", "m2"]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"version": 3}, "gsm8k has version 2 in A and 3 in B"),
        ({"spec": {"extra": {"mode": "loglikelihood"}}}, "extra is empty in A and {'mode': 'loglikelihood'} in B"),
        (
            {"digest": "d2", "inputs": {"main/3": "else?"}},
            "1 of 8 samples of equal ids ask something else (first: main/3)",
        ),
    ],
)
def test_unlike_runs_are_refused_by_what_differs(compare, other, says):
    with pytest.raises(InvalidInput, match="not alike") as refused:
        compare(A, replace(B, **other))
    assert says in refused.value.message
    assert "--force" in refused.value.message


def test_unlike_runs_are_compared_with_force_and_a_warning(compare):
    found = compare(A, replace(B, version=3), wish=ComparisonWish(force=True))
    assert primary(found)["n"] == 8
    assert "version 2 in A and 3 in B" in found.document["comparisons"][0]["warnings"][0]


def test_another_digest_of_the_same_samples_is_no_obstacle(compare):
    found = compare(A, replace(B, digest="d2", spec={"few_shot_num": 8}))
    assert primary(found)["n"] == 8
    assert {"name": "few_shot_num", "a": None, "b": 8} in only(found)["differs"]


def test_runs_without_common_samples_or_benchmarks_say_so(compare):
    with pytest.raises(InvalidInput, match="gsm8k: no sample is in both runs"):
        compare(A, replace(B, values=samples(1, 0, subset="other")))


def test_runs_without_a_common_benchmark_name_what_they_have(compare):
    with pytest.raises(InvalidInput, match="no benchmark in common: the first has gsm8k, the second arc"):
        compare(A, replace(B, name="arc"))


def test_one_run_is_no_comparison(compare):
    with pytest.raises(InvalidInput, match="needs the baseline and what is compared with it"):
        compare(A)


def test_a_run_that_is_not_complete_is_named(compare):
    found = compare(A, B, state=RunState.CANCELLED)
    assert "A (r0) is not complete (CANCELLED)" in found.document["comparisons"][0]["warnings"][0]


def test_a_run_against_itself_is_told(tmp_path):
    report = json.loads((write_run(tmp_path, "r", A) / "report.json").read_text())
    source = Source(report, lambda name: next(tmp_path.glob(f"*/results/{name}.parquet")).open("rb"))
    document = compare_runs([source, source], ComparisonWish(), "").document
    assert document["comparisons"][0]["warnings"] == ["A and B are one and the same run."]


def test_a_benchmark_that_is_not_installed_is_read_by_its_columns(compare):
    ours = {"name": "somebodys", "version": 1}
    assert primary(compare(replace(A, **ours), replace(B, **ours)))["wins"] == 3
