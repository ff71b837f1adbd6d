"""The pre-flight of an endpoint: one small question decides, the list of models is only a help."""

import asyncio
from dataclasses import replace

import pytest
from tests.component.test_openai_endpoint import (
    ANSWER,
    CONFIG,
    FAST,
    KEY,
    Server,
    chat,
    closed_port,
    is_look,
    listening,
    model_list,
    ok,
    opened,
    says,
    server,
    stall,
    status,
)
from tests.kit.model_servers import any_server

from evalmesh.adapters.openai.check import MOST_TOKENS
from evalmesh.adapters.openai.endpoint import open_openai_endpoint
from evalmesh.domain.errors import InvalidInput, NotFound, PermissionDenied, Unauthenticated, Unavailable
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import ModelSpec
from evalmesh.domain.work import Pool

__all__ = ["server"]  # the fixture


async def test_one_small_question_is_enough_whatever_the_list_says(server):
    async with opened(server.url) as endpoint:
        for models in (ok, status(404), status(405), status(503), stall, says("{}"), says("<html>", "text/html")):
            server.models = models
            assert await endpoint.check() == []
        server.models = model_list("m:latest")
        assert await endpoint.check() == []
    assert len(server.bodies) == 8
    assert {body["max_tokens"] for body in server.bodies} == {MOST_TOKENS}


async def test_the_question_has_the_kind_and_the_options_of_the_run(server):
    config = GenerationConfig(temperature=0.3, max_tokens=8, extra_body={"min_p": 0.1})
    server.script = [says('{"choices": [{"text": "x", "index": 0, "finish_reason": "stop"}]}')]
    async with opened(server.url, kind="completion") as endpoint:
        await endpoint.check("completion", config)
        with pytest.raises(InvalidInput, match="echo"):
            await endpoint.check("loglikelihood", config)
    first = server.bodies[0]
    assert (first["temperature"], first["max_tokens"], first["min_p"], first["prompt"]) == (0.3, 8, 0.1, "Hi")
    assert server.bodies[1]["echo"] is True
    assert server.requests[0].path == "/v1/completions"


async def test_a_server_that_refuses_short_answers_is_asked_as_the_run_would_ask(server):
    server.script = [status(400, "max_tokens must be at least 1024"), ok]
    async with opened(server.url) as endpoint:
        assert await endpoint.check("chat", GenerationConfig(max_tokens=4096)) == []
    assert [body["max_tokens"] for body in server.bodies] == [MOST_TOKENS, 4096]


async def test_check_says_what_to_do_when_nothing_listens():
    url = f"http://127.0.0.1:{closed_port()}/v1"
    async with opened(url) as endpoint:
        with pytest.raises(Unavailable, match=r"--api-url.*refused") as caught:
            await endpoint.check()
    assert url in caught.value.message
    assert caught.value.details["field"] == "model.url"


async def test_check_tells_dns_and_tls_apart(server):
    async with opened("http://no-such-host.invalid/v1") as endpoint:
        with pytest.raises(Unavailable, match="DNS"):
            await endpoint.check()
    async with opened(server.url.replace("http:", "https:")) as endpoint:
        with pytest.raises(Unavailable, match=r"TLS.*http://"):
            await endpoint.check()


@pytest.mark.parametrize("code", [500, 502, 503, 504])
async def test_a_server_that_is_not_ready_is_asked_twice(server, code):
    server.script = [status(code, "loading model")]
    async with opened(server.url) as endpoint:
        with pytest.raises(Unavailable, match="loading model"):
            await endpoint.check()
        assert len(server.bodies) == 2
        server.script = [status(code)] * 3 + [ok]
        assert await endpoint.check() == []


async def test_a_slow_answer_is_no_refusal_where_the_list_is_there(server):
    server.script = [stall]
    async with opened(server.url, replace(FAST, slow_answer_s=0.1, probe_timeout_s=0.6)) as endpoint:
        [note] = await endpoint.check()
        assert "has not answered a small request" in note
        server.models = stall
        with pytest.raises(Unavailable, match="No complete answer"):
            await endpoint.check()


