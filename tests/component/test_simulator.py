"""The simulator over real HTTP, asked by an independent client and by bare sockets."""

import asyncio
import contextlib
import json
import re
import signal
import sys

import aiohttp
import pytest
from tests.kit.simulator import served as serve

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import PromptSettings
from evalmesh.domain.errors import NotFound
from evalmesh.domain.sample import Sample
from evalmesh.simulator.catalog import load_known
from evalmesh.simulator.distribution import constant, parse_freeze
from evalmesh.simulator.faults import parse_fault
from evalmesh.simulator.render import Style
from evalmesh.simulator.server import Simulator
from evalmesh.simulator.settings import SimulatorSettings
from evalmesh.simulator.skill import KnownSample, Skill
from evalmesh.simulator.tokens import count_tokens

KNOWN = tuple(
    KnownSample("sums", Sample(f"main/{i}", i, "main", f"What is {i} plus {i * 7}?", (str(i * 8),))) for i in range(40)
)
COLOURS = KnownSample(
    "colours", Sample("main/0", 0, "main", "Which colour has ripe grass?", ("B",), ("Red", "Green", "Blue", "Grey"))
)


def served(known=KNOWN, **settings):
    return serve(known, **settings)


def chat(text, **more):
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


async def ask(session, url, text, **more):
    async with session.post(f"{url}/chat/completions", json=chat(text, **more)) as answer:
        return answer.status, await answer.json(), answer.headers


async def events_of(session, url, body, path="chat/completions"):
    async with session.post(f"{url}/{path}", json=body) as answer:
        assert answer.content_type == "text/event-stream"
        return [line[6:].decode().strip() async for line in answer.content if line.startswith(b"data: ")]


async def stats_of(session, url):
    async with session.get(f"{url}/stats") as answer:
        return await answer.json()


async def test_stats_tell_exactly_what_was_expected():
    async with served(skill=Skill(seed=4, default=0.6)) as (simulator, url, session):
        for seed in (0, 1):
            for known in KNOWN:
                status, body, _ = await ask(session, url, known.sample.input, seed=seed)
                assert status == 200
                assert body["usage"]["completion_tokens"] == count_tokens(body["choices"][0]["message"]["content"])
                assert body["usage"]["prompt_tokens"] == count_tokens(known.sample.input)
        await ask(session, url, "Hello there")
        stats = await stats_of(session, url)
        expected = simulator.expected_right(request_seed=0) + simulator.expected_right(request_seed=1)
        sums = stats["benchmarks"]["sums"]
        assert (stats["requests"], stats["answered"], stats["unknown"], stats["in_flight"]) == (81, 81, 1, 0)
        assert (sums["right"], sums["wrong"]) == (expected, 80 - expected)
        assert all(s["seeds"] == {k: {"asked": 1, "answered": 1} for k in "01"} for s in sums["samples"].values())
        async with session.post(f"{url}/stats/reset") as answer:
            assert answer.status == 200
        assert (await stats_of(session, url))["benchmarks"] == {}


async def test_a_stream_has_role_tokens_reason_usage_and_end():
    async with served() as (_, url, session):
        text = KNOWN[3].sample.input
        _, whole, _ = await ask(session, url, text)
        body = chat(text, stream=True, stream_options={"include_usage": True})
        events = await events_of(session, url, body)
        assert events[-1] == "[DONE]"
        chunks = [json.loads(event) for event in events[:-1]]
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        tokens = [c["choices"][0]["delta"]["content"] for c in chunks[1:-2]]
        assert "".join(tokens) == whole["choices"][0]["message"]["content"]
        assert all(count_tokens(token) == 1 for token in tokens)
        assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"] == whole["usage"]
        plain = await events_of(session, url, chat(text, stream=True))
        assert not any("usage" in event for event in plain)


async def test_thinking_can_have_a_field_of_its_own():
    async with served(style=Style(1.0, reasoning_content=True)) as (_, url, session):
        for known in KNOWN:
            _, body, _ = await ask(session, url, known.sample.input)
            message = body["choices"][0]["message"]
            assert message["reasoning_content"]
            assert "<think>" not in message["content"]
            details = body["usage"]["completion_tokens_details"]
            assert details["reasoning_tokens"] == count_tokens(message["reasoning_content"])
        events = await events_of(session, url, chat(KNOWN[0].sample.input, stream=True))
        assert any('"reasoning_content"' in event for event in events)


