"""Why there is no answer, and when a score says more about a limit than about the model."""

import pytest

from evalmesh.domain.completion import Completion, ContinuationScore
from evalmesh.domain.content import ToolCall
from evalmesh.domain.metric import Metric
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.choice import score_choice
from evalmesh.scoring.final_answer import score_final_answer
from evalmesh.scoring.outcomes import (
    NO_ANSWER,
    OutcomeCounts,
    add_outcomes,
    count_outcomes,
    limit_warning,
    outcome_of,
    with_outcome,
)
from evalmesh.scoring.statistics import wilson_interval

CALL = ToolCall("1", "calculator", "{}")
NUMBER = Sample("s/0", 0, "s", "How much?", ("18",))
LETTER = Sample("s/0", 0, "s", "Which?", ("B",), choices=("a cork", "a brick"))


def completion(text="", **more):
    return Completion("s/0", 0, "d", text=text, **({"finish_reason": "stop"} | more))


@pytest.mark.parametrize(
    ("came_back", "outcome"),
    [
        (completion(refusal="I can't help with that."), "refused"),
        (completion("Well,", refusal="I can't."), "refused"),
        (completion(finish_reason="content_filter"), "filtered"),
        (completion("We add", finish_reason="content_filter"), "filtered"),
        (completion("We add", finish_reason="length"), "cut"),
        (completion(reasoning="hm", finish_reason="length"), "cut"),
        (completion("<think>We add", finish_reason="length"), "cut"),
        (completion(tool_calls=(CALL,), finish_reason="tool_calls"), "tool_calls"),
        (completion("Let me see.", tool_calls=(CALL,)), "tool_calls"),
        (completion(reasoning="It is \\boxed{18}."), "only_thinking"),
        (completion("<think>It is \\boxed{18} or B."), "only_thinking"),
        (completion("<think>It is \\boxed{18}.</think>\n"), "only_thinking"),
        (completion(), "empty"),
        (completion(" \n"), "empty"),
        (completion("I would rather not say."), "not_found"),
    ],
)
def test_each_completion_without_an_answer_has_one_cause(came_back, outcome):
    for sample, scorer in ((NUMBER, score_final_answer), (LETTER, score_choice)):
        score = with_outcome(scorer(sample, came_back), came_back, came_back.text)
        assert (score.values["accuracy"], score.answer, outcome_of(score)) == (0.0, None, outcome)


def test_what_was_dropped_before_the_search_was_thinking():
    whole = completion("So it goes.</thoughts>")
    score = with_outcome(score_final_answer(NUMBER, completion("")), whole, "")
    assert outcome_of(score) == "only_thinking"


def test_an_answer_is_one_although_it_was_cut():
    plain, cut = completion("\\boxed{17}"), completion("\\boxed{18}", finish_reason="length")
    assert outcome_of(with_outcome(score_final_answer(NUMBER, plain), plain, plain.text)) == "answered"
    assert outcome_of(with_outcome(score_final_answer(NUMBER, cut), cut, cut.text)) == "answered_cut"


@pytest.mark.parametrize(
    ("came_back", "value", "outcome"),
    [
        (completion("a poem"), 0.0, "answered"),
        (completion(tool_calls=(CALL,)), 0.0, "answered"),
        (completion(), 0.0, "empty"),
        (completion(refusal="No."), 0.0, "refused"),
        (completion(), 1.0, "answered"),
    ],
)
def test_of_a_scorer_that_extracts_nothing_only_silence_is_no_answer(came_back, value, outcome):
    score = Score("s/0", 0, "scored", {"bleu": value})
    assert outcome_of(with_outcome(score, came_back, came_back.text)) == outcome


def test_an_answer_of_blanks_is_none():
    score = Score("s/0", 0, "scored", {"f1": 0.0}, answer=" ")
    assert outcome_of(with_outcome(score, completion(" "), " ")) == "empty"


def test_without_a_score_the_state_is_the_outcome():
    assert outcome_of(None) == "not_run"
    for state in ("errored", "unscored"):
        score = Score("s/0", 0, state, reason="why", outcome="cut")
        assert outcome_of(with_outcome(score, completion(), "")) == state


