"""BLEU, ROUGE and chrF are those of the libraries, also over a corpus folded in pieces; Chinese is cut first."""

import sys

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.spec import validate_spec
from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.run import BenchmarkSpec
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.ngrams import SacreBleu, prepared, score_ngrams
from evalmesh.scoring.reducers import ReducerRow

OVERLAP = BenchmarkSpec("general_qa", local_path="faq.jsonl", extra={"scoring": "overlap"})
PAIRS = [
    ("The river flows through Vienna.", ("The Danube flows through Vienna, to the east.", "It flows through Vienna")),
    ("He said: no!", ("He said no",)),
    ("A cat sat on the mat, and slept.", ("The cat sat on a mat and slept all day long.",)),
]
CHINESE = (
    "\u6211\u6765\u5230\u5317\u4eac\u6e05\u534e\u5927\u5b66",
    ("\u6211\u7231\u5317\u4eac\u6e05\u534e\u5927\u5b66",),
)


def scored(text, references):
    sample = Sample("s", 0, "s", "?", references)
    return sample, score_ngrams(sample, Completion("s", 0, "", text=text))


@pytest.mark.parametrize(("text", "references"), PAIRS)
def test_values_of_a_text_are_the_libraries(text, references):
    _, score = scored(f"<think>Hm.</think>{text}", references)
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"]).score_multi(references, text)
    assert dict(score.values) == pytest.approx(
        {
            "rouge1": rouge["rouge1"].fmeasure,
            "rouge2": rouge["rouge2"].fmeasure,
            "rouge_l": rouge["rougeL"].fmeasure,
            "bleu": sacrebleu.sentence_bleu(text, references).score / 100,
            "chrf": sacrebleu.sentence_chrf(text, references).score / 100,
        }
    )


def test_a_corpus_folded_in_pieces_has_the_librarys_bleu():
    rows = [ReducerRow(*_row(text, references)) for text, references in PAIRS]
    rows.append(ReducerRow(rows[0].sample, None, Score("x", 0, "errored")))
    bleu = SacreBleu()
    (found,) = bleu.finish(bleu.merge(bleu.fold(rows[:1]), bleu.fold(rows[1:]))).metrics
    streams = [[refs[min(n, len(refs) - 1)] for _, refs in PAIRS] for n in range(2)]
    assert found.value == pytest.approx(sacrebleu.corpus_bleu([text for text, _ in PAIRS], streams).score / 100)
    assert (found.n_scored, found.n_errored, bleu.finish(bleu.fold(())).metrics[0].value) == (3, 1, None)


def _row(text, references):
    sample, score = scored(text, references)
    return sample, None, score


def test_chinese_is_cut_into_words():
    (text, reference), cut = prepared([CHINESE[0], *CHINESE[1]])
    assert (cut, text.split(), reference.split()[-1]) == (
        True,
        ["\u6211", "\u6765\u5230", "\u5317\u4eac", "\u6e05\u534e\u5927\u5b66"],
        "\u6e05\u534e\u5927\u5b66",
    )
    _, score = scored(*CHINESE)
    # Three of four words are common, in order; the answer has four and so has the reference.
    assert (score.values["rouge1"], score.values["rouge_l"]) == (0.75, 0.75)
    assert scored(CHINESE[1][0], CHINESE[1])[1].values == pytest.approx(
        dict.fromkeys(("rouge1", "rouge2", "rouge_l", "bleu", "chrf"), 1.0)
    )


def test_a_row_without_a_reference_is_unscored_and_an_empty_answer_worth_nothing():
    assert scored("Yes", ())[1].state == "unscored"
    assert set(scored("", ("Yes",))[1].values.values()) == {0.0}


def test_general_qa_is_scored_by_them_if_it_is_asked_for():
    validate_spec(registry.get("general_qa"), OVERLAP)
    benchmark = registry.get("general_qa").for_spec(OVERLAP)
    assert [one.name for one in benchmark.metrics] == ["rouge_l", "rouge1", "rouge2", "bleu", "chrf"]
    assert [one.name for one in benchmark.reducers] == ["corpus_bleu"]
    sample = Sample("s", 0, "s", "?", ("Yes",))
    assert benchmark.shape.score_fast(sample, Completion("s", 0, "", text="Yes")) is None
    assert benchmark.shape.score(sample, Completion("s", 0, "", text="Yes")).values["rouge_l"] == 1


def test_a_package_that_is_absent_is_named_before_anything_is_asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    with pytest.raises(InvalidInput) as caught:
        validate_spec(registry.get("general_qa"), OVERLAP)
    assert caught.value.message == (
        "benchmarks.general_qa.scoring = 'overlap' needs rouge-score, which is not installed here: "
        "pip install 'evalmesh[overlap]'."
    )