async def test_models_health_and_unknown_paths():
    async with served(models=("one", "two")) as (_, url, session):
        async with session.get(f"{url}/models") as answer:
            assert [model["id"] for model in (await answer.json())["data"]] == ["one", "two"]
        async with session.get(f"{url.removesuffix('/v1')}/health") as answer:
            assert answer.status == 200
        async with session.get(f"{url}/nothing") as answer:
            assert answer.status == 404
        async with session.get(f"{url}/chat/completions") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        status, body, _ = await ask(session, url, "x")
        assert (status, body["error"]["code"]) == (404, "model_not_found")


async def test_a_key_is_asked_for_when_one_is_set():
    async with served(api_key="right") as (_, url, session):
        assert (await ask(session, url, "x"))[0] == 401
        headers = {"Authorization": "Bearer right"}
        async with session.post(f"{url}/chat/completions", json=chat("x"), headers=headers) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"messages": []}',
        b'{"messages": "x"}',
        b'{"messages": [{"role": "user"}], "n": 3}',
        b'{"messages": [{"role": "user"}], "tool_choice": "required"}',
        b'{"messages": [{"role": "user"}], "tools": [{"function": {}}]}',
        b'{"messages": [{"role": "user"}], "tools": [{"function": {"name": "a"}}], "tool_choice": "b"}',
        b"\xff",
    ],
)
async def test_bodies_that_make_no_sense_get_400(body):
    async with served() as (_, url, session), session.post(f"{url}/chat/completions", data=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_that_is_demanded_is_called_with_arguments_of_its_schema(stream):
    schema = {
        "properties": {"n": {"type": "integer"}, "unit": {"enum": ["km", "m"]}, "deep": {"properties": {"x": {}}}}
    }
    body = chat("How far?") | {
        "stream": stream,
        "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": {"name": name, "parameters": schema}} for name in ("near", "far")],
        "tool_choice": {"type": "function", "function": {"name": "far"}},
    }
    async with served() as (_, url, session), session.post(f"{url}/chat/completions", json=body) as answer:
        text = await answer.text()
    if stream:
        chunks = [json.loads(line[6:]) for line in text.split("\n\n") if line and line != "data: [DONE]"]
        usage = chunks.pop()["usage"]
        pieces = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
        assert {piece["index"] for piece in pieces} == {0}
        name = pieces[0]["function"]["name"]
        arguments = "".join(piece["function"]["arguments"] for piece in pieces)
        finish = chunks[-1]["choices"][0]["finish_reason"]
    else:
        whole = json.loads(text)
        usage, choice = whole["usage"], whole["choices"][0]
        [call] = choice["message"]["tool_calls"]
        name, arguments, finish = call["function"]["name"], call["function"]["arguments"], choice["finish_reason"]
        assert choice["message"]["content"] is None
    assert (name, json.loads(arguments)) == ("far", {"n": 1, "unit": "km", "deep": {"x": "text"}})
    assert (finish, usage["completion_tokens"] > 1) == ("tool_calls", True)


async def loglikelihoods(session, url, seed, *, letters):
    choices = ("A", "B", "C", "D") if letters else COLOURS.sample.choices
    context = f"Question: {COLOURS.sample.input}\nAnswer:"
    body = {"prompt": [f"{context} {c}" for c in choices], "echo": True, "logprobs": 1, "max_tokens": 0, "seed": seed}
    async with session.post(f"{url}/completions", json=body) as answer:
        found = (await answer.json())["choices"]
    sums = []
    for choice in found:
        lp = choice["logprobs"]
        assert "".join(lp["tokens"]) == choice["text"]
        assert lp["token_logprobs"][0] is None
        inside = [i for i, offset in enumerate(lp["text_offset"]) if offset >= len(context)]
        sums.append(sum(lp["token_logprobs"][i] for i in inside))
    return sums


@pytest.mark.parametrize("letters", [False, True])
async def test_log_likelihoods_favour_the_right_option_as_skill_says(letters):
    async with served((COLOURS,), skill=Skill(default=0.5)) as (simulator, url, session):
        n_right = 0
        for seed in range(30):
            sums = await loglikelihoods(session, url, seed, letters=letters)
            is_right = sums.index(max(sums)) == 1
            assert is_right == bool(simulator.expected_right(request_seed=seed))
            n_right += is_right
        stats = await stats_of(session, url)
        assert (stats["right"], stats["wrong"], stats["scored"]) == (n_right, 30 - n_right, 120)


async def test_plain_completions_answer_within_their_limits():
    async with served(skill=Skill(default=1.0)) as (_, url, session):
        body = {"prompt": KNOWN[9].sample.input, "stop": "\n", "max_tokens": 4}
        async with session.post(f"{url}/completions", json=body) as answer:
            choice = (await answer.json())["choices"][0]
        assert "72" in choice["text"]
        events = await events_of(session, url, body | {"stream": True}, "completions")
        assert "".join(json.loads(e)["choices"][0]["text"] for e in events[:-1]) == choice["text"]


