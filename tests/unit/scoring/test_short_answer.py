"""DROP's exact match and F1: what is compared of an answer, which spans belong together, what a reply answers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import RowContext
from evalmesh.domain.completion import Completion
from evalmesh.domain.sample import Sample
from evalmesh.scoring.short_answer import answer_of, best_pairs, compare, normalized, score_short_answer, spans_of

DROP = registry.get("drop")


@pytest.mark.parametrize(
    ("span", "same"),
    [
        ("The  Cat,", "cat"),
        ("well-known", "well known"),
        ("U.S.", "us"),
        ("1,000", "1000.0"),
        ("24", "24.0"),
        ("$3.5", "35.0"),  # as the official rule has it: the mark goes, and the point with it
        ("3.50", "3.5"),
        ("a", ""),
        ("16-24", "16.0 24.0"),
    ],
)
def test_what_is_compared(span, same):
    assert normalized(span) == same


@pytest.mark.parametrize(
    ("said", "accepted", "exact", "f1"),
    [
        (("the cats",), ("Cats",), 1, 1),
        (("24 cats",), ("24",), 0, 0.67),
        (("24 cats",), ("25 cats",), 0, 0),  # another number
        (("cats",), ("25 cats",), 0, 0),
        (("25 dogs",), ("cats",), 0, 0),
        (("ann", "bob"), ("bob", "Ann"), 1, 1),
        (("ann",), ("bob", "Ann"), 0, 0.5),
        (("ann", "bob", "eve"), ("bob", "Ann"), 0, 0.67),
        (("ann smith", "bob"), ("Ann", "Bob Lee"), 0, 0.67),
        (("ann", "ann"), ("Ann",), 0, 0.5),
        (("1,000.0 men",), ("1000.00 men",), 0, 0),  # a comma makes the first one 10000
        (("a",), ("the",), 1, 1),
    ],
)
def test_exact_match_and_f1(said, accepted, exact, f1):
    assert compare(said, accepted) == (exact, f1)


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=5))
def test_no_other_pairs_are_worth_more(worth):
    pairs = best_pairs(worth)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == min(len(worth), 3)

    def best(row: int, free: frozenset[int]) -> float:
        if row == len(worth):
            return 0.0
        taken = [worth[row][column] + best(row + 1, free - {column}) for column in free]
        return max([*taken, best(row + 1, free)])

    assert sum(worth[row][column] for row, column in pairs) == pytest.approx(best(0, frozenset(range(3))))


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("It was long.\nANSWER: 24 yards", "24 yards"),
        ("Answer: 3\nNo: **Answer:** 4.\nBye", "4."),
        ("<think>ANSWER: 5</think>The final answer is: ann; bob", "ann; bob"),
        ("Brett Favre", "Brett Favre"),
        ("", ""),
    ],
)
def test_the_answer_is_what_follows_the_last_mark_or_all(reply, answer):
    assert answer_of(reply) == answer


def test_semicolons_part_spans():
    assert spans_of("ann; bob ;; eve;") == ("ann", "bob", "eve")
    assert len(spans_of("a;" * 10_000)) <= 65


def scored(text, *accepted):
    sample = Sample(
        "s", 0, "s", "?", tuple("; ".join(one) for one in accepted), reference=[list(one) for one in accepted]
    )
    return score_short_answer(sample, Completion("s", 0, "", text=text, finish_reason="stop"))


def test_of_several_accepted_answers_the_best_counts():
    found = scored("ANSWER: 24 yards", ["5"], ["24 yards"], ["24"])
    assert (dict(found.values), found.answer) == ({"exact_match": 1, "f1": 1}, "24 yards")


@pytest.mark.parametrize("text", ["", "ANSWER:", "<think>24</think>"])
def test_no_answer_is_wrong_and_counted_as_such(text):
    found = scored(text, ["24"])
    assert (found.state, dict(found.values), found.outcome != "") == ("scored", {"exact_match": 0, "f1": 0}, True)


EMPTY = {"day": "", "month": "", "year": ""}


@pytest.mark.parametrize(
    ("row", "target"),
    [
        ({"answers_spans": {"spans": ["ann", "bob"], "types": ["span", "span"]}}, ("ann; bob",)),
        ({"answer": {"number": "3", "date": EMPTY, "spans": []}, "validated_answers": []}, ("3",)),
        (
            {
                "answer": {"number": "", "date": {"day": "1", "month": "May", "year": ""}, "spans": []},
                "validated_answers": {"number": ["", "7"], "date": [EMPTY, EMPTY], "spans": [["ann"], []]},
            },
            ("1 May", "ann", "7"),
        ),
    ],
)
def test_every_layout_of_rows(row, target):
    sample = DROP.to_sample({"passage": "A man.", "question": "Who?", "section_id": "p1", **row}, RowContext("d", 4))
    assert (sample.input, sample.target, sample.group) == ("Passage: A man.\n\nQuestion: Who?", target, "p1")
    assert sample.reference == [one.split("; ") for one in target]


def test_a_row_with_all_in_one_text():
    text = "Passage: A man.\nQuestion: odd\nQuestion: Who?\nAnswer:"
    sample = DROP.to_sample({"context": text, "completion": " ann", "ref_text": "ann|bob|ann"}, RowContext("d", 0))
    assert sample.input == "Passage: A man.\nQuestion: odd\n\nQuestion: Who?"
    assert sample.target == ("ann", "bob")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"passage": "x"}, "column 'question'"),
        ({"passage": "x", "question": "y"}, "column 'answer'"),
        ({"passage": "x", "question": "y", "answers_spans": {"spans": []}}, "no answer"),
        ({"context": "x", "ref_text": "y"}, "no paragraph"),
    ],
)
def test_a_row_without_an_answer_is_named(row, says):
    with pytest.raises((ValueError, TypeError), match=says):
        DROP.to_sample(row, RowContext("d", 0))


@pytest.mark.shared_data
def test_the_accepted_answers_of_real_rows_are_right(shared_data):
    lines = (shared_data / "drop" / "drop_v0_dev_sample.jsonl").read_text().splitlines()
    samples = [DROP.to_sample(json.loads(line), RowContext("d", n)) for n, line in enumerate(lines)]
    assert len(samples) == 596
    for sample in samples:
        for target in sample.target:
            completion = Completion(sample.id, 0, "", text=f"Well.\nANSWER: {target}")
            assert score_short_answer(sample, completion).values["f1"] == 1, target
