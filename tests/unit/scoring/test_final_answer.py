"""What counts as the final answer, and when it equals the target."""

import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judging import judge

from evalmesh.domain.completion import Completion
from evalmesh.domain.sample import Sample
from evalmesh.scoring.extractors import extract_final_answer, strip_thinking
from evalmesh.scoring.final_answer import score_final_answer

RIGHT = [
    ("9 * 2 = 18\n#### 18", "18", "hash-marker"),
    ("#### 1,234", "1234", "hash-marker"),
    ("#### $18.00", "18", "hash-marker"),
    ("#### Step 1\nAdd.\n#### Step 2\nMultiply.\n\\boxed{18}", "18", "boxed"),
    ("so $\\boxed{18}$ dollars", "18", "boxed"),
    ("\\boxed{3} then \\boxed{\\frac{1}{2}}", "0.5", "boxed"),
    ("\\boxed{\\text{about }\\{1\\}}, no: \\[\\boxed{42}\\]", "42", "boxed"),
    ("\\boxed{\\boxed{7}}", "7", "boxed"),
    ("\\boxed{18} and, cut off: \\boxed{1", "18", "boxed"),
    ("**ANSWER:** 18", "18", "answer-marker"),
    ("ANSWER: $18$", "18", "answer-marker"),
    ("Answer: \\(18\\).", "18", "answer-marker"),
    ("The answer is 18. Check: 9 + 9 = 18, 3 + 4 = 7", "18", "answer-marker"),
    ("The final answer is **18 dollars**.", "18", "answer-marker"),
    ("The answer is $\\frac{3}{4}$.", "0.75", "answer-marker"),
    ("the answer to this question is 5", "5", "answer-marker"),
    ("Answer (in dollars): 18", "18", "answer-marker"),
    ("**Final Answer**\n\n18", "18", "answer-marker"),
    ("### Final answer:\n\n> **18**", "18", "answer-marker"),
    ("The answer is 9 x $2 = $18 per day.", "18", "answer-marker"),
    ("Answer: Janet makes $18 every day.", "18", "answer-marker"),
    ("The answer is x = 5.", "5", "answer-marker"),
    ("The answer is 8 + 4", "12", "answer-marker"),
    ("It is 7.\nA: 18", "18", "answer-marker"),
    ("First the answer is 3, no, the answer is 4.", "4", "answer-marker"),
    ("答案是 18。", "18", "answer-marker"),
    ("The answer is 18 because 16 - 3 - 4 = 9 and 9 * 2 is that.", "18", "answer-marker"),
    ("The answer is 18, since 9 * 2 = 18 and 3 < 4.", "18", "answer-marker"),
    ("ANSWER: 18 (from 9 eggs)", "18", "answer-marker"),
    ("The answer is (1, 2).", "(1,2)", "answer-marker"),
    ("The answer is 9 eggs at $2 each = $18", "18", "answer-marker"),
    ("\\boxed{x = 18}", "18", "boxed"),
    ("\\boxed{\\$1,018.00}", "1018", "boxed"),
    ("\\boxed{18\\text{ eggs per day}}", "18", "boxed"),
    ("\\boxed{}\nANSWER: 18", "18", "answer-marker"),
    ("She makes 18 dollars. The answer is correct.", "18", "last-number"),
    ("16 - 7 = 9, so she makes $18 every day.", "18", "last-number"),
    ("That leaves -55", "-55", "last-number"),
    ("between 10-12", "12", "last-number"),
    ("1.5 \\times 10^3", "1500", "last-number"),
    ("<think>maybe 3\n#### 3</think>It is 18.", "18", "last-number"),
    ("thinking...</think>\n\n\\boxed{18}", "18", "boxed"),
]


@pytest.mark.parametrize(("text", "target", "extractor"), RIGHT)
def test_right_answers_are_found_however_they_are_written(text, target, extractor):
    score = judge(text, target)
    assert (score.values["accuracy"], score.extractor) == (1.0, extractor), score