async def test_status_faults_are_counted_and_carry_retry_after():
    faults = (parse_fault("500:sample=sums/main/1"), parse_fault("429:every=4,retry_after=2s"))
    async with served(faults=faults, skill=Skill(default=1.0)) as (_, url, session):
        answers = [await ask(session, url, KNOWN[i % 4].sample.input) for i in range(8)]
        assert [status for status, _, _ in answers] == [200, 500, 200, 429, 200, 500, 200, 429]
        assert answers[3][2]["Retry-After"] == "2"
        stats = await stats_of(session, url)
        assert stats["faults"] == {"500": 2, "429": 2}
        sample = stats["benchmarks"]["sums"]["samples"]["main/1"]
        assert (sample["asked"], sample["answered"], sample["faults"]) == (2, 0, {"500": 2})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["reset", "truncated", "malformed", "cut", "error_event", "empty"])
async def test_broken_answers_are_broken_and_not_counted_as_answered(kind, stream):
    async with served(faults=(parse_fault(f"{kind}:tries=1"),)) as (_, url, session):
        body = chat(KNOWN[0].sample.input, stream=stream)
        data = b""
        error = None
        try:
            async with session.post(f"{url}/chat/completions", json=body) as answer:
                assert answer.status == 200
                async for piece in answer.content.iter_any():
                    data += piece
        except aiohttp.ClientError as caught:
            error = caught
        if kind in {"reset", "cut"}:
            assert error is not None
        elif kind == "truncated":
            assert error is None
            assert b"[DONE]" not in data
            assert b'"usage"' not in data
            assert b'"finish_reason":"' not in data
        elif kind == "error_event":
            assert error is None
            assert b'"error":{' in data
        elif kind == "empty":
            assert error is None
            assert b'"content":""' in data
            assert not re.search(rb'"content":"[^"]', data)
        else:
            events = data.decode().split("\n\n")[:-1] if stream else [data.decode()]
            payloads = [e.removeprefix("data: ") for e in events if e != "data: [DONE]"]
            assert any(not is_json(payload) for payload in payloads)
        stats = await stats_of(session, url)
        assert (stats["answered"], stats["faults"], stats["in_flight"]) == (0, {kind: 1}, 0)
        assert (await ask(session, url, KNOWN[0].sample.input))[0] == 200


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stall_delays_and_then_goes_on(stream):
    async with served(faults=(parse_fault("stall:every=1,pause=150ms"),)) as (_, url, session):
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with session.post(f"{url}/chat/completions", json=chat(KNOWN[0].sample.input, stream=stream)) as answer:
            await answer.read()
        assert loop.time() - start >= 0.15
        assert (await stats_of(session, url))["answered"] == 1


async def test_latency_is_what_was_set():
    times = {"ttft": constant(0.1), "itl": constant(0.01), "output_tokens": constant(20)}
    async with served(style=Style(0.0), **times) as (_, url, session):
        loop = asyncio.get_running_loop()
        start = loop.time()
        _, body, _ = await ask(session, url, "anything")
        assert body["usage"]["completion_tokens"] == 20
        assert 0.28 <= loop.time() - start < 1.0
        start = loop.time()
        async with session.post(f"{url}/chat/completions", json=chat("anything", stream=True)) as answer:
            seen = [
                loop.time() - start async for line in answer.content if b'"content":"' in line and b"role" not in line
            ]
        assert len(seen) == 20
        assert seen[0] >= 0.1
        assert seen[-1] >= 0.28


async def test_a_frozen_server_says_nothing():
    async with served(freeze=parse_freeze("300ms/400ms")) as (_, url, session):
        loop = asyncio.get_running_loop()
        waits = []
        for _ in range(4):
            start = loop.time()
            await ask(session, url, "x")
            waits.append(loop.time() - start)
            await asyncio.sleep(0.12)
        assert max(waits) > 0.1


async def test_slots_are_kept_by_queueing_or_by_429():
    slow = {"ttft": constant(0.1), "max_concurrency": 2}
    async with served(**slow) as (_, url, session):
        answers = await asyncio.gather(*(ask(session, url, f"q{i}") for i in range(6)))
        assert [status for status, _, _ in answers] == [200] * 6
        stats = await stats_of(session, url)
        assert (stats["max_running"], stats["max_in_flight"]) == (2, 6)
    async with served(**slow, overload="reject") as (_, url, session):
        answers = await asyncio.gather(*(ask(session, url, f"q{i}") for i in range(6)))
        assert sorted(status for status, _, _ in answers) == [200] * 2 + [429] * 4
        assert (await stats_of(session, url))["overloaded"] == 4


