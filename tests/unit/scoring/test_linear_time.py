"""Hostile completions cost time in proportion to their length: a megabyte is scored in less than a second."""

import time

import pytest

from evalmesh.domain.completion import Completion
from evalmesh.domain.sample import Sample
from evalmesh.scoring.choice import score_choice
from evalmesh.scoring.final_answer import score_final_answer

_UNITS = (
    "\\boxed{", "\\boxed", "{", "}", "#### ", "####", "answer ", "answer", "ANSWER: ", "the answer is ", "1,",
    "1,111", "1", "-", "$", " ", "\n", "\t", "(", "(A", "A ", "A) \n", "B.\n", "<think>", "</think>", "\\frac{",
    "1/", "1 1/", "10^", "=", "*", "_", "\\text{", "answer (", "answer\n", "A: ", "A:\n", "final answer",
    "correct option is ", "a-", "I choose (B) ", "x\u2212", ".", "1e", "1.5 \\times 10^{", "答案", "A.", '{"answer": "',
    "<answer>", "答案是A或", "故选A。", "正解は", "정답은 ", "none of the ", "I cannot ", "so (A) ", "It is A, ",
    "A is correct. ", "I'd pick A over ", "not ", "is the answer ", "the answer is not A but ", "\uff21", "A、",
    "option ", "the correct option that is ", "A B ", ". A", "Answer: A or ", "\\",
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
