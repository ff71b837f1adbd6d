"""How the endpoint of an evaluation gets to its server: through proxies, with private authorities, to other calls."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.kit.engine import RawServer, plain
from tests.kit.load_trouble import authority, free_port
from tests.kit.model_servers import any_server

from evalmesh.adapters.openai.endpoint import OpenAIEndpoint, open_openai_endpoint
from evalmesh.domain.content import ToolCall, ToolDefinition
from evalmesh.domain.errors import InvalidInput, Unavailable
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.domain.run import ModelSpec
from evalmesh.domain.work import Pool

BEHIND = "http://model.invalid/v1"
"""Only a proxy could know this host."""
ASK = Request("s", 0, "chat", "d", messages=(Message("user", "2+2?"),))
ANSWER = {"choices": [{"index": 0, "message": {"content": "4"}, "finish_reason": "stop"}]}


async def answer(wire, _):
    await wire.send(plain("200 OK", json.dumps(ANSWER).encode()))


def questions(server: RawServer) -> list[bytes]:
    """Bodies of questions, without the look that comes before the first."""
    return [body for body in server.bodies if b'"Hi"' not in body]


@asynccontextmanager
async def opened(url: str, **spec) -> AsyncIterator[OpenAIEndpoint]:
    endpoint = open_openai_endpoint(
        Pool("p", ModelSpec("m", url=url, max_tries=1, **spec)), any_server({"KEY": "k-123"})
    )
    try:
        yield endpoint
    finally:
        await endpoint.close()


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
async def test_requests_and_checks_go_through_the_proxy_of_the_environment(variable, monkeypatch):
    with RawServer(answer) as proxy:
        monkeypatch.setenv(variable, proxy.url.partition("/v1")[0])
        async with opened(BEHIND) as endpoint:
            await endpoint.check()
            completion = await endpoint.generate(ASK, GenerationConfig())
    assert (completion.error, completion.text) == (None, "4")
    assert len(questions(proxy)) == 1


async def test_a_proxy_that_is_away_is_told_from_a_server_that_is(monkeypatch):
    port = free_port()
    monkeypatch.setenv("http_proxy", f"http://me:pw-of-mine@127.0.0.1:{port}")
    async with opened(BEHIND) as endpoint:
        with pytest.raises(Unavailable, match=f"the proxy of the environment, .*{port}.*no_proxy") as caught:
            await endpoint.check()
    assert "pw-of-mine" not in caught.value.message


async def test_this_machines_own_servers_are_asked_directly(monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with RawServer(answer) as server:
        async with opened(server.url) as endpoint:
            assert (await endpoint.generate(ASK, GenerationConfig())).text == "4"


async def test_private_authorities(tmp_path, monkeypatch):
    one = authority(tmp_path)
    with RawServer(answer, ssl=one.server("own", "127.0.0.1")) as server:
        async with opened(server.url) as endpoint:
            with pytest.raises(Unavailable, match=r"not trusted.*--ca-file.*--insecure") as caught:
                await endpoint.check()
        assert "_ssl.c" not in caught.value.message
        for trusting in ({"ca_file": str(one.ca_file)}, {"verify_tls": False}, {"args": {"verify_tls": False}}):
            async with opened(server.url, **trusting) as endpoint:
                assert (await endpoint.generate(ASK, GenerationConfig())).text == "4"
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(one.ca_file))
        async with opened(server.url) as endpoint:
            assert (await endpoint.generate(ASK, GenerationConfig())).text == "4"
    with pytest.raises(InvalidInput, match=r"model\.ca_file"):
        async with opened(server.url, ca_file=str(tmp_path / "nowhere.pem")):
            pass


async def test_the_responses_api_is_asked_where_the_address_names_it():
    response = {
        "status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "4"}]}],
        "usage": {"input_tokens": 3, "output_tokens": 1},
    }

    async def respond(wire, _):
        await wire.send(plain("200 OK", json.dumps(response).encode()))

    add = ToolDefinition("add", "Adds.", {"type": "object"})
    call = ToolCall("c1", "add", "{}")
    turns = (Message("user", "Add."), Message("assistant", "", (call,)), Message("tool", "2", tool_call_id="c1"))
    asked = Request("s", 0, "chat", "d", messages=turns, tools=(add,), tool_choice="add")
    config = GenerationConfig(max_tokens=9, reasoning_effort="low", extra_body={"store": False})
    with RawServer(respond) as server:
        async with opened(server.url.replace("/chat/completions", "/responses")) as endpoint:
            completion = await endpoint.generate(asked, config)
    assert (completion.text, completion.finish_reason, completion.usage.output_tokens) == ("4", "stop", 1)
    assert json.loads(questions(server)[0]) == {
        "model": "m",
        "max_output_tokens": 9,
        "reasoning": {"effort": "low"},
        "store": False,
        "input": [
            {"role": "user", "content": "Add."},
            {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "2"},
        ],
        "tools": [{"type": "function", "name": "add", "description": "Adds.", "parameters": {"type": "object"}}],
        "tool_choice": {"type": "function", "name": "add"},
    }


async def test_null_removes_what_would_be_sent():
    config = GenerationConfig(
        max_tokens=9, temperature=0.0, seed=1, extra_body={"max_tokens": None, "seed": None, "stream_options": None}
    )
    with RawServer(answer) as server:
        async with opened(server.url, stream=True, args={"extra_body": {"temperature": None}}) as endpoint:
            await endpoint.generate(ASK, config)
    assert json.loads(questions(server)[0]).keys() == {"model", "messages", "stream"}


async def test_newer_limits_take_the_place_of_the_old_one():
    config = GenerationConfig(max_tokens=9, extra_body={"max_completion_tokens": 7})
    with RawServer(answer) as server:
        async with opened(server.url) as endpoint:
            await endpoint.generate(ASK, config)
    assert json.loads(questions(server)[0]).keys() == {"model", "messages", "max_completion_tokens"}