async def test_a_client_that_leaves_frees_its_slot():
    async with served(ttft=constant(30), max_concurrency=1) as (simulator, url, session):
        with pytest.raises(TimeoutError):
            await session.post(f"{url}/chat/completions", json=chat("x"), timeout=aiohttp.ClientTimeout(total=0.1))
        for _ in range(200):
            if not simulator.stats.in_flight:
                break
            await asyncio.sleep(0.01)
        assert (simulator.stats.in_flight, simulator.stats.aborted) == (0, 1)


def raw(body, path="/v1/chat/completions", extra=""):
    data = json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{extra}Content-Length: {len(data)}\r\n\r\n".encode() + data


async def read_answer(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head, await reader.readexactly(length)


@contextlib.asynccontextmanager
async def socket_to(url):
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    yield reader, writer
    writer.close()
    await writer.wait_closed()


async def test_pipelined_requests_are_answered_in_order():
    async with (
        served(skill=Skill(default=1.0), style=Style(0.0), ttft=constant(0.001)) as (_, url, _session),
        socket_to(url) as (reader, writer),
    ):
        writer.write(b"".join(raw(chat(known.sample.input)) for known in KNOWN * 5))
        for known in KNOWN * 5:
            _, body = await read_answer(reader)
            assert json.loads(body)["choices"][0]["message"]["content"].endswith(known.sample.target[0])


async def test_bodies_in_chunks_and_in_single_bytes_are_understood():
    async with served() as (_, url, _session), socket_to(url) as (reader, writer):
        data = json.dumps(chat(KNOWN[0].sample.input)).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(0, len(data), 7):
            writer.write(b"%x\r\n%b\r\n" % (len(data[i : i + 7]), data[i : i + 7]))
        writer.write(b"0\r\n\r\n")
        assert b" 200 " in (await read_answer(reader))[0]
        for byte in raw(chat("y")):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert b" 200 " in (await read_answer(reader))[0]


async def test_100_continue_is_given_and_long_bodies_are_refused():
    async with served(max_body_bytes=1000) as (_, url, session):
        async with socket_to(url) as (reader, writer):
            head, body = raw(chat("x"), extra="Expect: 100-continue\r\n").split(b"\r\n\r\n")
            writer.write(head + b"\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert b" 200 " in (await read_answer(reader))[0]
        assert (await ask(session, url, "x" * 5000))[0] == 413
        async with socket_to(url) as (reader, writer):
            writer.write(b"POST /v1/models HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n")
            assert b" 413 " in await reader.readuntil(b"\r\n\r\n")


async def test_old_clients_and_nonsense_on_the_wire():
    async with served() as (_, url, _session):
        async with socket_to(url) as (reader, writer):
            writer.write(raw(chat("x")).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"Connection: close" in answer
        async with socket_to(url) as (reader, writer):
            writer.write(raw(chat("x", stream=True)).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            answer = await reader.read()
            assert b"chunked" not in answer
            assert answer.endswith(b"data: [DONE]\n\n")
        async with socket_to(url) as (reader, writer):
            writer.write(b"this is not http\r\n\r\n")
            assert b" 400 " in await reader.read()


@pytest.mark.parametrize("name", ["gsm8k", "arc", "mmlu"])
@pytest.mark.shared_data
async def test_real_prompts_are_all_recognised(shared_data, name):
    """Every real row, few-shot prompts with questions of the same benchmark included."""
    known = load_known([name], {name: {"local_path": str(shared_data / name)}})
    simulator = Simulator(SimulatorSettings(), known)
    benchmark = registry.get(name)
    template = benchmark.template or benchmark.shape.template
    for number, one in enumerate(known):
        shots = tuple(k.sample for k in known[max(0, number - 2) : number])
        prompt = benchmark.shape.render(one.sample, PromptSettings(template=template, shots=shots))
        match = simulator.knowledge.match("\n\n".join(message.content for message in prompt.messages))
        assert match is not None, one
        assert match.known.sample.input.strip() == one.sample.input.strip()
        assert match.known.sample.choices == one.sample.choices


def test_data_that_is_not_there_is_named():
    with pytest.raises(NotFound, match="gsm8k"):
        load_known(["gsm8k"], {"gsm8k": {"local_path": "no/such/folder"}})


async def test_the_process_says_its_address_and_ends_on_a_signal():
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "evalmesh.simulator", "--port", "0", "--benchmarks", "starter_math"),
        stdout=asyncio.subprocess.PIPE,
    )
    line = (await process.stdout.readline()).decode()
    assert line.startswith("evalmesh simulator: http://127.0.0.1:")
    url = line.split(": ", 1)[1].strip()
    async with aiohttp.ClientSession() as session:
        assert (await ask(session, url, "x"))[0] == 200
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 5) == 0
