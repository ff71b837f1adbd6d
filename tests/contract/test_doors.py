"""One request, asked through every door of one server: what comes back is the same."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from tests.kit.model_servers import any_server

from evalmesh.adapters.openai.endpoint import open_openai_endpoint
from evalmesh.adapters.openai.retry import RetryPolicy
from evalmesh.domain.completion import Completion, Usage
from evalmesh.domain.content import ContentPart, ToolCall, ToolDefinition
from evalmesh.domain.needs import Capabilities
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.domain.run import Engine, ModelSpec
from evalmesh.domain.work import Pool
from evalmesh.ports.endpoint import Endpoint
from evalmesh.simulator.faults import parse_fault
from evalmesh.simulator.render import Style
from evalmesh.simulator.server import Simulator
from evalmesh.simulator.settings import SimulatorSettings

DOORS: dict[str, tuple[Engine, str]] = {
    "chat": ("openai", "/v1"),
    "responses": ("openai", "/v1/responses"),
    "messages": ("anthropic", ""),
}
ADD = ToolDefinition(
    "add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}, "note": {"type": "string"}}}
)
SAY = Message("user", "What is 2 + 2?")
CALLED = (ToolCall("call-1", "add", '{"a":2}'), ToolCall("call-2", "add", '{"a":3}'))
ASKED = {
    "plain": Request("plain", 0, "chat", "", (Message("system", "Be brief."), SAY)),
    "turns": Request("turns", 0, "chat", "", (SAY, Message("assistant", "4"), Message("user", "And 3 + 3?"))),
    "called": Request("called", 0, "chat", "", (SAY,), tools=(ADD,), tool_choice="required"),
    "named": Request("named", 0, "chat", "", (SAY,), tools=(ADD,), tool_choice="add"),
    "results": Request(
        "results",
        0,
        "chat",
        "",
        (
            SAY,
            Message("assistant", "", CALLED),
            Message("tool", "2", tool_call_id="call-1"),
            Message("tool", "3", tool_call_id="call-2"),
            Message("user", "So?"),
        ),
        tools=(ADD,),
    ),
    "parts": Request("parts", 0, "chat", "", (Message("user", (ContentPart("text", "What is 2 + 2?"),)),)),
}
CONFIGS = {"free": GenerationConfig(max_tokens=400), "cut": GenerationConfig(max_tokens=3)}


@asynccontextmanager
async def served(**settings: object) -> AsyncIterator[str]:
    simulator = Simulator(SimulatorSettings(**settings), known=())
    url = await simulator.start()
    try:
        yield url.removesuffix("/v1")
    finally:
        await simulator.stop()


@asynccontextmanager
async def opened(base: str, door: str, **more: object) -> AsyncIterator[Endpoint]:
    engine, path = DOORS[door]
    model = ModelSpec("simulated", engine=engine, url=base + path, **more)
    policy = RetryPolicy(base_delay_s=0.01, max_retry_after_s=0.01)
    endpoint = open_openai_endpoint(Pool("p", model), any_server({"KEY": "sesame"}, "env:KEY"), policy)
    try:
        yield endpoint
    finally:
        await endpoint.close()


async def ask(base: str, door: str, request: Request, config: GenerationConfig, **more: object) -> Completion:
    async with opened(base, door, **more) as endpoint:
        return await endpoint.generate(request, config)


def alike(completion: Completion) -> Completion:
    """Without what may differ: times, and counts that only some doors tell."""
    usage = completion.usage
    assert usage is not None
    same = Usage(usage.input_tokens, usage.output_tokens, usage.reasoning_tokens or 0, usage.cached_tokens or 0)
    return replace(completion, timing=None, usage=same)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("asked", "config"), list(itertools.product(ASKED, CONFIGS)))
async def test_the_same_request_brings_the_same_completion_through_every_door(asked, config, streamed):
    style = Style(reasoning_content=True, awkwardness=1.0)
    async with served(style=style, cached_share=0.25) as base:
        found = {door: alike(await ask(base, door, ASKED[asked], CONFIGS[config], stream=streamed)) for door in DOORS}
    assert found["chat"].error is None
    assert found["responses"] == found["chat"]
    assert found["messages"] == found["chat"]
    if asked in {"called", "named"}:
        assert [call.name for call in found["chat"].tool_calls] == ["add"]
        assert found["chat"].finish_reason == "tool_calls"
    elif config == "cut":
        assert found["chat"].finish_reason == "length"
    else:
        assert found["chat"].text
        assert found["chat"].reasoning


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("stop", [" benchmark", "\n", " "], ids=["word", "line", "blank"])
async def test_stop_sequences_end_the_answer_at_the_same_place(stop, streamed):
    config = GenerationConfig(max_tokens=400, stop=(stop,))
    async with served(style=Style(awkwardness=0.0)) as base:
        found = {door: await ask(base, door, ASKED["plain"], config, stream=streamed) for door in DOORS}
    assert len({(one.text, one.finish_reason) for one in found.values()}) == 1, found
    assert stop not in found["chat"].text


FAULTS = {
    "429:tries=1": (None, 2),
    "500:tries=1": (None, 2),
    "529:tries=1": (None, 2),
    "503:tries=1": (None, 2),
    "404:every=1": ("bad_request", 1),
    "403:every=1": ("auth", 1),
    "413:every=1": ("bad_request", 1),
    "reset:tries=1": (None, 2),
    "cut:tries=1": (None, 2),
    "truncated:tries=1": (None, 2),
    "malformed:tries=1": (None, 2),
    "error_event:tries=1": (None, 2),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_trouble_is_met_alike(fault, streamed):
    error_class, tries = FAULTS[fault]
    for door in DOORS:
        if (fault, streamed, door) == ("truncated:tries=1", False, "chat"):
            tries = 1  # a chat in one piece ends with its JSON, whatever that leaves out
        # Asked anew for each door: a fault of the first try is over for whoever asks again.
        async with served(faults=(parse_fault(fault),)) as base:
            completion = await ask(base, door, ASKED["plain"], CONFIGS["free"], stream=streamed, max_tries=3)
        found = None if completion.error is None else completion.error.error_class
        assert (door, found, completion.tries) == (door, error_class, tries)
        error_class, tries = FAULTS[fault]


@pytest.mark.parametrize("door", DOORS)
async def test_the_key_opens_every_door_and_a_wrong_one_none(door):
    async with served(api_key="sesame") as base:
        with_key = await ask(base, door, ASKED["plain"], CONFIGS["free"], key_ref="env:KEY")
        without = await ask(base, door, ASKED["plain"], CONFIGS["free"])
        async with opened(base, door, key_ref="env:KEY") as endpoint:
            assert await endpoint.check() == []
    assert with_key.error is None
    assert without.error is not None
    assert without.error.error_class == "auth"
    assert "sesame" not in without.error.message


async def test_what_a_door_cannot_carry_is_known_before_anything_is_asked():
    found: dict[str, Capabilities] = {}
    async with served() as base:
        for door in DOORS:
            async with opened(base, door) as endpoint:
                found[door] = endpoint.capabilities
    assert found["chat"].modalities is None  # depends on what is served
    assert found["responses"].modalities == found["messages"].modalities == {"text", "image"}
    assert found["messages"].kinds == {"chat"}
    assert found["messages"].logprobs is False