@pytest.mark.parametrize(
    ("code", "key_ref", "error", "words"),
    [
        (401, "env:KEY", Unauthenticated, "the key of 'env:KEY' (--api-key)"),
        (403, "env:KEY", PermissionDenied, "the key of 'env:KEY' (--api-key)"),
        (401, "env:EVALMESH_API_KEY", Unauthenticated, "the key it was given (--api-key;"),
        (401, "", Unauthenticated, "a request without a key (give one with --api-key)"),
    ],
)
async def test_a_refused_key_is_called_what_the_user_called_it(server, code, key_ref, error, words):
    """A key that was typed is handed on as `env:EVALMESH_API_KEY`, a name that nobody typed."""

    class Keys:
        def resolve(self, ref: str) -> str:
            return KEY if ref else ""

    server.script = [status(code, f"invalid key {KEY if key_ref else ''}")]
    model = ModelSpec("m", url=server.url, key_ref=key_ref)
    endpoint = open_openai_endpoint(Pool("p", model), any_server(Keys(), "env:KEY", "env:EVALMESH_API_KEY"), FAST)
    with pytest.raises(error) as caught:
        await endpoint.check()
    await endpoint.close()
    assert words in caught.value.message
    assert "env:EVALMESH_API_KEY" not in caught.value.message
    assert KEY not in caught.value.message
    assert len(server.bodies) == 1


async def test_a_model_that_is_not_there_is_named_with_those_that_are(server):
    server.models = model_list("llama-8b", "llama-70b")
    server.script = [status(404, "The model does not exist", code="model_not_found")]
    async with opened(server.url, name="lama-8b") as endpoint:
        with pytest.raises(NotFound, match=r"'lama-8b' \(--model\).*llama-8b, llama-70b"):
            await endpoint.check()


async def test_a_server_that_takes_any_name_is_noted_with_what_it_lists(server):
    server.models = model_list("simulated")
    async with opened(server.url, name="my-model") as endpoint:
        [note] = await endpoint.check()
    assert "'my-model' (--model)" in note
    assert "simulated" in note


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (status(404, "no such path"), NotFound, "--api-url"),
        (status(405), NotFound, "--api-url"),
        (status(307, headers={"Location": "http://elsewhere/v1"}), InvalidInput, "elsewhere"),
        (status(400, "unknown key min_p"), InvalidInput, "unknown key min_p"),
        (says("<html>log in</html>", "text/html"), InvalidInput, "no answer of an OpenAI-compatible server"),
    ],
)
async def test_what_cannot_work_is_refused_with_the_servers_words(server, answer, error, words):
    server.script = [answer]
    async with opened(server.url) as endpoint:
        with pytest.raises(error, match=words):
            await endpoint.check()


async def test_a_busy_server_is_noted_and_a_spent_quota_refused(server):
    server.script = [status(429, "slow down", headers={"Retry-After": "86400"})]
    async with opened(server.url) as endpoint:
        [note] = await endpoint.check()
        assert "busy" in note
        server.script = [status(429, "spent", code="insufficient_quota")]
        with pytest.raises(Unavailable, match="spent"):
            await endpoint.check()


async def test_a_pool_that_opens_looks_before_it_asks():
    """A load is not thrown at a server that is not there: one question waits for it."""
    server = Server()
    async with listening(server):
        url = server.url
    async with opened(url, replace(FAST, proven_s=60.0)) as endpoint:
        tasks = [asyncio.create_task(endpoint.generate(chat(n), CONFIG)) for n in range(20)]
        async with asyncio.timeout(10):
            while not endpoint.trouble:  # noqa: ASYNC110  (it has no event)
                await asyncio.sleep(0.01)
        assert endpoint.load.in_flight == 0
        async with listening(server):
            completions = await asyncio.gather(*tasks)
    assert [one.text for one in completions] == [ANSWER["choices"][0]["message"]["content"]] * 20
    assert sum(map(is_look, server.bodies)) == 1
    assert max(one.tries for one in completions) == 1
