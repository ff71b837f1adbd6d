"""Yes or no: what a reply says, and the figures that show a model which always agrees."""

import json

import pytest

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import RowContext
from evalmesh.domain.completion import Completion
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.reducers import ReducerRow
from evalmesh.scoring.yes_no import YesFigures, answer_of, score_yes_no


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Yes.", "yes"),
        ("no", "no"),
        ("**No**, because yes-men say so", "no"),
        ("He says yes at first.\nANSWER: no", "no"),
        ("Answer: yes. No, wait. The answer is: **no**", "no"),
        ("<think>Yes?</think>No", "no"),
        ("True", "yes"),
        ("It is false.", "no"),
        ("I would say yes here.", "yes"),
        ("There is no dog in it.", "no"),
        ("The picture does not show a dog.", "no"),
        ("It isn't.", "no"),
        ("\u662f\u7684\u3002", "yes"),
        ("\u7b54\u6848\uff1a\u5426", "no"),
        ("Yes and no.", None),
        ("Some say yes, some say no.", None),
        ("I know nothing of yesterday.", None),
        ("A dog.", None),
        ("", None),
    ],
)
def test_what_a_reply_says(reply, answer):
    assert answer_of(reply) == answer


@pytest.mark.parametrize(("text", "value", "found"), [("Yes", 1, "yes"), ("No", 0, "no"), ("Maybe", 0, None)])
def test_the_score(text, value, found):
    score = score_yes_no(Sample("s", 0, "s", "?", ("yes",)), Completion("s", 0, "", text=text, finish_reason="stop"))
    assert (dict(score.values), score.answer, score.outcome) == (
        {"accuracy": value},
        found,
        "" if found else "not_found",
    )


def rows(*pairs):
    return [
        ReducerRow(Sample(str(n), n, "s", "?", (target,)), None, Score(str(n), 0, "scored", {"accuracy": 1}, said))
        for n, (target, said) in enumerate(pairs)
    ]


def test_figures_are_of_yes_and_merge():
    some = rows(("yes", "yes"), ("yes", "no"), ("no", "yes"), ("no", None), ("yes", "yes"))
    some.append(ReducerRow(some[0].sample, None, Score("x", 0, "errored")))
    figures = YesFigures()
    whole = figures.finish(figures.merge(figures.fold(some[:2]), figures.fold(some[2:]))).metrics
    assert {one.name: one.value for one in whole} == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "yes_ratio": 3 / 5}
    )
    assert {(one.n_scored, one.n_errored) for one in whole} == {(5, 1)}
    assert all(one.value is None for one in figures.finish(figures.fold(())).metrics)


@pytest.mark.parametrize(
    ("row", "target"),
    [({"answer": True}, "yes"), ({"answer": False}, "no"), ({"label": 1}, "yes"), ({"answer": "False"}, "no")],
)
def test_rows_of_boolq(row, target):
    sample = registry.get("boolq").to_sample({"question": "is it", "passage": "It is.", **row}, RowContext("d", 0))
    assert (sample.input, sample.target) == ("It is.\n\nQuestion: is it?", (target,))
    with pytest.raises(ValueError, match="column 'answer' is 'maybe'"):
        registry.get("boolq").to_sample({"question": "q", "passage": "p", "answer": "maybe"}, RowContext("d", 0))


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "accuracy", "f1", "ratio"),
    [("random", 0.6127, 0.3726, 0.1173), ("popular", 0.5643, 0.3455, 0.1657), ("adversarial", 0.5663, 0.3466, 0.1637)],
)
def test_figures_on_real_questions(shared_data, name, accuracy, f1, ratio):
    """Whoever says yes to questions on persons alone: the figures that are known of POPE."""
    lines = (shared_data / "pope" / f"coco_pope_{name}.json").read_text().splitlines()
    asked = [json.loads(line) for line in lines]
    found = [
        ReducerRow(
            sample := Sample(str(n), n, "s", one["text"], (one["label"],)),
            None,
            score_yes_no(sample, Completion(str(n), 0, "", text="Yes" if "person" in one["text"] else "No")),
        )
        for n, one in enumerate(asked)
    ]
    assert sum(row.score.values["accuracy"] for row in found) / len(found) == pytest.approx(accuracy, abs=5e-5)
    metrics = {one.name: one.value for one in YesFigures().finish(YesFigures().fold(found)).metrics}
    assert (metrics["f1"], metrics["yes_ratio"]) == pytest.approx((f1, ratio), abs=5e-5)
