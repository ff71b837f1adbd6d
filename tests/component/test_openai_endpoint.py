"""The OpenAI endpoint against a real HTTP server that fails in every way a server can."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from email.utils import formatdate
from random import Random

import pytest
from aiohttp import web
from tests.kit.model_servers import any_server

from evalmesh.adapters.environment import EnvSecrets
from evalmesh.adapters.openai.check import MOST_TOKENS
from evalmesh.adapters.openai.endpoint import OpenAIEndpoint, open_openai_endpoint
from evalmesh.adapters.openai.retry import RetryPolicy
from evalmesh.domain.completion import ContinuationScore
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.domain.run import ModelSpec
from evalmesh.domain.work import Pool
from evalmesh.ports.environment import Secrets

KEY = "sk-very-secret-0123456789"
CONFIG = GenerationConfig(max_tokens=32, temperature=0.0)
FAST = RetryPolicy(
    base_delay_s=0.01,
    max_delay_s=0.05,
    max_probe_delay_s=0.05,
    probe_timeout_s=0.3,
    decrease_interval_s=0.05,
    list_timeout_s=0.5,
    proven_s=float("inf"),
)
"""With the last: no look before the first request."""
ANSWER = {
    "id": "x",
    "new_field": {"deep": [1]},
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "four", "refusal": None}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": None},
}

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers the n-th request with the n-th step of its script, the last one for ever after."""

    def __init__(self) -> None:
        self.script: list[Behaviour] = [ok]
        self.bodies: list[dict] = []
        self.requests: list[web.BaseRequest] = []
        self.times: list[float] = []
        self.models: Behaviour = model_list("m")
        self.in_flight = 0
        self.most_in_flight = 0
        self.aborted = asyncio.Event()
        self.arrived = asyncio.Condition()
        self.client_ports: set[int] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def received(self, n: int) -> None:
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.bodies) >= n)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/models"):
            return await self.models(request)
        self.times.append(time.monotonic())
        self.requests.append(request)
        self.client_ports.add(request.transport.get_extra_info("peername")[1])
        self.bodies.append(json.loads(await request.content.read()))
        async with self.arrived:
            self.arrived.notify_all()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self.script[min(len(self.bodies), len(self.script)) - 1](request)
        except asyncio.CancelledError:
            self.aborted.set()
            raise
        finally:
            self.in_flight -= 1