def test_counts_of_parts_add_up_to_those_of_the_whole():
    scores = [Score(f"s/{i}", 0, "scored", outcome=word) for i, word in enumerate(["", "cut", "", "empty", "cut"])]
    scores.append(Score("s/9", 0, "errored", reason="why"))
    whole, total = {}, {}
    count_outcomes(scores, whole)
    for part in (scores[4:], scores[:1], scores[1:4]):
        counts = {}
        count_outcomes(part, counts)
        add_outcomes(counts, total)
    assert whole == total == {"answered": 2, "cut": 2, "empty": 1}


def test_log_likelihoods_are_never_cut():
    """One token is asked for besides, and it may end where it likes."""
    completion = Completion("s", 0, "", finish_reason="length", continuations=(ContinuationScore(-1.0),))
    score = Score("s", 0, "scored", {"accuracy": 0.0}, answer="B")
    assert with_outcome(score, completion, "") == score


def test_the_line_has_the_total_and_its_causes():
    counts = OutcomeCounts.of({"answered": 6, "empty": 5, "cut": 7, "answered_cut": 1, "a word of tomorrow": 3})
    assert counts.words() == (
        "no answer found 12 (cut at max_tokens 7, empty 5); answered although cut at max_tokens 1"
    )
    assert (counts.answered, counts.answered_cut, counts.no_answer) == (7, 1, 12)
    assert OutcomeCounts.of({"answered": 6}).words() == ""


def warned(right, wrong, *, max_tokens=2048, counted=True, **causes):
    counts = OutcomeCounts.of({"answered": right + wrong, **causes})
    n = right + wrong + counts.no_answer
    metric = Metric("accuracy", right / n, 0.1, wilson_interval(right, n), n, 0, 0)
    return limit_warning(counts, metric, max_tokens, counted=n if counted else None)


def test_a_score_that_says_more_about_a_limit_says_so():
    found = warned(40, 10, cut=50)
    assert found.message == (
        "50% of the answers (50 of 100) were cut at max_tokens=2048; the score says more about that limit than about "
        "the model (with right ones in their place the score would be 0.9000): raise max_tokens "
        "(--generation-config max_tokens=8192)"
    )
    assert (found.n_no_answer, found.share, found.score_range) == (50, 0.5, (0.4, 0.9))
    assert "max_tokens=32768" in warned(40, 10, max_tokens=8192, cut=50).message
    assert "cut at max_tokens;" in warned(40, 10, max_tokens=None, cut=50).message


def test_fewer_missing_answers_are_told_with_what_they_could_change():
    message = warned(600, 200, cut=190, empty=10).message
    assert message.startswith(
        "20% of the answers (200 of 1,000) were cut at max_tokens=2048 (190) or are missing for other reasons (10); "
    )
    assert "the score would be 0.8000: raise" in message
    assert "chat template" not in message  # of the few that were empty


@pytest.mark.parametrize("cause", NO_ANSWER)
def test_each_cause_has_a_way_out(cause):
    message = warned(0, 0, **{cause: 20}).message
    assert message.startswith("all 20 answers ")
    assert message.partition("): ")[2]


@pytest.mark.parametrize(
    ("right", "wrong", "causes"),
    [
        (90, 10, {}),
        (850, 60, {"cut": 90}),  # less than a tenth
        (5, 4, {"cut": 1}),  # another draw of samples could change as much
        (600, 200, {"not_found": 190, "cut": 10}),  # the model's own doing, up to a half
    ],
)
def test_what_matters_less_than_chance_or_the_model_is_no_warning(right, wrong, causes):
    assert warned(right, wrong, **causes) is None


def test_half_of_the_answers_is_worth_a_warning_whatever_the_cause():
    assert "the form of the answers" in warned(300, 100, not_found=400).message


def test_of_other_metrics_the_share_alone_is_told():
    found = warned(40, 10, counted=False, empty=50)
    assert found.score_range is None
    assert "in their place" not in found.message
