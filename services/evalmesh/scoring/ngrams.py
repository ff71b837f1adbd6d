"""BLEU, ROUGE and chrF of free texts, by the libraries that papers use: sacrebleu and rouge-score.

Texts with Chinese, Japanese or Korean characters have no blanks between words: jieba cuts them into words first, and
nothing else is done to them then. All values are from 0 to 1; of several references ROUGE takes the best one, BLEU and
chrF take them together. Loading the libraries takes a second, so that this belongs into a process for slow scores.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from evalmesh.domain.completion import Completion
from evalmesh.domain.metric import Metric
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.markup import strip_thinking
from evalmesh.scoring.reducers import Reducer, ReducerRow, Reduction, State

PACKAGES = {"sacrebleu": "sacrebleu", "rouge_score": "rouge-score", "jieba": "jieba"}
"""By the name of the module: what to install."""
_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_ROUGE = ("rouge1", "rouge2", "rougeL")


class _Words:
    """For rouge-score: texts come cut already."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()


@cache
def _rouge(*, cut: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415  (half a second)

    return RougeScorer(list(_ROUGE), tokenizer=_Words() if cut else None)


@cache
def _bleu(*, cut: bool, sentence: bool) -> Any:
    from sacrebleu.metrics.bleu import BLEU  # noqa: PLC0415  (slow)

    return BLEU(tokenize="none" if cut else "13a", effective_order=sentence)


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF  # noqa: PLC0415  (slow)

    return CHRF()


@cache
def _segmenter() -> Any:
    with warnings.catch_warnings():
        # Its release of 2020 speaks to setuptools in a way that is going out, and has escapes that Python warns of.
        warnings.simplefilter("ignore")
        import jieba  # noqa: PLC0415  (slow)
    found = jieba.Tokenizer()
    # As `initialize` does, but without a cache in the folder for temporary files, which others may have written.
    found.FREQ, found.total = found.gen_pfdict(found.get_dict_file())
    found.initialized = True
    return found


def prepared(texts: Sequence[str]) -> tuple[list[str], bool]:
    """The texts ready to be compared, and whether they were cut into words."""
    if not any(map(_ASIAN.search, texts)):
        return list(texts), False
    cut = _segmenter().cut
    return [" ".join(word for word in cut(text.lower()) if word.strip()) for text in texts], True


def score_ngrams(sample: Sample, completion: Completion) -> Score:
    """`rouge1`, `rouge2`, `rouge_l` (F1), `bleu` (of the text alone, smoothed) and `chrf`."""
    text = strip_thinking(completion.text).strip()
    if not sample.target:
        reason = "the row has no reference to compare with; the answer is in the results"
        return Score(completion.sample_id, completion.repeat, "unscored", answer=text, reason=reason)
    (answer, *references), cut = prepared([text, *sample.target])
    rouge = _rouge(cut=cut).score_multi(references, answer)
    values = {
        "rouge1": rouge["rouge1"].fmeasure,
        "rouge2": rouge["rouge2"].fmeasure,
        "rouge_l": rouge["rougeL"].fmeasure,
        "bleu": _bleu(cut=cut, sentence=True).sentence_score(answer, references).score / 100,
        "chrf": _chrf().sentence_score(text, list(sample.target)).score / 100,
    }
    return Score(
        completion.sample_id,
        completion.repeat,
        "scored",
        values={name: min(1.0, float(value)) for name, value in values.items()},
        answer=text,
    )


@dataclass(frozen=True, slots=True)
class SacreBleu(Reducer):
    """BLEU of all answers together, from 0 to 1: sacrebleu's figure of a corpus over 100, without an interval."""

    name: str = "corpus_bleu"

    def fold(self, rows: Sequence[ReducerRow]) -> State:
        state: dict[str, Any] = {"counts": [0] * 4, "totals": [0] * 4, "lengths": [0, 0]}
        states = {"scored": 0, "errored": 0, "unscored": 0}
        for row in rows:
            states[row.score.state] += 1
            if row.score.state != "scored":
                continue
            (answer, *references), cut = prepared([row.score.answer or "", *row.sample.target])
            found = _bleu(cut=cut, sentence=False).corpus_score([answer], [[one] for one in references])
            state["counts"] = _added(state["counts"], found.counts)
            state["totals"] = _added(state["totals"], found.totals)
            state["lengths"] = _added(state["lengths"], (found.sys_len, found.ref_len))
        return {**state, **states}

    def merge(self, a: State, b: State) -> State:
        return {key: value + b[key] if isinstance(value, int) else _added(value, b[key]) for key, value in a.items()}

    def finish(self, state: State) -> Reduction:
        value = None
        if state["scored"]:
            ours, theirs = state["lengths"]
            bleu = _bleu(cut=False, sentence=False)
            found = bleu.compute_bleu(state["counts"], state["totals"], ours, theirs, smooth_method=bleu.smooth_method)
            value = found.score / 100
        counts = state["scored"], state["errored"], state["unscored"]
        return Reduction((Metric(self.name, value, None, None, *counts),))


def _added(a: Sequence[int], b: Sequence[int]) -> list[int]:
    return [x + y for x, y in zip(a, b, strict=True)]
