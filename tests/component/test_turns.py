"""Conversations of several turns: each answer goes into what is asked next, and nothing paid for is asked again."""

import asyncio
import json

import pytest
from tests.component.test_runner import SCORE, TestEndpoint, running, until, until_queued
from tests.kit.services import plan_run

from evalmesh.domain.completion import Completion, CompletionError, Timing, Usage
from evalmesh.domain.errors import Unimplemented
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec
from evalmesh.model_runner.turns import converse
from evalmesh.wire.runs.shard_files import RunFiles

TURNS = ("What is 1 + 1?", "And one more?", "And another?")
FIRST = Message("user", TURNS[0])


class Counting(TestEndpoint):
    """Answers with the number of questions so far, and remembers what it was asked."""

    def __init__(self, fails=lambda request: False, **more):
        super().__init__(**more)
        self.fails = fails
        self.conversations = []

    async def generate(self, request, config, ask_again=None):
        self.conversations.append([(one.role, one.text) for one in request.messages])
        assert request.followups == ()
        found = await super().generate(request, config, ask_again)
        said = sum(one.role == "user" for one in request.messages)
        if self.fails(request):
            return Completion(found.sample_id, found.repeat, found.digest, error=CompletionError("server", "down"))
        return Completion(
            found.sample_id,
            found.repeat,
            found.digest,
            text=f"{said}",
            finish_reason="stop",
            usage=Usage(10 * said, 1),
            timing=Timing(100.0 * said, 0.5, 0.25),
            tries=said,
        )


def asked(n):
    """What stands before the n-th answer."""
    turns = [one for place, said in enumerate(TURNS[: n - 1], 1) for one in (("user", said), ("assistant", str(place)))]
    return [*turns, ("user", TURNS[n - 1])]


def request(**more):
    return Request("s/0", 0, "chat", "d", (FIRST,), followups=TURNS[1:], **more)


async def test_each_answer_goes_into_what_is_asked_next():
    endpoint, kept = Counting(latency_s=0.0), []
    found = await converse(endpoint, request(), GenerationConfig(), keep=kept.append)
    assert endpoint.conversations == [asked(1), asked(2), asked(3)]
    assert (found.text, found.turns, found.unfinished, found.digest) == ("3", ("1", "2"), False, "d")
    assert (found.usage, found.timing, found.tries) == (Usage(60, 3), Timing(100.0, 1.5, 0.25), 6)
    assert [(one.turns, one.text, one.unfinished) for one in kept] == [(("1",), "", True), (("1", "2"), "", True)]


async def test_what_is_answered_is_not_asked_again():
    endpoint = Counting(latency_s=0.0)
    begun = Completion("s/0", 0, "d", turns=("1",), unfinished=True, tries=5)
    found = await converse(endpoint, request(), GenerationConfig(), begun=begun)
    assert endpoint.conversations == [asked(2), asked(3)]
    assert (found.text, found.turns, found.tries) == ("3", ("1", "2"), 10)


async def test_a_turn_that_fails_ends_the_conversation_with_what_was_said_in_it():
    endpoint = Counting(fails=lambda one: len(one.messages) == 3, latency_s=0.0)
    found = await converse(endpoint, request(), GenerationConfig())
    assert (found.error.error_class, found.turns, found.unfinished) == ("server", ("1",), False)
    assert len(endpoint.conversations) == 2


def conversations(tmp_path, count):
    path = tmp_path / "talks.jsonl"
    path.write_text("".join(json.dumps({"turns": TURNS, "response": "3"}) + "\n" for _ in range(count)))
    model = ModelSpec("m", url="http://h/v1")
    return RunSpec(model, (BenchmarkSpec("general_qa", local_path=str(path)),), shard_size=count)


async def test_a_runner_that_ends_leaves_its_successor_at_the_turn(opened, tmp_path):
    """The first runner answers the first turn of all, and the second one of every other conversation."""
    first = Counting(
        latency_s=0.0, hold=lambda one: len(one.messages) == 5 or int(one.sample_id[-1]) % 2 < len(one.messages) // 3
    )
    await plan_run(opened, "r1", conversations(tmp_path, 8))
    files = RunFiles(opened.objects).of("r1", "general_qa").of("generate")
    async with running(opened, first, checkpoint_s=0.05):
        await until(lambda: first.answered.total() == 12 and first.in_flight == 8)
        async with asyncio.timeout(15):
            while sum(len(one.turns) for one in await files.read_parts(0, unfinished=True)) < 8 + 4 + 4:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert await files.read_parts(0) == []
    second = Counting(latency_s=0.0)
    async with running(opened, second):
        await until_queued(opened, SCORE, 1)
    done = await files.read_completions(0)
    assert {(one.text, one.turns, one.unfinished) for one in done} == {("3", ("1", "2"), False)}
    # 24 questions in all; 12 were answered by the first runner.
    assert sorted(map(len, second.conversations)) == [3] * 4 + [5] * 8
    assert await files.read_parts(0, unfinished=True) == []


async def test_another_conversation_is_another_question(opened, tmp_path):
    planned = await plan_run(opened, "r1", conversations(tmp_path, 1))
    _, [row] = await RunFiles(opened.objects).of("r1", "general_qa").read_requests(0)
    assert (row.messages[-1].text, row.followups, row.requests()[0].followups) == (TURNS[0], TURNS[1:], TURNS[1:])
    assert planned.requests == 1


async def test_a_model_without_chat_is_refused_them(opened, tmp_path):
    spec = conversations(tmp_path, 1)
    model = ModelSpec("m", url="http://h/v1", kind="completion")
    with pytest.raises(Unimplemented, match="media, tools or several turns, which only a model of kind chat"):
        await plan_run(opened, "r1", RunSpec(model, spec.benchmarks))