WRONG = [
    ("#### 2880007", "2880000"),
    ("The answer is not 18.", "18.5"),
    ("ANSWER: 18", "180"),
    ("The answer is 0.5", "50"),
    ("The answer is 12x.", "12"),
    ("The answer is 3 blue and 5 red boxes.", "3"),
    ("\\boxed{17}. Of the 18 eggs.", "18"),
    ("", "18"),
    ("I do not know.", "18"),
    ("<think>it could be 18", "18"),
    ("<think>a</think><think>#### 18", "18"),
]


@pytest.mark.parametrize(("text", "target"), WRONG)
def test_wrong_answers_stay_wrong(text, target):
    assert judge(text, target).values == {"accuracy": 0.0}


@pytest.mark.parametrize(
    ("text", "target", "extractor"),
    [
        ("#### 50% discount\nHalf of $24 is $12.\n\n**Answer: 12**", "12", "answer-marker"),
        ("#### 3 Remaining steps\n5 + 7 = 12\n\n\\boxed{12}", "12", "boxed"),
        ("#### 3 Remaining steps\n5 + 7 = 12", "12", "last-number"),
        ("#### 3 Steps\n5 + 7 = 12", "12", "last-number"),
        ("#### 5\nThen seven more:\n\\boxed{12}", "12", "boxed"),
        ("#### 5 apples\nThen seven more.\nThe answer is 12", "12", "answer-marker"),
        ("#### Final Answer\n12", "12", "answer-marker"),
        ("#### 12 US dollars\n", "12", "hash-marker"),
        ("#### 12\n\nQuestion: 3 + 4?\nThe answer is 7\n#### 7", "12", "hash-marker"),
        ("#### infinite", "\\text{infinite}", "hash-marker"),
    ],
)
def test_a_heading_is_no_answer_and_a_box_behind_it_is_surer(text, target, extractor):
    score = judge(text, target)
    assert (score.values["accuracy"], score.extractor) == (1.0, extractor)


@pytest.mark.parametrize("word", ["infinite", "none", "no solution"])
def test_a_last_hash_line_without_a_number_leaves_no_number_to_take(word):
    for target in ("7", "12"):
        assert judge(f"5 + 7 = 12\n#### {word}\n", target).values["accuracy"] == 0.0


THOUGHTS = [
    ("[THINK]", "[/THINK]"), ("<think>", "</think>"), ("<THINK>", "</THINK>"), ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"), ("<reasoning>", "</reasoning>"), ("<reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"), ("<analysis>", "</analysis>"), ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"), ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
]  # fmt: skip


@pytest.mark.parametrize(("opening", "closing"), THOUGHTS)
def test_what_was_thought_is_no_answer(opening, closing):
    for cut in (
        "it may be 7, let me",
        "the answer is 7.\n#### 7\n",
        "\\boxed{7}",
        "a" + closing + opening + "\\boxed{7}",
    ):
        assert judge(opening + cut, "7").answer is None
    assert judge(f"{opening}it is \\boxed{{7}}{closing}It is 18.", "18").values["accuracy"] == 1.0
    assert judge(f"it may be 7{closing}It is 18.", "18").values["accuracy"] == 1.0


def test_a_thought_within_a_thought_does_not_end_it():
    assert judge("<thinking>a<reflection>b</reflection> so 7", "7").answer is None
    assert judge("<thinking>a<reflection>b</reflection> so 7</thinking>18", "18").values["accuracy"] == 1.0


