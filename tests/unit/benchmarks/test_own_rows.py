"""Rows that users bring, in the forms they have them."""

import pytest

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import NumberedRow
from evalmesh.benchmarks.columns import Headings
from evalmesh.benchmarks.samples import MalformedRow, RowSource, iter_samples
from evalmesh.domain.run import BenchmarkSpec
from evalmesh.domain.sample import Sample

USER, SYSTEM = {"role": "user", "content": "Why?"}, {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "Because."}


def read(name: str, row: dict) -> Sample | MalformedRow:
    benchmark = registry.get(name)
    source = RowSource(lambda: iter([NumberedRow(0, row)]), headings=Headings(benchmark.columns, {}))
    (found,) = iter_samples(benchmark, BenchmarkSpec(name), source, "default", None, 1)
    return found


@pytest.mark.parametrize(
    ("row", "asked", "target", "before"),
    [
        ({"query": "Why?", "response": "Because."}, "Why?", ("Because.",), []),
        ({"Question": "Why?", "Answer": ["Because.", "So."]}, "Why?", ("Because.", "So."), []),
        ({"prompt": "Why?"}, "Why?", (), []),
        ({"prompt": "Why?", "response": None}, "Why?", (), []),
        ({"prompt": "Why?", "response": ["", None, 4.0]}, "Why?", ("4",), []),
        ({"题目": "Why?", "答案": '["Because."]'}, "Why?", ("Because.",), []),
        ({"query": "Why?", "response": "[1] is no list"}, "Why?", ("[1] is no list",), []),
        ({"instruction": "Translate.", "input": "Hallo", "output": "Hi"}, "Translate.\n\nHallo", ("Hi",), []),
        ({"instruction": "Say hi.", "input": "", "output": "Hi"}, "Say hi.", ("Hi",), []),
        ({"input": "Why?", "target": 5}, "Why?", ("5",), []),
        ({"system": "Be brief.", "query": "Why?"}, "Why?", (), [("system", "Be brief.")]),
        ({"query": "Why?", "history": [["Hello", "Hi"]]}, "Why?", (), [("user", "Hello"), ("assistant", "Hi")]),
        ({"query": "Why?", "history": '[["Hello", "Hi"]]'}, "Why?", (), [("user", "Hello"), ("assistant", "Hi")]),
        ({"messages": [SYSTEM, USER, ANSWER]}, "Why?", ("Because.",), [("system", "Be brief.")]),
        ({"messages": [USER], "reference": "So."}, "Why?", ("So.",), []),
        (
            {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
            "Why?",
            ("So.",),
            [],
        ),
    ],
)
def test_questions_with_free_answers(row, asked, target, before):
    sample = read("general_qa", row)
    assert (sample.input, sample.target) == (asked, target)
    assert [(message.role, message.content) for message in sample.messages] == before


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "x"}, "column 'query' is missing (there are: text)"),
        ({"Question": ""}, "column 'Question' is empty"),
        ({"Question": {"a": 1}}, "column 'Question' holds a dict, expected text"),
        ({"query": "x", "Answer": {"a": 1}}, "holds a dict, expected text"),
        ({"messages": []}, "column 'messages' is empty"),
        ({"messages": [SYSTEM]}, "must end with what the user asks"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "a turn that is no message"),
        ({"messages": "hello"}, "column 'messages' is no JSON list"),
        ({"query": "x", "history": {"a": 1}}, "column 'history' holds a dict, expected a list of turns"),
        ({"query": "x", "history": [["a"]]}, "a turn that is no message"),
        ({"query": "x", "system": "a", "history": [SYSTEM]}, "keep one"),
    ],
)
def test_a_wrong_row_is_told_in_the_words_of_its_file(row, reason):
    found = read("general_qa", row)
    assert isinstance(found, MalformedRow)
    assert reason in found.reason


@pytest.mark.parametrize(
    ("row", "target"),
    [
        ({"question": "q", "A": "x", "B": "y", "answer": "(b)"}, "B"),
        ({"question": "q", "A": "3", "B": "4", "answer": 4}, "B"),
        ({"question": "q", "A": "B", "B": "A", "answer": "A"}, "A"),
        ({"Question": "q", "Option A": "x", "Option B": "y", "Correct Answer": "Y"}, "B"),
        ({"query": "q", "options": ["x", "y"], "gold": "x"}, "A"),
        ({"query": "q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "label": "b."}, "B"),
        ({"题目": "q", "选项A": "x", "选项B": "y", "答案": "A"}, "A"),
    ],
)
def test_multiple_choice(row, target):
    assert read("general_mcq", row).target == (target,)


def test_a_name_of_its_own_goes_before_another_one():
    headings = Headings(registry.get("general_mcq").columns, {"answer": "key"})
    row = headings.of({"question": "q", "prompt": "other", "key": "A", "answer": "B", "A": "x"})
    assert row == {"question": "q", "prompt": "other", "answer": "A", "A": "x"}
    assert list(headings.notes) == []
