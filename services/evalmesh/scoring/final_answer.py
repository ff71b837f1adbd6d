"""Scores the final answer of a mathematics problem against the accepted targets."""

from evalmesh.domain.completion import Completion
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.extractors import Extraction, extract_final_answer
from evalmesh.scoring.math_equal import fast_equal, symbolic_equal
from evalmesh.scoring.outcomes import why_none

ACCURACY = "accuracy"
"""Key of the one value these scorers give: 1.0 or 0.0."""
_WHY = {
    "cut": " The completion was cut off at its token limit.",
    "empty": " The completion is empty.",
    "filtered": " A content filter ended the completion.",
    "only_thinking": " The completion is nothing but thinking.",
    "refused": " The model refused.",
    "tool_calls": " The model called tools instead of answering.",
}


def score_final_answer(sample: Sample, completion: Completion) -> Score | None:
    """The score where microseconds suffice; `None`: ask `score_final_answer_symbolic` in a killable process."""
    extraction = extract_final_answer(completion.text, cut=completion.finish_reason == "length")
    if extraction is None:
        return no_answer(completion)
    undecided = False
    for target in sample.target:
        equal = fast_equal(extraction.answer, target)
        if equal:
            return answered(completion, extraction, sample, correct=True)
        undecided = undecided or equal is None
    return None if undecided else answered(completion, extraction, sample, correct=False)


def score_final_answer_symbolic(sample: Sample, completion: Completion) -> Score:
    """The score with algebra where it is needed; may take seconds."""
    extraction = extract_final_answer(completion.text, cut=completion.finish_reason == "length")
    if extraction is None:
        return no_answer(completion)
    correct = any(symbolic_equal(extraction.answer, target) for target in sample.target)
    return answered(completion, extraction, sample, correct=correct)


def answered(completion: Completion, extraction: Extraction, sample: Sample, *, correct: bool) -> Score:
    """A score for an answer that was found."""
    verb = "equals" if correct else "is not"
    return Score(
        sample_id=completion.sample_id,
        repeat=completion.repeat,
        state="scored",
        values={ACCURACY: 1.0 if correct else 0.0},
        answer=extraction.answer,
        extractor=extraction.extractor,
        explanation=f"{extraction.answer[:80]!r} {verb} {' | '.join(sample.target)[:80]!r}.",
    )


def no_answer(completion: Completion) -> Score:
    """A wrong score for a completion in which no answer was found."""
    outcome = why_none(completion)
    return Score(
        sample_id=completion.sample_id,
        repeat=completion.repeat,
        state="scored",
        values={ACCURACY: 0.0},
        explanation=f"No answer was found.{_WHY.get(outcome, '')}",
        outcome=outcome,
    )
