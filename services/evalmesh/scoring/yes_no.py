"""Questions that are answered by yes or no."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalmesh.domain.completion import Completion
from evalmesh.domain.metric import Metric
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.markup import strip_emphasis, strip_thinking
from evalmesh.scoring.outcomes import why_none
from evalmesh.scoring.reducers import Reducer, ReducerRow, Reduction, State

YES, NO = "yes", "no"
_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("yes", "yeah", "yep", "true", "\u662f", "\u662f\u7684", "\u5bf9"), YES),
    **dict.fromkeys(("no", "nope", "false", "\u5426", "\u4e0d\u662f", "\u4e0d", "\u4e0d\u5bf9"), NO),
}
_WORD = "|".join(sorted((*map(re.escape, _WORDS),), key=len, reverse=True))
_MARKED = re.compile(rf"(?:answer(?: is)?|\u7b54\u6848)\s*[:\uff1a]?\s*[\"'(\[]*({_WORD})(?![\w'])", re.IGNORECASE)
_FIRST = re.compile(rf"\W*({_WORD})(?![\w'])(?!\s*(?:and|or|/)\s*(?:yes|no|true|false)\b)", re.IGNORECASE)
_ANY = re.compile(rf"(?<!\w)({_WORD})(?![\w'])", re.IGNORECASE)
_NEGATED = re.compile(r"\b(?:not|cannot)\b|n't\b", re.IGNORECASE)
_READ = 20_000
"""Characters at the end of a text that are looked at."""


def answer_of(text: str) -> str | None:
    """`yes` or `no`: the last that is called the answer, or what the text begins with, or the only one that it says.

    A text that says neither and denies something means no.
    """
    text = strip_emphasis(strip_thinking(text)).strip()[-_READ:]
    if marked := _MARKED.findall(text):
        return _WORDS[marked[-1].lower()]
    if first := _FIRST.match(text):
        return _WORDS[first[1].lower()]
    said = {_WORDS[word.lower()] for word in _ANY.findall(text)}
    if len(said) == 1:
        return said.pop()
    return NO if not said and _NEGATED.search(text) else None


def score_yes_no(sample: Sample, completion: Completion) -> Score:
    """`accuracy`; the target is `yes` or `no`."""
    answer = answer_of(completion.text)
    return Score(
        completion.sample_id,
        completion.repeat,
        "scored",
        values={"accuracy": float(answer in sample.target)},
        answer=answer,
        extractor=None if answer is None else "yes_no",
        explanation=f"{answer or 'nothing'} against {sample.target[0]}",
        outcome=why_none(completion) if answer is None else "",
    )


@dataclass(frozen=True, slots=True)
class YesFigures(Reducer):
    """Precision, recall and F1 of `yes`, and how often it is said: what accuracy hides in a model that always agrees.

    What is no answer counts as not having said yes. They are ratios over the whole set and come without intervals.
    """

    name: str = "yes"

    def fold(self, rows: Sequence[ReducerRow]) -> State:
        state = {"said": 0, "right": 0, "wanted": 0, "scored": 0, "errored": 0, "unscored": 0}
        for row in rows:
            state[row.score.state] += 1
            if row.score.state == "scored":
                said, wanted = row.score.answer == YES, YES in row.sample.target
                state["said"] += said
                state["wanted"] += wanted
                state["right"] += said and wanted
        return state

    def merge(self, a: State, b: State) -> State:
        return {key: value + b[key] for key, value in a.items()}

    def finish(self, state: State) -> Reduction:
        said, right, wanted = state["said"], state["right"], state["wanted"]
        pairs = {
            "precision": (right, said),
            "recall": (right, wanted),
            "f1": (2 * right, said + wanted),
            "yes_ratio": (said, state["scored"]),
        }
        counts = state["scored"], state["errored"], state["unscored"]
        return Reduction(
            tuple(Metric(name, found / of if of else None, None, None, *counts) for name, (found, of) in pairs.items())
        )
