"""One table of server habits, and what each client makes of them: an evaluation and a load test read them alike."""

import functools

import pytest
from tests.kit.habits import HABITS, LOOSE, Habit
from tests.kit.habits.clients import Measured, evaluated, measured

from evalmesh.domain.completion import Completion
from evalmesh.load.measure.records import OK, Outcome

TRANSPORTS = ("fast", "compatible")


def of(habits: tuple[Habit, ...], *, streamed: bool) -> list[Habit]:
    return [one for one in habits if one.reply(streamed=streamed) is not None]


@functools.cache
def completions(table: tuple[Habit, ...], *, streamed: bool) -> dict[str, Completion]:
    return evaluated(of(table, streamed=streamed), streamed=streamed)


@functools.cache
def records(table: tuple[Habit, ...], transport: str, *, streamed: bool) -> dict[str, Measured]:
    return measured(of(table, streamed=streamed), transport, streamed=streamed)


EACH = [
    pytest.param(one, streamed, id=f"{one.name}-{'streamed' if streamed else 'whole'}")
    for streamed in (True, False)
    for one in of(HABITS, streamed=streamed)
]


@pytest.mark.parametrize(("habit", "streamed"), EACH)
def test_what_an_evaluation_makes_of_it(habit, streamed):
    right = habit.expected(streamed=streamed)
    completion = completions(HABITS, streamed=streamed)[habit.name]
    if right.error:
        assert completion.error is not None
        assert completion.error.error_class == right.error
        assert right.words in completion.error.message
        return
    assert completion.error is None
    assert (completion.text, completion.finish_reason) == (right.text, right.finish)
    assert (completion.reasoning, completion.refusal) == (right.reasoning, right.refusal)
    assert tuple((call.name, call.arguments) for call in completion.tool_calls) == right.calls
    usage = completion.usage
    assert (None if usage is None else usage.output_tokens) == (right.tokens and right.tokens[1])


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("habit", "streamed"), EACH)
def test_what_a_load_test_makes_of_it(habit, streamed, transport):
    right = habit.expected(streamed=streamed)
    if transport == "fast" and habit.fast_right is not None:
        right = habit.fast_right
    found = records(HABITS, transport, streamed=streamed)[habit.name]
    assert found.outcome is right.outcome
    if found.outcome is not OK:
        return
    assert found.text == right.text
    assert bool(found.record["chunks"]) is True
    if right.tokens:
        assert (found.record["input_tokens"], found.record["output_tokens"]) == right.tokens
    if streamed and right.reasoning:
        assert found.record["reasoning_tokens"] > 0


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_no_other_field_costs_an_evaluation_the_text(streamed):
    lost = {
        name: found.error or found.text
        for name, found in completions(LOOSE, streamed=streamed).items()
        if found.error is not None or (found.text, found.finish_reason) != ("The result is 18, déjà vu.", "stop")
    }
    assert not lost


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_no_other_field_costs_a_load_test_the_text(streamed, transport):
    lost = {
        name: (found.outcome, found.text)
        for name, found in records(LOOSE, transport, streamed=streamed).items()
        if (found.outcome, found.text) != (Outcome.OK, "The result is 18, déjà vu.")
    }
    assert not lost
