"""Both clients asking a server with habits: the endpoint of an evaluation, and the engine of a load test."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from evalmesh.adapters.openai.endpoint import open_openai_endpoint
from evalmesh.domain.completion import Completion
from evalmesh.domain.load_test import LoadLevel, LoadTarget, Transport
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.domain.run import ModelSpec
from evalmesh.domain.work import Pool
from evalmesh.load.measure.records import Outcome
from tests.kit.engine import RawServer, Wire, conversation_frame, end_frame, engine
from tests.kit.habits.what import Habit, sound, sound_json
from tests.kit.model_servers import any_server

_AGAIN = "go on"
"""The second turn of a conversation, which tells the server what was read of its first answer."""


class HabitServer(RawServer):
    """Answers a question that is the name of a habit as the habit says."""

    def __init__(self, habits: Iterable[Habit]) -> None:
        super().__init__(self._reply)
        self._habits = {habit.name: habit for habit in habits}
        self.heard: dict[str, str] = {}
        """What was said to be its answer, by habit."""

    async def _reply(self, wire: Wire, data: bytes) -> None:
        body = json.loads(data)
        said = [message["content"] for message in body["messages"]]
        streamed = body.get("stream", False)
        if said[-1] == _AGAIN or said[0] not in self._habits:
            # The second turn, or what an endpoint asks to see whether anybody is there.
            self.heard.update({said[0]: said[1]} if said[-1] == _AGAIN else {})
            reply = sound() if streamed else sound_json()
        else:
            found = self._habits[said[0]].reply(streamed=streamed)
            assert found is not None
            reply = found
        await wire.send(b"".join(reply.packets()) if not reply.cut else b"", *(reply.packets() if reply.cut else ()))
        if reply.frame == "close":
            wire.close()


@dataclass(frozen=True)
class Measured:
    """What a load test makes of an answer."""

    outcome: Outcome
    text: str | None
    """Of an answer that the conversation went on with."""
    record: dict[str, Any]


def evaluated(habits: Sequence[Habit], *, streamed: bool) -> dict[str, Completion]:
    """By habit; each is asked once."""
    with HabitServer(habits) as server:
        model = ModelSpec("m", url=server.url, stream=streamed, max_tries=1, concurrency=16)
        return asyncio.run(_evaluate(model, [habit.name for habit in habits]))


async def _evaluate(model: ModelSpec, names: Sequence[str]) -> dict[str, Completion]:
    return dict(zip(names, await asyncio.gather(*(_ask(model, name) for name in names)), strict=True))


async def _ask(model: ModelSpec, name: str) -> Completion:
    """On an endpoint of its own: a refused key, or a server that asks for less, is remembered."""
    endpoint = open_openai_endpoint(Pool("p", model), any_server({}))
    try:
        return await endpoint.generate(
            Request(name, 0, "chat", "d", messages=(Message("user", name),)), GenerationConfig()
        )
    finally:
        await endpoint.close()


def measured(habits: Sequence[Habit], transport: Transport, *, streamed: bool) -> dict[str, Measured]:
    """By habit; those that bring an answer are asked to go on."""
    frames = [conversation_frame(at, [one.name, _AGAIN], stream=streamed) for at, one in enumerate(habits)]
    with HabitServer(habits) as server, engine() as load:
        load.set_up(LoadTarget(server.url, "m", stream=streamed, transport=transport))
        played = load.play([*frames, end_frame(0)], LoadLevel(parallel=8, number=len(frames)))
    first = {one["conversation"]: one for one in played.records if one["turn"] == 0}
    return {
        habit.name: Measured(Outcome(first[at]["outcome"]), server.heard.get(habit.name), first[at])
        for at, habit in enumerate(habits)
    }
