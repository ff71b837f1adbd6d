"""Providers behind the package litellm: what is asked goes where it may, and what comes back is as it is elsewhere."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.kit.model_servers import any_server
from tests.kit.simulator import served

from evalmesh.adapters.environment import EnvSecrets
from evalmesh.adapters.model_servers import DeclaredServers
from evalmesh.adapters.openai.endpoint import OpenAIEndpoint, open_openai_endpoint
from evalmesh.adapters.openai.retry import RetryPolicy
from evalmesh.domain.completion import Completion, Usage
from evalmesh.domain.connection import Connection
from evalmesh.domain.content import ToolDefinition
from evalmesh.domain.errors import InvalidInput, NotFound, PermissionDenied, Unauthenticated
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.domain.run import ModelSpec
from evalmesh.domain.work import Pool
from evalmesh.simulator.faults import parse_fault
from evalmesh.simulator.render import Style

pytestmark = [
    pytest.mark.timeout(180),
    # Of what the package itself does with pydantic.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

PROVIDERS = {"openai": "/v1", "anthropic": ""}
SAY = Request("s", 0, "chat", "", (Message("system", "Be brief."), Message("user", "What is 2 + 2?")))
ADD = ToolDefinition("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}})
CALL = replace(SAY, tools=(ADD,), tool_choice="required")
CONFIG = GenerationConfig(max_tokens=200)
FAST = RetryPolicy(base_delay_s=0.01, max_retry_after_s=0.01)


def model_of(url: str, provider: str = "openai", **more) -> ModelSpec:
    base = url.removesuffix("/v1") + PROVIDERS[provider]
    return ModelSpec(f"{provider}/simulated", engine="litellm", url=base, **{"key_ref": "env:KEY", **more})


@asynccontextmanager
async def opened(model: ModelSpec) -> AsyncIterator[OpenAIEndpoint]:
    endpoint = open_openai_endpoint(Pool("p", model), any_server({"KEY": "sesame"}, "env:KEY"), FAST)
    try:
        yield endpoint
    finally:
        await endpoint.close()


async def ask(model: ModelSpec, request: Request = SAY, config: GenerationConfig = CONFIG) -> Completion:
    async with opened(model) as endpoint:
        return await endpoint.generate(request, config)


def alike(completion: Completion) -> Completion:
    usage = completion.usage
    assert usage is not None
    calls = tuple(replace(call, arguments=json.dumps(json.loads(call.arguments))) for call in completion.tool_calls)
    return replace(completion, timing=None, tool_calls=calls, usage=Usage(usage.input_tokens, usage.output_tokens))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("request_", [SAY, CALL], ids=["text", "call"])
async def test_an_answer_is_what_it_is_through_the_other_doors(request_, streamed):
    async with served(style=Style(reasoning_content=True), api_key="sesame") as (_, url, _):
        direct = ModelSpec("simulated", url=url, stream=streamed, key_ref="env:KEY")
        expected = alike(await ask(direct, request_))
        for provider in PROVIDERS:
            found = alike(await ask(model_of(url, provider, stream=streamed), request_))
            assert found == expected


@pytest.mark.parametrize(
    ("fault", "error_class", "tries"),
    [("429:tries=1", None, 2), ("503:tries=1", None, 2), ("400:every=1", "bad_request", 1), ("reset:tries=1", None, 2)],
)
async def test_trouble_is_met_as_elsewhere(fault, error_class, tries):
    async with served(faults=(parse_fault(fault),)) as (_, url, _):
        completion = await ask(model_of(url, max_tries=3))
    found = None if completion.error is None else completion.error.error_class
    assert (found, completion.tries) == (error_class, tries)


async def test_what_is_wrong_is_said_before_a_run():
    async with served(api_key="sesame", models=("simulated",)) as (_, url, _):
        async with opened(model_of(url)) as endpoint:
            assert await endpoint.check("chat", CONFIG) == []
        async with opened(model_of(url, key_ref="")) as endpoint:
            with pytest.raises(Unauthenticated, match="without a key"):
                await endpoint.check()
        async with opened(replace(model_of(url), name="openai/other")) as endpoint:
            with pytest.raises(NotFound, match="other"):
                await endpoint.check()


async def test_no_key_of_the_environment_goes_where_it_was_not_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    async with served(api_key="sesame") as (model, url, _):
        completion = await ask(model_of(url, key_ref=""))
        assert completion.error is not None
        assert completion.error.error_class == "auth"
        assert model.stats.unauthorized


async def test_options_of_a_request_steer_nothing_but_the_request():
    async with served() as (here, url, _), served() as (there, elsewhere, _):
        config = replace(CONFIG, extra_body={"api_base": elsewhere, "base_url": elsewhere, "mock_response": "No."})
        completion = await ask(model_of(url), config=config)
    assert completion.error is None
    assert completion.text != "No."
    assert here.stats.answered
    assert not there.stats.requests


async def test_vectors_come_through_it():
    async with served() as (_, url, _):
        model = model_of(url, kind="embedding")
        completion = await ask(model, Request("e", 0, "embedding", "", inputs=("a", "b")), GenerationConfig())
    assert completion.error is None
    assert len(completion.embeddings) == 2


def open_with(model: ModelSpec, servers: DeclaredServers) -> OpenAIEndpoint:
    return open_openai_endpoint(Pool("p", model), servers)


def test_keys_go_to_the_provider_that_a_connection_names():
    model = ModelSpec("anthropic/claude", engine="litellm", key_ref="env:KEY")
    keys = EnvSecrets({"KEY": "sesame"})
    bound = Connection("a", ("https://anthropic.litellm",), "env:KEY")
    other = Connection("a", ("https://openai.litellm",), "env:KEY")
    assert open_with(model, DeclaredServers((bound,), keys)).capabilities.kinds == {"chat"}
    with pytest.raises(PermissionDenied, match=r"anthropic\.litellm"):
        open_with(model, DeclaredServers((other,), keys))


def test_what_cannot_be_asked_is_refused_when_it_is_opened():
    anywhere = any_server()
    with pytest.raises(InvalidInput, match="own address only"):
        open_with(ModelSpec("vertex_ai/gemini", engine="litellm", url="http://127.0.0.1:1"), anywhere)
    with pytest.raises(InvalidInput, match="names no provider"):
        open_with(ModelSpec("gpt", engine="litellm"), anywhere)
    restricted = DeclaredServers((), EnvSecrets({}), restricted=True)
    with pytest.raises(InvalidInput, match="connects by itself"):
        open_with(ModelSpec("openai/gpt", engine="litellm"), restricted)


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setattr(sys, "path", [one for one in sys.path if not (Path(one) / "litellm").is_dir()])
    monkeypatch.delitem(sys.modules, "litellm", raising=False)
    with pytest.raises(InvalidInput, match=r"evalmesh\[litellm\]"):
        open_with(ModelSpec("openai/gpt", engine="litellm"), any_server())
