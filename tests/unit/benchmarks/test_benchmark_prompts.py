import dataclasses

import pytest

from evalmesh.benchmarks.base import PromptSettings
from evalmesh.benchmarks.shapes.final_answer import FinalAnswer
from evalmesh.benchmarks.shapes.multiple_choice import MultipleChoice, shuffle_choices
from evalmesh.domain.errors import Unimplemented
from evalmesh.domain.request import Message
from evalmesh.domain.sample import Sample

MATHS = Sample("main/0", 0, "main", "Solve {x} for {question}.", ("5",), metadata={"solution": "2 + 3 = 5"})
SHOT = Sample("main/1", 1, "main", "One and one?", ("2",), metadata={"solution": "1 + 1 = 2"})
CHOICE = Sample("s/0", 0, "s", "Which one?", ("B",), choices=("red", "{letters}", "blue"))


def test_braces_that_are_no_placeholders_stay_as_they_are():
    settings = PromptSettings(template="In \\boxed{} and {this}: {question} {choices}")
    (message,) = FinalAnswer().render(MATHS, settings).messages
    assert message.content == "In \\boxed{} and {this}: Solve {x} for {question}. {choices}"


def test_text_from_a_row_is_never_taken_for_a_placeholder():
    (message,) = MultipleChoice().render(CHOICE, PromptSettings("{question}\n{choices}\n{letters}")).messages
    assert message.content == "Which one?\nA) red\nB) {letters}\nC) blue\nA, B, C"


def test_solved_examples_are_turns_that_end_as_the_prompt_asks():
    settings = PromptSettings(template="Q: {question}", system="Be brief.", shots=(SHOT,))
    assert FinalAnswer().render(MATHS, settings).messages == (
        Message("system", "Be brief."),
        Message("user", "Q: One and one?"),
        Message("assistant", "1 + 1 = 2\nThe result is \\boxed{2}."),
        Message("user", "Q: Solve {x} for {question}."),
    )


def test_a_solved_choice_is_its_letter():
    settings = PromptSettings(template="{question} {choices}", shots=(CHOICE,))
    assert MultipleChoice().render(CHOICE, settings).messages[1] == Message("assistant", "ANSWER: B")


def test_a_completion_prompt_is_the_same_text_in_one_piece():
    settings = PromptSettings(template="Q: {question}", system="Be brief.", shots=(SHOT,), kind="completion")
    prompt = FinalAnswer(closing="#### {answer}").render(MATHS, settings)
    assert prompt.messages == ()
    assert prompt.text == ("Be brief.\n\nQ: One and one?\n\n1 + 1 = 2\n#### 2\n\nQ: Solve {x} for {question}.\n\n")


def test_kinds_that_generate_no_text_are_refused():
    with pytest.raises(Unimplemented, match="no prompt of kind 'embedding'; use chat or completion"):
        FinalAnswer().render(MATHS, PromptSettings("{question}", kind="embedding"))


def test_shuffled_choices_keep_the_right_answer_and_can_be_repeated():
    seen = set()
    for index in range(50):
        sample = dataclasses.replace(CHOICE, id=f"s/{index}")
        shuffled = shuffle_choices(sample, seed=7)
        assert shuffled == shuffle_choices(sample, seed=7)
        assert sorted(shuffled.choices) == sorted(CHOICE.choices)
        assert shuffled.choices["ABC".index(shuffled.target[0])] == "{letters}"
        order = shuffled.metadata["choice_order"]
        assert [CHOICE.choices["ABC".index(letter)] for letter in order] == list(shuffled.choices)
        seen.add(order)
    assert len(seen) == 6
    assert len({shuffle_choices(CHOICE, seed).choices for seed in range(50)}) == 6


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_examples_are_laid_out_once_and_anew_for_other_settings(kind):
    settings = PromptSettings(template="Q: {question}", system="Be brief.", shots=(SHOT,), kind=kind)
    shape = FinalAnswer()
    assert shape.render(MATHS, settings) == shape.render(MATHS, settings)
    other = dataclasses.replace(settings, system="Be long.")
    assert shape.render(MATHS, other) == shape.render(
        MATHS, PromptSettings(template="Q: {question}", system="Be long.", shots=(SHOT,), kind=kind)
    )
