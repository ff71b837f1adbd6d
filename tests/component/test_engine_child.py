"""The process of an engine, spoken to in frames as its endpoint does."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from evalmesh.adapters.engines.engine import EngineOptions, EngineRequest
from evalmesh.adapters.engines.protocol import (
    HEADER,
    Answered,
    Ask,
    Forget,
    Note,
    Open,
    Opened,
    Refused,
    Said,
    Told,
    Working,
    frame,
    said_decoder,
    size_of,
)
from evalmesh.domain.request import GenerationConfig, Request
from evalmesh.process.child import Command
from evalmesh.process.environment import essentials
from evalmesh.process.piped import PipedChild

ECHO = "tests.kit.echo_engine:open_echo"


class _Talk:
    def __init__(self, child: PipedChild) -> None:
        self.child = child

    def tell(self, message: Told) -> None:
        self.child.say(frame(message))

    def ask(self, number: int, prompt: str) -> None:
        self.tell(Ask(number, EngineRequest(Request(f"s{number}", 0, "completion", "d", prompt=prompt), _CONFIG)))

    async def hear(self) -> Said:
        header = await self.child.output.readexactly(HEADER.size)
        return said_decoder.decode(await self.child.output.readexactly(size_of(header)))

    async def answer(self) -> Answered:
        while True:
            said = await self.hear()
            if isinstance(said, Answered):
                return said
            assert isinstance(said, Working)


_CONFIG = GenerationConfig()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return tmp_path / "model"


@pytest.fixture
async def talk() -> AsyncIterator[_Talk]:
    words = [sys.executable, "-m", "evalmesh.adapters.engines.child"]
    environment = {**essentials(), "PYTHONPATH": "services:."}
    child = await PipedChild.start("engine", Command(words, environment))
    yield _Talk(child)
    child.hang_up()
    await child.close(5)


async def test_questions_are_answered_as_the_engine_likes_and_printing_disturbs_nothing(
    talk: _Talk, model: Path
) -> None:
    talk.tell(Open(ECHO, EngineOptions(str(model))))
    opened = await talk.hear()
    assert isinstance(opened, Opened)
    assert opened.capabilities.preferred_batch == 8
    assert len(opened.capabilities.weights) == 64
    for number, prompt in enumerate(["hang", "print noise", "large 3000000", "raise nothing good", "plain"]):
        talk.ask(number, prompt)
    answers = {said.number: said.completion for said in [await talk.answer() for _ in range(4)]}
    assert answers[1].text == "print noise"
    assert len(answers[2].text) == 3_000_000
    assert answers[3].error is not None
    assert answers[3].error.message == "The engine failed with RuntimeError: nothing good"
    assert answers[4].text == "plain"
    assert all(answer.timing is not None for answer in answers.values())


async def test_a_note_is_told_and_what_is_forgotten_is_not_answered(talk: _Talk, model: Path, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    talk.tell(Open(ECHO, EngineOptions(str(model), args={"diary": str(diary)})))
    await talk.hear()
    talk.ask(1, "hang")
    talk.ask(0, "plain")
    assert (await talk.answer()).number == 0
    talk.tell(Forget([1, 77]))
    talk.ask(2, "note half of it")
    assert await talk.hear() == Note("half of it")
    assert (await talk.answer()).number == 2
    assert [line.split()[2:] for line in diary.read_text().splitlines()] == [
        ["ask", "s1#0"],
        ["ask", "s0#0"],
        ["forget", "s1#0"],
        ["ask", "s2#0"],
    ]


async def test_an_engine_that_does_not_open_says_why(talk: _Talk, tmp_path: Path) -> None:
    talk.tell(Open(ECHO, EngineOptions(str(tmp_path))))
    refused = await talk.hear()
    assert refused == Refused(f"The folder {tmp_path} has no config.json, so it holds no model.", "model.model")
    assert await talk.child.ended() == "exit code 0"


async def test_a_process_that_is_left_alone_ends(talk: _Talk, model: Path) -> None:
    talk.tell(Open(ECHO, EngineOptions(str(model))))
    await talk.hear()
    talk.ask(1, "stuck")
    talk.child.hang_up()
    assert (await talk.child.ended()).startswith("SIGKILL")
