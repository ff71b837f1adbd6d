"""Hostile completions cost time in proportion to their length: a megabyte is scored in less than a second."""

import time

import pytest

from evalmesh.domain.completion import Completion
from evalmesh.domain.sample import Sample
from evalmesh.scoring.choice import score_choice
from evalmesh.scoring.final_answer import score_final_answer
from evalmesh.scoring.math_equal import fast_equal

pytestmark = pytest.mark.alone

_UNITS = (
    "\\boxed{", "\\boxed", "{", "}", "#### ", "####", "answer ", "answer", "ANSWER: ", "the answer is ", "1,",
    "1,111", "1", "-", "$", " ", "\n", "\t", "(", "(A", "A ", "A) \n", "B.\n", "<think>", "</think>", "\\frac{",
    "1/", "1 1/", "10^", "=", "*", "_", "\\text{", "answer (", "answer\n", "A: ", "A:\n", "final answer",
    "correct option is ", "a-", "I choose (B) ", "x\u2212", ".", "1e", "1.5 \\times 10^{", "答案", "A.",
    "Answer: A or ", "\\", "**1**", "*1* ", "`", "__", "\\text{1}", "[THINK]", "</thinking>",
    "<|begin_of_thought|>", "<b>", "<|channel|>", "1 ", "1 000", "1'000", "1,11,", "\u2013", "minus ", "US$",
    "Rs. ", "\uff11", "\u5143", "18\u5143", "\u7b54\uff1a", "\uc815\ub2f5\uc740 ", "#### 5 Steps\n",
    "#### 5 apples\n", "#### x\n", "^{2}", "^-", "cm^2 ", "\\begin{", "\\[", "x = 1, ", "1 and ", "\u222a",
    "\u00b1", "<answer>1", "Respuesta: ", "\\,", "~", "\\\\", "1.", "1/1 ", "\u22481", "(1", "[", "\\boxed{1 = ",
    "\\boxed{\\text{answer: ",
    "correct option is ", "a-", "I choose (B) ", "x\u2212", ".", "1e", "1.5 \\times 10^{", "答案", "A.", '{"answer": "',
    "<answer>", "答案是A或", "故选A。", "正解は", "정답은 ", "none of the ", "I cannot ", "so (A) ", "It is A, ",
    "A is correct. ", "I'd pick A over ", "not ", "is the answer ", "the answer is not A but ", "\uff21", "A、",
    "option ", "the correct option that is ", "A B ", ". A", "Answer: A or ", "\\",
    "Point A is closer. ", "So image (B) is ", "matches the ", "the first image (A) ",
    "is the a-", "is the third image (B): \n",
)  # fmt: skip


_WORST = ("-", "(", "\\boxed{", "1,", "<answer>", "故选A。", "I choose (B) ", ". A")


@pytest.mark.parametrize(
    ("unit", "size_chars"), [(unit, 30_000) for unit in _UNITS] + [(unit, 1_000_000) for unit in _WORST]
)
def test_repetition_is_scored_in_linear_time(unit, size_chars):
    text = unit * (size_chars // len(unit))
    sample = Sample(id="d/0", index=0, subset="d", input="?", target=("B",), choices=("1", "2", "3"))
    completion = Completion(sample_id="d/0", repeat=0, digest="", text=text)
    for scorer in (score_final_answer, score_choice):
        start = time.process_time()
        scorer(sample, completion)
        assert time.process_time() - start < size_chars / 1_000_000 + 0.05, scorer.__name__


@pytest.mark.parametrize("unit", _UNITS)
def test_a_cut_completion_and_an_answer_of_any_length_cost_linear_time_too(unit):
    text = unit * (30_000 // len(unit))
    sample = Sample(id="d/0", index=0, subset="d", input="?", target=("\\sqrt{2}",))
    completion = Completion(sample_id="d/0", repeat=0, digest="", text=text, finish_reason="length")
    start = time.process_time()
    score_final_answer(sample, completion)
    fast_equal(text, "\\sqrt{2}")
    fast_equal(text[:2000], text[:1999])
    assert time.process_time() - start < 0.3
