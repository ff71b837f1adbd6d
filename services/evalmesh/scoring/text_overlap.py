"""How far a free text says what a reference says: equality, words in common, order in common, n-grams in common.

Words are runs of letters and digits without capitals; a character of Chinese, Japanese or Korean script is a word of
its own, so that texts without blanks can be compared. English articles and punctuation say nothing, as in SQuAD
(Rajpurkar et al., arXiv:1606.05250). Of several references the best one counts.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalmesh.domain.completion import Completion
from evalmesh.domain.metric import Metric
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.markup import strip_thinking
from evalmesh.scoring.reducers import Reducer, ReducerRow, Reduction, State

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_ARTICLES = frozenset({"a", "an", "the"})
_QUICK_WORDS = 2_000
"""Of both texts together: more takes milliseconds."""
_GRAMS = 4


def words(text: str) -> list[str]:
    """The words of a text; articles are left out unless there is nothing else."""
    found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return [word for word in found if word not in _ARTICLES] or found


def token_f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    """Harmonic mean of the parts of both texts' words that the other has too, in whatever order."""
    if not answer or not reference:
        return float(list(answer) == list(reference))
    common = (Counter(answer) & Counter(reference)).total()
    return 2 * common / (len(answer) + len(reference))


def rouge_l(answer: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of the longest common subsequence (Lin, ROUGE, 2004), with equal weight of precision and recall."""
    if not answer or not reference:
        return float(list(answer) == list(reference))
    return 2 * _common_subsequence(answer, reference) / (len(answer) + len(reference))


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Its length, by the bit vectors of Hyyro (2004): one step a word of `b`, whatever the length of `a`."""
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & full
    return len(a) - row.bit_count()


def is_quick(sample: Sample, completion: Completion) -> bool:
    """Whether `score_overlap` takes less than a millisecond or so."""
    return len(completion.text) + sum(map(len, sample.target)) <= _QUICK_WORDS


def score_overlap(sample: Sample, completion: Completion) -> Score:
    """`exact_match`, `contains`, `f1` and `rouge_l` of a free text; unscored where the row brings no reference."""
    text = strip_thinking(completion.text).strip()
    answer, references = words(text), [words(reference) for reference in sample.target]
    if not references:
        reason = "the row has no reference to compare with; the answer is in the results"
        return Score(completion.sample_id, completion.repeat, "unscored", answer=text, reason=reason)
    spoken = f" {' '.join(answer)} "
    values = {
        "exact_match": float(answer in references),
        "contains": float(any(f" {' '.join(one)} " in spoken for one in references if one)),
        "f1": max(token_f1(answer, one) for one in references),
        "rouge_l": max(rouge_l(answer, one) for one in references),
    }
    return Score(completion.sample_id, completion.repeat, "scored", values=values, answer=text)


@dataclass(frozen=True, slots=True)
class CorpusBleu(Reducer):
    """BLEU with 1- to 4-grams over all answers together (Papineni et al., 2002), from 0 to 1, not smoothed.

    As it is no mean of anything per sample, it comes without an interval.
    """

    name: str = "bleu"

    def fold(self, rows: Sequence[ReducerRow]) -> State:
        matched, total = [0] * _GRAMS, [0] * _GRAMS
        lengths = [0, 0]
        states = {"scored": 0, "errored": 0, "unscored": 0}
        for row in rows:
            states[row.score.state] += 1
            if row.score.state != "scored":
                continue
            answer, references = words(row.score.answer or ""), [words(one) for one in row.sample.target]
            lengths[0] += len(answer)
            lengths[1] += min((abs(len(one) - len(answer)), len(one)) for one in references)[1]
            for n in range(_GRAMS):
                found = _grams(answer, n + 1)
                most: Counter[tuple[str, ...]] = Counter()
                for one in references:
                    most |= _grams(one, n + 1)
                matched[n] += (found & most).total()
                total[n] += found.total()
        return {"matched": matched, "total": total, "lengths": lengths, **states}

    def merge(self, a: State, b: State) -> State:
        return {key: _sum(value, b[key]) for key, value in a.items()}

    def finish(self, state: State) -> Reduction:
        value = _bleu(state) if state["scored"] else None
        metric = Metric(self.name, value, None, None, state["scored"], state["errored"], state["unscored"])
        return Reduction((metric,))


def _sum(a: int | Sequence[int], b: int | Sequence[int]) -> int | list[int]:
    if isinstance(a, int) or isinstance(b, int):
        assert isinstance(a, int)  # noqa: S101  (states are alike)
        assert isinstance(b, int)  # noqa: S101  (likewise)
        return a + b
    return [x + y for x, y in zip(a, b, strict=True)]


def _grams(text: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(text[start : start + n]) for start in range(len(text) - n + 1))


def _bleu(state: Mapping[str, Sequence[int]]) -> float:
    # Answers and references may all be shorter than four words: then the shorter n-grams decide.
    pairs = [(found, total) for found, total in zip(state["matched"], state["total"], strict=True) if total]
    answered, wanted = state["lengths"]
    if not pairs or not all(found for found, _ in pairs):
        return 0.0
    brevity = min(0.0, 1 - wanted / answered)
    return math.exp(brevity + sum(math.log(found / total) for found, total in pairs) / len(pairs))