@pytest.mark.parametrize(("text", "target", "extractor"), RIGHT)
def test_a_completion_known_to_be_cut_gets_credit_by_marker_or_box_only(text, target, extractor):
    for tenth in range(11):
        score = judge(text[: len(text) * tenth // 10], target, finish_reason="length")
        assert score.values["accuracy"] == 0.0 or score.extractor in {"hash-marker", "boxed", "answer-marker"}


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 12", "The answer is 12.", "The answer is 12,", "The answer is $12", "The answer is 12'", "A: 12",
        "The answer is 10{,}", "#### 12", "\\boxed{12", "答案是12", "She has 12 apples. ", "Answer: **12",
    ],
)  # fmt: skip
def test_a_number_that_the_limit_may_have_cut_gets_no_credit(text):
    for target in ("12", "10"):
        assert judge(text, target, finish_reason="length").values["accuracy"] == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 12. Let me",
        "Answer: 12\nLet",
        "Answer: **12**",
        "#### 12\n",
        "\\boxed{12} as",
        "答案是12\u3002",
        "$ANSWER: 12$",
    ],
)
def test_a_closed_answer_counts_in_a_cut_completion(text):
    assert judge(text, "12", finish_reason="length").values["accuracy"] == 1.0


@pytest.mark.parametrize("text", ["\\begin{align*}\n5 + 7 &= 12 \\\\\n&= 12", "so \\[ 5 + 7 = 12"])
def test_a_text_that_ends_inside_a_formula_was_not_finished(text):
    assert judge(text, "12").answer is None


def test_a_score_names_its_completion_and_explains_itself():
    score = judge("ANSWER: 17", "18")
    assert (score.sample_id, score.repeat, score.state, score.answer) == ("d/0", 2, "scored", "17")
    assert score.explanation == "'17' is not '18'."


def test_a_completion_cut_off_before_its_answer_says_so():
    score = judge("<think>Let me see, 4 and", "18", finish_reason="length")
    assert score.answer is None
    assert "token limit" in (score.explanation or "")


def test_any_accepted_target_counts():
    sample = Sample(id="d/0", index=0, subset="d", input="?", target=("1", "18"))
    completion = Completion(sample_id="d/0", repeat=0, digest="", text="#### 18")
    score = score_final_answer(sample, completion)
    assert score is not None
    assert score.values["accuracy"] == 1.0


def test_no_algebra_is_loaded_where_nothing_is_symbolic():
    code = (
        "import sys, evalmesh.scoring.final_answer, evalmesh.scoring.tally;"
        "print(sorted({'sympy', 'math_verify', 'latex2sympy2_extended', 'antlr4'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"[]"


def test_text_without_tags_is_left_alone():
    assert strip_thinking("I think 3 < 4") == "I think 3 < 4"


_INTEGERS = st.integers(min_value=-(10**12), max_value=10**12)


def _dressings(number: str) -> list[str]:
    return [number, f"${number}$", f"**{number}**", f"{number}.", f"\\({number}\\)", f"{number} apples", f"`{number}`"]


@given(
    value=_INTEGERS,
    commas=st.booleans(),
    dressing=st.integers(0, 6),
    frame=st.sampled_from(
        [
            "#### {}",
            "The answer is {}",
            "ANSWER: {}",
            "**Final answer:** {}",
            "We add 3 and 4.\n\nAnswer: {}\n",
            "so \\boxed{{{}}}",
            "<think>#### 99</think>So the final answer is {}",
            "Therefore she has {}",
        ]
    ),
)
def test_any_dressing_of_the_right_number_is_right(value, commas, dressing, frame):
    number = f"{value:,}" if commas else str(value)
    text = frame.format(_dressings(number)[dressing])
    assert judge(text, str(value)).values["accuracy"] == 1.0
    assert judge(text, str(value + 7)).values["accuracy"] == 0.0


@given(value=st.fractions(min_value=-1000, max_value=1000, max_denominator=999))
def test_fractions_are_exact(value: Fraction):
    sign = "-" if value < 0 else ""
    text = f"\\boxed{{{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}}}"
    assert judge(text, f"{value.numerator}/{value.denominator}").values["accuracy"] == 1.0


@given(st.text(max_size=300))
def test_no_text_breaks_the_extractors(text):
    extraction = extract_final_answer(text)
    assert extraction is None or extraction.answer
    judge(text, "18")


@given(st.text(alphabet="\\boxedfrac{}$#answeri:s. \n0123,%/^*()-=A", max_size=200))
def test_no_broken_markup_breaks_the_scorer(text):
    judge(text, "18")