@asynccontextmanager
async def listening(server: Server) -> AsyncIterator[None]:
    runner = web.ServerRunner(web.Server(server.handle, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", server.port, reuse_address=True)
    await site.start()
    server.port = site._server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with listening(server):
        yield server


class Keys:
    def resolve(self, ref: str) -> str:
        if ref in {"env:KEY", "secret:models/key"}:
            return KEY
        if not ref:
            return ""
        raise NotFound(f"No key {ref}.")


def holds(key: str) -> Behaviour:
    """Takes this key and no other."""

    async def behave(request: web.Request) -> web.StreamResponse:
        good = request.headers.get("Authorization") == f"Bearer {key}"
        return web.json_response(ANSWER) if good else web.json_response({"error": "no such key"}, status=401)

    return behave


@asynccontextmanager
async def opened(
    url: str, policy: RetryPolicy = FAST, keys: Secrets | None = None, **spec
) -> AsyncIterator[OpenAIEndpoint]:
    model = ModelSpec(**{"name": "m", "url": url, "key_ref": "env:KEY", "concurrency": 8, "max_tries": 4} | spec)
    servers = any_server(keys or Keys(), "env:KEY", "secret:models/key")
    endpoint = open_openai_endpoint(Pool("p", model), servers, policy, Random(7))
    try:
        yield endpoint
    finally:
        await endpoint.close()


def chat(n: int = 0, repeat: int = 0) -> Request:
    return Request(f"s/{n}", repeat, "chat", f"digest{n}", messages=(Message("user", "2+2?"),))


def is_look(body: dict) -> bool:
    """Whether it is the small question of the endpoint itself, and no request of a run."""
    return body.get("max_tokens") == MOST_TOKENS


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# What the server does


async def ok(_: web.Request) -> web.StreamResponse:
    return web.json_response(ANSWER)


async def stall(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.json_response(ANSWER)


def slow(delay_s: float) -> Behaviour:
    async def behave(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(delay_s)
        return web.json_response(ANSWER)

    return behave


def model_list(*names: str) -> Behaviour:
    async def behave(_: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": [{"id": name} for name in names]})

    return behave


def status(http_status: int, message: str = "no", headers: dict[str, str] | None = None, **error) -> Behaviour:
    async def behave(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": message} | error}, status=http_status, headers=headers)

    return behave


def says(text: str, content_type: str = "application/json") -> Behaviour:
    async def behave(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type=content_type)

    return behave


def streams(*pieces: bytes, abort: bool = False, gap_s: float = 0.0) -> Behaviour:
    async def behave(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(gap_s)
        if abort:
            request.transport.abort()
        return response

    return behave


async def reset(request: web.Request) -> web.StreamResponse:
    request.transport.abort()
    return web.Response()


async def reset_mid_body(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "500"})
    await response.prepare(request)
    await response.write(b'{"choices": [{"index": 0, "mess')
    await asyncio.sleep(0.01)
    request.transport.abort()
    return response


def piece(text: str | None = None, finish: str | None = None, **delta) -> bytes:
    content = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": content | delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


ROLE = piece("", role="assistant")
DONE = b"data: [DONE]\n\n"
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}\n\n'


# Answers


async def test_an_answer_becomes_a_completion(server):
    async with opened(server.url) as endpoint:
        before = time.time()
        completion = await endpoint.generate(chat(3, repeat=1), CONFIG)
    assert (completion.request_id, completion.digest) == ("s/3#1", "digest3")
    assert (completion.text, completion.finish_reason, completion.error) == ("four", "stop", None)
    assert (completion.usage.input_tokens, completion.usage.output_tokens) == (7, 2)
    assert completion.tries == 1
    assert before - 1 < completion.timing.start_time < time.time() + 1
    assert 0 < completion.timing.latency_s < 5
    assert completion.timing.ttft_s is None
    assert server.requests[0].path == "/v1/chat/completions"
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_every_option_arrives_under_its_name(server):
    config = GenerationConfig(
        max_tokens=10,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        repetition_penalty=1.1,
        stop=("\n", "Q:"),
        seed=100,
        reasoning_effort="low",
        extra_body={"chat_template_kwargs": {"enable_thinking": False}, "min_p": 0.1},
    )
    args = {"extra_body": {"min_p": 0.9, "chat_template_kwargs": {"a": 1}, "user": "eval"}}
    async with opened(server.url, args=args, headers={"X-Team": "blue"}) as endpoint:
        await endpoint.generate(chat(repeat=2), config)
        await endpoint.generate(chat(), GenerationConfig())
    assert server.bodies[0] == {
        "model": "m",
        "messages": [{"role": "user", "content": "2+2?"}],
        "max_tokens": 10,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "repetition_penalty": 1.1,
        "stop": ["\n", "Q:"],
        "seed": 102,
        "reasoning_effort": "low",
        "chat_template_kwargs": {"a": 1, "enable_thinking": False},
        "min_p": 0.1,
        "user": "eval",
    }
    assert "seed" not in server.bodies[1]
    assert "max_tokens" not in server.bodies[1]
    assert server.requests[0].headers["X-Team"] == "blue"


async def test_legacy_completions(server):
    server.script = [says('{"choices": [{"text": " Paris", "index": 0, "finish_reason": "length"}]}')]
    request = Request("s/0", 0, "completion", "d", prompt="The capital of France is")
    async with opened(server.url, kind="completion") as endpoint:
        completion = await endpoint.generate(request, CONFIG)
        refused = await endpoint.generate(chat(), CONFIG)
    assert (completion.text, completion.finish_reason) == (" Paris", "length")
    assert server.requests[0].path == "/v1/completions"
    assert server.bodies[0] == {
        "model": "m",
        "max_tokens": 32,
        "temperature": 0.0,
        "prompt": "The capital of France is",
    }
    assert (refused.error.error_class, refused.tries, len(server.bodies)) == ("bad_request", 0, 1)


@pytest.mark.parametrize("count", [2**64 - 1, 2**63, 2**53 + 1, -1, -5, 10**30])
async def test_a_count_that_is_none_is_absent_and_the_answer_stays(server, count):
    usage = {"prompt_tokens": count, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": count}}
    server.script = [says(json.dumps(ANSWER | {"usage": usage}))]
    async with opened(server.url) as endpoint:
        completion = await endpoint.generate(chat(), CONFIG)
    assert (completion.text, completion.error) == ("four", None)
    assert (completion.usage.input_tokens, completion.usage.output_tokens) == (None, 2)
    assert completion.usage.reasoning_tokens is None


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_reasoning_and_token_details(server, name):
    message = {"content": None, name: "Let me think"}
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 6},
    }
    server.script = [says(json.dumps({"choices": [{"message": message, "finish_reason": "length"}], "usage": usage}))]
    async with opened(server.url) as endpoint:
        completion = await endpoint.generate(chat(), CONFIG)
    assert (completion.text, completion.reasoning, completion.finish_reason) == ("", "Let me think", "length")
    assert (completion.usage.cached_tokens, completion.usage.reasoning_tokens) == (4, 6)


async def test_a_streamed_answer_whatever_the_cuts(server):
    whole = b": ping\r\n\r\n" + ROLE.replace(b"\n", b"\r\n") + piece("fo") + piece("ur é", finish="stop") + USAGE + DONE
    cut = len(ROLE) + 20
    server.script = [
        streams(*(whole[i : i + 1] for i in range(len(whole)))),
        streams(whole),
        streams(whole[:cut], whole[cut:], gap_s=0.1),
    ]
    async with opened(server.url, stream=True) as endpoint:
        for _ in range(3):
            completion = await endpoint.generate(chat(), CONFIG)
            assert (completion.text, completion.finish_reason) == ("four é", "stop")
            assert (completion.usage.input_tokens, completion.usage.output_tokens) == (5, 3)
            assert 0 < completion.timing.ttft_s <= completion.timing.latency_s
    assert completion.timing.ttft_s > 0.09, "the role alone is no token"
    assert server.bodies[0]["stream_options"] == {"include_usage": True}
    assert len(server.client_ports) == 1, "the connection is kept"


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(streams(piece("four", finish="stop")), id="no-done"),
        pytest.param(streams(piece("four", finish="stop"), abort=True), id="reset-after-finish"),
        pytest.param(streams(piece("four"), DONE), id="no-finish-reason"),
        pytest.param(streams(piece("four", finish="stop"), DONE.rstrip()), id="done-without-newline"),
        pytest.param(ok, id="not-streamed-after-all"),
    ],
)
async def test_streams_that_end_well_enough(server, end):
    server.script = [end]
    async with opened(server.url, stream=True) as endpoint:
        completion = await endpoint.generate(chat(), CONFIG)
    assert (completion.text, completion.error, completion.tries) == ("four", None, 1)


def echoed(tokens: list[str], values: list[float | None], best: list[float], index: int) -> dict:
    offsets = [sum(map(len, tokens[:i])) for i in range(len(tokens))]
    tops = [None if value is None else {"?": top} for value, top in zip(values, best, strict=True)]
    logprobs = {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}
    return {"index": index, "text": "".join(tokens), "finish_reason": "length", "logprobs": logprobs}


async def test_loglikelihoods_of_continuations(server):
    choices = [  # In any order, with a start token and a generated one.
        echoed(["<s>", "2+2=", "5", "!", "x"], [None, -9.0, -4.0, -0.5, -7.0], [0, -9.0, -0.1, -0.5, -7.0], 1),
        echoed(["<s>", "2+2=", "4", "\n"], [None, -9.0, -0.25, -7.0], [0, -0.1, -0.25, -7.0], 0),
    ]
    asked_first = echoed(["1 + 1 =", " 2"], [None, -1.0], [0, -1.0], 0)  # Whether it can be asked so at all.
    answers = ([asked_first], choices, [{"text": "x"}] * 2)
    server.script = [says(json.dumps({"choices": one})) for one in answers]
    request = Request("s/0", 0, "loglikelihood", "d", prompt="2+2=", continuations=("4", "5!"))
    async with opened(server.url, kind="completion", stream=True) as endpoint:
        assert endpoint.capabilities.kinds == {"completion", "loglikelihood"}
        completion = await endpoint.generate(request, GenerationConfig(temperature=0.7, seed=1))
        without = await endpoint.generate(request, CONFIG)
    assert completion.error is None
    assert completion.continuations == (ContinuationScore(-0.25, 1, 1, is_greedy=True), ContinuationScore(-4.5, 2, 2))
    assert server.bodies[1] == {
        "model": "m",
        "prompt": ["2+2=4", "2+2=5!"],
        "echo": True,
        "logprobs": 1,
        "max_tokens": 1,
        "temperature": 0.0,
    }
    assert (without.error.error_class, without.tries) == ("malformed", 1)
    assert "echo" in without.error.message


# Failures that pass


@pytest.mark.parametrize(
    ("fault", "stream"),
    [
        pytest.param(status(429), False, id="429"),
        pytest.param(status(500), False, id="500"),
        pytest.param(status(503), False, id="503"),
        pytest.param(status(408), False, id="408"),
        pytest.param(status(409), False, id="409"),
        pytest.param(status(425), False, id="425"),
        pytest.param(says("<html>proxy</html>", "text/html"), False, id="html"),
        pytest.param(says('{"choices": [{"mess'), False, id="cut-json"),
        pytest.param(says('{"choices": []}'), False, id="no-choices"),
        pytest.param(says('{"error": {"message": "upstream", "code": 502}}'), False, id="error-in-200"),
        pytest.param(reset, False, id="reset"),
        pytest.param(reset_mid_body, False, id="reset-mid-body"),
        pytest.param(stall, False, id="stall"),
        pytest.param(streams(piece("fo"), abort=True, gap_s=0.01), True, id="reset-mid-stream"),
        pytest.param(streams(piece("fo")), True, id="truncated"),
        pytest.param(streams(piece("fo"), b'data: {"choices": [{"del'), True, id="truncated-mid-frame"),
        pytest.param(streams(piece("fo"), b"data: {oops}\n\n"), True, id="broken-frame"),
        pytest.param(streams(piece("fo", finish="abort"), DONE), True, id="aborted-by-the-server"),
        pytest.param(streams(piece("fo"), b'data: {"error": {"message": "oom"}}\n\n'), True, id="error-in-stream"),
    ],
)
async def test_a_passing_fault_costs_one_more_try(server, fault, stream):
    good = streams(piece("four", finish="stop"), DONE) if stream else ok
    server.script = [fault, good]
    async with opened(server.url, stream=stream, try_timeout_s=0.3) as endpoint:
        completion = await endpoint.generate(chat(), CONFIG)
        assert endpoint.load.in_flight == 0
    assert (completion.text, completion.error, completion.tries, len(server.bodies)) == ("four", None, 2, 2)


@pytest.mark.parametrize(
    ("fault", "stream", "error_class", "http_status"),
    [
        pytest.param(status(429), False, "rate_limited", 429, id="429"),
        pytest.param(status(500), False, "server", 500, id="500"),
        pytest.param(status(502), False, "server", 502, id="502"),
        pytest.param(says("{"), False, "malformed", None, id="malformed"),
        pytest.param(reset, False, "reset", None, id="reset"),
        pytest.param(stall, False, "timeout", None, id="stall"),
        pytest.param(streams(piece("fo")), True, "truncated", None, id="truncated"),
        pytest.param(streams(b"data: {oops}\n\n"), True, "malformed", None, id="broken-frame"),
        pytest.param(streams(piece("fo"), abort=True, gap_s=0.01), True, "reset", None, id="reset-mid-stream"),
    ],
)
async def test_a_fault_that_stays_is_the_completions_error(server, fault, stream, error_class, http_status):
    """The server answers everything else, so that the fault is this request's own."""
    good = streams(piece("four", finish="stop"), DONE) if stream else ok

    async def behave(request: web.Request) -> web.StreamResponse:
        return await (good if is_look(server.bodies[-1]) else fault)(request)

    server.script = [behave]
    async with opened(server.url, stream=stream, try_timeout_s=0.15, max_tries=3) as endpoint:
        completion = await endpoint.generate(chat(), CONFIG)
    assert (completion.error.error_class, completion.error.http_status) == (error_class, http_status)
    assert completion.error.message
    assert completion.text == ""
    assert (completion.tries, sum(not is_look(body) for body in server.bodies)) == (3, 3)
    assert completion.timing is not None


@pytest.mark.parametrize(("code", "error_class"), [(400, "bad_request"), (404, "bad_request"), (422, "bad_request"),
                                                   (403, "auth"), (307, "bad_request")])  # fmt: skip
async def test_what_cannot_pass_is_final_at_once(server, code, error_class):
    server.script = [status(code, f"bad key {KEY} " + "x" * 900, headers={"Location": "/elsewhere"})]
    async with opened(server.url) as endpoint:
        completion = await endpoint.generate(chat(), CONFIG)
    assert (completion.error.error_class, completion.error.http_status) == (error_class, code)
    assert (completion.tries, len(server.bodies)) == (1, 1)
    assert KEY not in completion.error.message
    assert "bad key ***" in completion.error.message
    assert len(completion.error.message) <= 500


async def test_a_spent_quota_is_final_at_once(server):
    server.script = [status(429, "You exceeded your current quota", code="insufficient_quota")]
    async with opened(server.url) as endpoint:
        completion = await endpoint.generate(chat(), CONFIG)
    assert (completion.error.error_class, completion.tries) == ("rate_limited", 1)


async def test_the_key_is_in_no_log(server, caplog):
    caplog.set_level(logging.DEBUG)
    server.script = [says(f"not json: {KEY}"), status(500, KEY), status(401, KEY)]
    async with opened(server.url) as endpoint:
        completion = await endpoint.generate(chat(), CONFIG)
        assert KEY not in repr(completion)
        assert KEY not in repr(endpoint._target)
    assert completion.error.error_class == "auth"
    assert KEY not in caplog.text


async def test_a_refused_key_is_not_hammered(server):
    server.script = [status(401, "no such key")]
    async with opened(server.url, concurrency=4) as endpoint:
        completions = await asyncio.gather(*(endpoint.generate(chat(n), CONFIG) for n in range(50)))
    assert {completion.error.error_class for completion in completions} == {"auth"}
    assert len(server.bodies) <= 4


async def test_a_rotated_key_is_looked_up_again_for_the_next_wish(server):
    environment = {"KEY": "old-key-000"}
    server.script = [holds("new-key-111")]
    async with opened(server.url, keys=EnvSecrets(environment)) as endpoint:
        endpoint.renew("run/0")
        refused = [await endpoint.generate(chat(n), CONFIG) for n in range(5)]
        assert {completion.error.error_class for completion in refused} == {"auth"}
        assert len(server.bodies) == 1
        environment["KEY"] = "new-key-111"
        again = await endpoint.generate(chat(), CONFIG)
        assert again.error.error_class == "auth", "the same wish asked already"
        endpoint.renew("run/1")
        answered = [await endpoint.generate(chat(n), CONFIG) for n in range(5)]
    assert [completion.text for completion in answered] == ["four"] * 5


async def test_a_rotated_key_is_looked_up_again_after_a_while(server):
    environment = {"KEY": "old-key-000"}
    server.script = [holds("new-key-111")]
    policy = replace(FAST, key_retry_s=0.0)
    async with opened(server.url, policy, keys=EnvSecrets(environment)) as endpoint:
        assert (await endpoint.generate(chat(), CONFIG)).error.error_class == "auth"
        del environment["KEY"]
        lost = await endpoint.generate(chat(), CONFIG)
        assert (lost.error.error_class, "env:KEY" in lost.error.message) == ("auth", True)
        environment["KEY"] = "new-key-111"
        assert (await endpoint.generate(chat(), CONFIG)).text == "four"
        server.script = [status(500, "new-key-111 and old-key-000")]
        told = await endpoint.generate(chat(), CONFIG)
    assert "new-key-111" not in told.error.message, "the new key is blanked too"


async def test_a_late_401_for_the_old_key_does_not_refuse_the_new_one(server):
    environment = {"KEY": "old-key-000"}
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def late(request: web.Request) -> web.StreamResponse:
        asked.set()
        await go_on.wait()
        return web.json_response({"error": "no such key"}, status=401)

    server.script = [late, status(401), holds("new-key-111")]
    async with opened(server.url, keys=EnvSecrets(environment)) as endpoint:
        first = asyncio.create_task(endpoint.generate(chat(1), CONFIG))
        await asked.wait()
        assert (await endpoint.generate(chat(2), CONFIG)).error.error_class == "auth"
        environment["KEY"] = "new-key-111"
        endpoint.renew("run/1")
        go_on.set()
        assert (await first).error.error_class == "auth"
        assert (await endpoint.generate(chat(3), CONFIG)).text == "four"


async def test_options_that_cannot_be_sent_are_an_error_of_the_request(server):
    async with opened(server.url) as endpoint:
        for extra_body in ({"messages": []}, {"x": object()}):
            completion = await endpoint.generate(chat(), GenerationConfig(extra_body=extra_body))
            assert completion.error.error_class == "bad_request"
            assert "extra_body" in completion.error.message
        torn = Request("s/0", 0, "chat", "d", messages=(Message("user", "\ud83d"),))
        assert (await endpoint.generate(torn, CONFIG)).error.error_class == "bad_request"
    assert server.bodies == []


async def test_a_prompt_of_megabytes_arrives(server):
    large = Request("s/0", 0, "chat", "d", messages=(Message("user", "x" * 3_000_000),))
    server.script = [status(500), ok]
    async with opened(server.url) as endpoint:
        completion = await endpoint.generate(large, CONFIG)
    assert (completion.text, completion.tries) == ("four", 2)
    assert len(server.bodies[1]["messages"][0]["content"]) == 3_000_000


# Waiting


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_pauses_the_whole_endpoint(server, form):
    wait = "1" if form == "seconds" else formatdate(time.time() + 2, usegmt=True)
    server.script = [status(429, headers={"Retry-After": wait}), ok]
    async with opened(server.url, concurrency=4) as endpoint:
        first = asyncio.create_task(endpoint.generate(chat(), CONFIG))
        await server.received(1)
        await asyncio.sleep(0.1)
        others = await asyncio.gather(*(endpoint.generate(chat(n), CONFIG) for n in range(1, 6)))
        assert (await first).text == "four"
    assert all(other.text == "four" for other in others)
    assert server.times[1] - server.times[0] > 0.9
    assert len(server.times) == 7


async def test_retry_after_is_bounded(server):
    server.script = [status(503, headers={"Retry-After": "86400"}), ok]
    async with opened(server.url, replace(FAST, max_retry_after_s=0.2)) as endpoint:
        completion = await endpoint.generate(chat(), CONFIG)
    assert (completion.text, completion.tries) == ("four", 2)


@pytest.mark.alone
async def test_the_total_deadline_ends_the_waiting(server):
    server.script = [status(429, "slow down", headers={"Retry-After": "60"})]
    async with opened(server.url, total_timeout_s=0.3) as endpoint:
        started = time.monotonic()
        completion = await endpoint.generate(chat(), CONFIG)
    assert time.monotonic() - started < 2
    assert completion.error.error_class == "rate_limited"
    assert "total_timeout_s" in completion.error.message


async def test_a_request_that_waits_for_its_retry_holds_no_slot(server):
    server.script = [status(500), ok]
    policy = replace(FAST, base_delay_s=20.0, max_delay_s=30.0)
    async with opened(server.url, policy, concurrency=1) as endpoint:
        waiting = asyncio.create_task(endpoint.generate(chat(), CONFIG))
        await server.received(1)
        completion = await asyncio.wait_for(endpoint.generate(chat(1), CONFIG), 5)
        assert completion.text == "four"
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert endpoint.load.in_flight == 0


# Concurrency


@pytest.mark.alone
async def test_full_concurrency_at_once_and_never_more(server):
    server.script = [slow(0.05)]
    async with opened(server.url, concurrency=6) as endpoint:
        started = time.monotonic()
        await asyncio.gather(*(endpoint.generate(chat(n), CONFIG) for n in range(30)))
        assert endpoint.load.in_flight == 0
    assert server.most_in_flight == 6
    assert len(server.client_ports) == 6, "connections are kept"
    assert time.monotonic() - started < 2


async def test_concurrency_falls_when_asked_and_grows_again(server):
    full = 8

    async def crowded(_: web.Request) -> web.StreamResponse:
        if server.in_flight > 3:
            return await status(429)(_)
        return await slow(0.01)(_)

    server.script = [crowded]
    async with opened(server.url, concurrency=full, max_tries=50) as endpoint:
        assert endpoint.load.limit == full
        completions = await asyncio.gather(*(endpoint.generate(chat(n), CONFIG) for n in range(60)))
        assert all(completion.text == "four" for completion in completions)
        lowest = endpoint.load.limit
        assert 1 <= lowest < full
        server.script = [slow(0.002)]
        await asyncio.gather(*(endpoint.generate(chat(n), CONFIG) for n in range(100)))
        assert endpoint.load.limit == full


async def test_a_server_that_takes_little_loses_nothing(server):
    async def crowded(request: web.Request) -> web.StreamResponse:
        return await (status(429) if server.in_flight > 3 else slow(0.005))(request)

    server.script = [crowded]
    async with opened(server.url, concurrency=64, max_tries=3) as endpoint:
        completions = await asyncio.gather(*(endpoint.generate(chat(n), CONFIG) for n in range(300)))
    assert {completion.text for completion in completions} == {"four"}


async def test_one_round_of_refusals_lowers_the_limit_once(server):
    server.script = [status(503)] * 10 + [ok]
    async with opened(server.url, replace(FAST, outage_failures=100), concurrency=10, max_tries=2) as endpoint:
        await asyncio.gather(*(endpoint.generate(chat(n), CONFIG) for n in range(10)))
        assert endpoint.load.limit == 7


async def test_cancelling_aborts_the_request_and_frees_the_slot(server):
    server.script = [stall, ok]
    async with opened(server.url, concurrency=1) as endpoint:
        running = asyncio.create_task(endpoint.generate(chat(), CONFIG))
        await server.received(1)
        queued = asyncio.create_task(endpoint.generate(chat(1), CONFIG))
        await asyncio.sleep(0.02)
        queued.cancel()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.wait_for(server.aborted.wait(), 1)
        assert endpoint.load.in_flight == 0
        assert (await endpoint.generate(chat(2), CONFIG)).text == "four"


# Opening


@pytest.mark.parametrize("suffix", ["", "/", "/chat/completions", "/completions"])
async def test_the_url_may_be_the_base_or_the_whole_address(server, suffix):
    async with opened(server.url + suffix + "?api-version=1") as endpoint:
        await endpoint.generate(chat(), CONFIG)
    assert server.requests[0].rel_url.raw_path_qs == "/v1/chat/completions?api-version=1"


@pytest.mark.parametrize(
    ("spec", "says_what"),
    [
        ({"url": ""}, "model.url"),
        ({"url": "localhost:8000/v1"}, "http://host:8000/v1"),
        ({"url": "http://me:pw@host/v1"}, "model.key_ref"),
        ({"args": {"verify_tsl": False}}, "'verify_tls'"),
        ({"args": {"verify_tls": "maybe"}}, "true or false"),
        ({"args": {"extra_body": {"stream": True}}}, "stream"),
        ({"headers": {"X-A": "b\r\nX-C: d"}}, "line break"),
    ],
)
async def test_what_cannot_work_is_refused_when_opened(spec, says_what):
    with pytest.raises(InvalidInput, match=says_what):
        async with opened(**{"url": "http://host/v1"} | spec):
            pass


async def test_a_key_in_another_header(server):
    async with opened(server.url, key_ref="", headers={"api-key": "secret:models/key"}) as endpoint:
        server.script = [status(400, f"not {KEY}")]
        completion = await endpoint.generate(chat(), CONFIG)
    assert server.requests[0].headers["api-key"] == KEY
    assert "Authorization" not in server.requests[0].headers
    assert KEY not in completion.error.message
