import pytest

from evalmesh.domain.errors import InvalidInput
from evalmesh.results.comparing.gates import judge_gates, parse_gate


def metric(name="accuracy", difference=0.02, ci95=(-0.01, 0.05), verdict="inconclusive", *, upward=True):
    return {"name": name, "difference": difference, "ci95": ci95, "verdict": verdict, "higher_is_better": upward}


def document(*metrics, subsets=()):
    benchmark = {
        "name": "gsm8k",
        "metrics": list(metrics),
        "subsets": [{"name": name, "metrics": [one]} for name, one in subsets],
    }
    return {"comparisons": [{"run": 1, "benchmarks": [benchmark]}]}


def outcome(text, *metrics, by="interval", subsets=()):
    (found,) = judge_gates([parse_gate(text)], document(*metrics, subsets=subsets), by)
    return found["outcome"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("gsm8k>=-0.01", ("gsm8k", "", "", -0.01, "")),
        (" gsm8k >= +1e-2 ", ("gsm8k", "", "", 0.01, "")),
        ("gsm8k>=-1%", ("gsm8k", "", "", -0.01, "")),
        ("mmlu/high school:acc_norm>=.5", ("mmlu", "high school", "acc_norm", 0.5, "")),
        ("gsm8k better", ("gsm8k", "", "", None, "better")),
        ("mmlu:acc NOT-WORSE", ("mmlu", "", "acc", None, "not-worse")),
        ("not-worse", ("", "", "", None, "not-worse")),
        (">=0", ("", "", "", 0.0, "")),
    ],
)
def test_what_a_gate_says(text, parts):
    gate = parse_gate(text)
    assert (gate.benchmark, gate.subset, gate.metric, gate.least, gate.word) == parts


@pytest.mark.parametrize(
    "text", ["", "gsm8k", "gsm8k>0", "gsm8k>=", "gsm8k>=much", "gsm8k worse", "better>=1", "a b c"]
)
def test_what_is_no_gate_is_refused(text):
    with pytest.raises(InvalidInput, match="is no condition; write BENCHMARK"):
        parse_gate(text)


@pytest.mark.parametrize(
    ("text", "by", "expected"),
    [
        ("gsm8k>=-0.01", "interval", "met"),
        ("gsm8k>=0", "interval", "undecided"),
        ("gsm8k>=0.06", "interval", "missed"),
        ("gsm8k>=0", "estimate", "met"),
        ("gsm8k>=0.03", "estimate", "missed"),
    ],
)
def test_a_gain_is_judged_by_the_interval_or_by_the_estimate(text, by, expected):
    assert outcome(text, metric(), by=by) == expected


def test_of_what_should_be_low_a_gain_is_a_fall():
    lower = metric(difference=-0.02, ci95=(-0.05, -0.01), upward=False)
    assert outcome("gsm8k>=0.01", lower) == "met"
    assert outcome("gsm8k>=0.03", lower, by="estimate") == "missed"


@pytest.mark.parametrize(
    ("verdict", "better", "not_worse"),
    [("better", "met", "met"), ("inconclusive", "undecided", "met"), ("worse", "missed", "missed")],
)
def test_verdicts(verdict, better, not_worse):
    assert outcome("better", metric(verdict=verdict)) == better
    assert outcome("gsm8k not-worse", metric(verdict=verdict)) == not_worse


def test_what_has_no_number_is_undecided():
    nothing = metric(difference=None, ci95=None)
    assert outcome("gsm8k>=0", nothing) == outcome("gsm8k>=0", nothing, by="estimate") == "undecided"


def test_a_gate_may_be_about_a_subset_or_another_metric():
    other = metric("f1", difference=0.2, ci95=(0.1, 0.3))
    assert outcome("gsm8k:f1>=0.1", metric(), other) == "met"
    assert outcome("gsm8k/hard>=0.1", metric(), subsets=[("hard", other)]) == "met"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("arc better", "benchmark arc is not compared here; there is gsm8k"),
        ("gsm8k/easy better", "subset easy of gsm8k is not compared here; there is hard"),
        ("gsm8k:bleu better", "metric bleu of gsm8k is not compared here; there is accuracy"),
    ],
)
def test_names_that_are_not_compared_are_refused(text, says):
    with pytest.raises(InvalidInput, match=says):
        outcome(text, metric(), subsets=[("hard", metric())])
