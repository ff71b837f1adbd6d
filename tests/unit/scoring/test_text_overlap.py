"""Free text against references."""

import math
import random

import pytest

from evalmesh.domain.completion import Completion
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.reducers import ReducerRow
from evalmesh.scoring.text_overlap import CorpusBleu, is_quick, rouge_l, score_overlap, token_f1, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The Danube, (of course)!", ["danube", "of", "course"]),
        ("a the an", ["a", "the", "an"]),
        ("日本語 and 漢字", ["日", "本", "語", "and", "漢", "字"]),
        ("Größe: 3,5 m", ["grösse", "3", "5", "m"]),
        ("１２ Ａ", ["12"]),  # noqa: RUF001 - full width
        ("  \n", []),
    ],
)
def test_words(text, found):
    assert words(text) == found


def common(a, b):
    """The longest common subsequence as everybody writes it down."""
    row = [0] * (len(b) + 1)
    for x in a:
        last = row[:]
        for place, y in enumerate(b):
            row[place + 1] = last[place] + 1 if x == y else max(last[place + 1], row[place])
    return row[-1]


def test_rouge_l_is_the_f1_of_the_longest_common_subsequence():
    rng = random.Random(1)
    for _ in range(300):
        a, b = ([rng.choice("abcd") for _ in range(rng.randint(1, 90))] for _ in range(2))
        assert rouge_l(a, b) == pytest.approx(2 * common(a, b) / (len(a) + len(b)))
    assert rouge_l([], []) == token_f1([], []) == 1
    assert rouge_l(["a"], []) == token_f1([], ["a"]) == 0


def score(text: str, *targets: str) -> Score:
    return score_overlap(Sample("s/0", 0, "s", "?", targets), Completion("s/0", 0, "d", text=text))


def test_the_best_reference_counts_and_one_is_needed():
    assert score("It is the Rhine", "Danube", "Rhine").values["contains"] == 1
    assert score("Rhine", "Danube", "Rhine").values == {"exact_match": 1, "contains": 1, "f1": 1, "rouge_l": 1}
    assert score("Rhineland", "Rhine").values["contains"] == 0
    assert score("答案是巴黎。", "巴黎").values["contains"] == 1
    missing = score("whatever")
    assert (missing.state, missing.answer) == ("unscored", "whatever")
    assert "no reference" in missing.reason


def bleu(*pairs: tuple[str, tuple[str, ...]]) -> float | None:
    rows = [
        ReducerRow(Sample("s/0", 0, "s", "?", targets), None, Score("s/0", 0, "scored", answer=text))
        for text, targets in pairs
    ]
    reducer = CorpusBleu()
    folded = [reducer.fold([row]) for row in rows]
    merged = reducer.fold([])
    for state in folded:
        merged = reducer.merge(state, merged)
    assert merged == reducer.fold(rows)
    (metric,) = reducer.finish(merged).metrics
    return metric.value


def test_bleu_of_a_corpus():
    assert bleu() is None
    assert bleu(("one two three four five", ("one two three four five",))) == 1
    assert bleu(("one two", ("one two",))) == 1
    assert bleu(("nothing alike", ("one two three",))) == 0
    # 5 of 6 words, 3 of 5, 1 of 4 and, with the second answer, 1 of 1 of its four words; as long as the references.
    found = bleu(
        ("one two three x four five", ("one two three four five six",)),
        ("red green blue grey", ("red green blue grey",)),
    )
    wanted = ((5 + 4) / 10, (3 + 3) / 8, (1 + 2) / 6, (0 + 1) / 4)
    assert found == pytest.approx(math.exp(sum(map(math.log, wanted)) / 4))
    # Half as long: the penalty of brevity.
    assert bleu(("one two three four", ("one two three four five six seven eight",))) == pytest.approx(math.exp(-1))


def test_pages_of_text_are_left_to_the_pool():
    sample = Sample("s/0", 0, "s", "?", ("Danube",))
    assert is_quick(sample, Completion("s/0", 0, "d", text="Danube"))
    assert not is_quick(sample, Completion("s/0", 0, "d", text="word " * 1000))
