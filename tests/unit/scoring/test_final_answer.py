"""What counts as the final answer, and when it equals the target."""

import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.domain.completion import Completion, FinishReason
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.scoring.extractors import extract_final_answer, strip_thinking
from evalmesh.scoring.final_answer import score_final_answer, score_final_answer_symbolic


def judge(text: str, target: str, finish_reason: FinishReason = "stop") -> Score:
    sample = Sample(id="d/0", index=0, subset="d", input="?", target=(target,))
    completion = Completion(sample_id="d/0", repeat=2, digest="", text=text, finish_reason=finish_reason)
    score = score_final_answer(sample, completion)
    return score_final_answer_symbolic(sample, completion) if score is None else score


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


def test_sympy_is_not_loaded_where_nothing_is_symbolic():
    code = "import sys, evalmesh.scoring.final_answer, evalmesh.scoring.tally; print('sympy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"False"


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
