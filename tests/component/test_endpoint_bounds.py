"""Answers that no process could hold: the one request fails by name, and everything else goes on."""

import asyncio
from pathlib import Path

import pytest
from tests.kit.hostile import endless, hostile, squeezed
from tests.kit.model_servers import any_server
from tests.kit.platform import opened, write_questions

from evalmesh.adapters.openai.endpoint import open_openai_endpoint
from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import Unavailable
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec, RunState
from evalmesh.domain.work import Pool

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120)]

MIB = 1 << 20
JSON = b"200 OK\r\nContent-Type: application/json"
SSE = b"200 OK\r\nContent-Type: text/event-stream"
HUGE = 2048 * MIB
TEXT = b'{"choices": [{"message": {"content": "'
IN_FLIGHT_BYTES = 16 * MIB
"""What the sockets and buffers of both sides may hold when the client stops reading."""


async def ask(url: str, **spec) -> Completion:
    model = ModelSpec(**{"name": "m", "url": url, "max_tries": 3} | spec)
    endpoint = open_openai_endpoint(Pool("p", model), any_server({}))
    request = Request("s/0", 0, "chat", "d", messages=(Message("user", "2+2?"),))
    try:
        return await endpoint.generate(request, GenerationConfig())
    finally:
        await endpoint.close()


@pytest.mark.parametrize("length", [b"", b"\r\nContent-Length: %d" % HUGE], ids=["until the end", "announced"])
async def test_a_huge_body_is_cut_early(length):
    async with hostile(JSON + length, endless(TEXT, b"a", HUGE)) as server:
        completion = await ask(server.url)
        await server.cut.wait()
    assert completion.error.error_class == "malformed"
    assert "64 MiB" in completion.error.message
    assert (completion.tries, server.requests) == (1, 1), "asking again would bring the same"
    assert server.sent_bytes < 64 * MIB + IN_FLIGHT_BYTES


@pytest.mark.parametrize("status", [b"400 Bad Request", b"500 Internal Server Error"])
async def test_of_a_huge_error_the_beginning_is_enough(status):
    async with hostile(status, endless(b"all my reasons: ", b"because ", HUGE)) as server:
        completion = await ask(server.url, max_tries=1)
        await server.cut.wait()
    assert completion.error.message.startswith("The endpoint answered ")
    assert "all my reasons: because" in completion.error.message
    assert server.sent_bytes < IN_FLIGHT_BYTES


@pytest.mark.parametrize(
    ("event", "bound"),
    [
        (b'data: {"choices": [{"delta": {"content": "%b"}}]}\n\n' % (b"a" * 32000), "64 MiB"),
        (b"data: {}\n\n", "1048576 events"),
        (b": nothing\n", "128 MiB"),
        (b"a" * 1000, "16777216 bytes"),
        (b"data: a\n", "16777216 bytes"),
    ],
    ids=["text", "events", "comments", "line", "lines"],
)
async def test_a_stream_without_end_is_cut(event, bound):
    async with hostile(SSE, endless(b": a stream\n", event, HUGE)) as server:
        completion = await ask(server.url, stream=True)
        await server.cut.wait()
    assert completion.error.error_class == "malformed"
    assert bound in completion.error.message
    assert server.sent_bytes < 128 * MIB + IN_FLIGHT_BYTES


@pytest.mark.parametrize(("encoding", "wbits"), [(b"gzip", 31), (b"deflate", 15), (b"deflate", -15)])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_bomb_is_unpacked_no_further_than_is_read(encoding, wbits, stream):
    head = (SSE if stream else JSON) + b"\r\nContent-Encoding: " + encoding
    packed = b"".join(squeezed(endless((b"data: " if stream else b"") + TEXT, b"a", HUGE // 8), wbits)())
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    async with hostile(head, lambda: iter([packed])) as server:
        completion = await ask(server.url, stream=stream)
    turning.cancel()
    assert completion.error.error_class == "malformed"
    assert ("16777216 bytes" if stream else "64 MiB") in completion.error.message
    assert turns > (16 if stream else 64), "the event loop had no turn for more than a mebibyte"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"choices": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"unknown": ' + b'{"a": ' * 200_000,
        b'{"error": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"usage": {"new": ' + b"[" * 200_000 + b"]" * 200_000 + b"}}",
    ],
)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request"])
async def test_json_nested_without_end_is_no_defect(body, stream, status):
    head = status + b"\r\nContent-Type: " + (b"text/event-stream" if stream else b"application/json")
    async with hostile(head, lambda: iter([b"data: " + body + b"\n\n" if stream else body])) as server:
        completion = await ask(server.url, stream=stream, max_tries=1)
    assert completion.error.error_class == ("malformed" if status.startswith(b"200") else "bad_request")


async def test_a_body_of_millions_of_empty_choices_is_no_answer():
    async with hostile(JSON, endless(b'{"choices": [{}', b",{}", 60 * MIB)) as server:
        completion = await ask(server.url)
    assert completion.error.error_class == "malformed"
    assert "2000000 values" in completion.error.message


async def test_numbers_that_python_will_not_read_are_malformed():
    digits = b"9" * 100_000
    for body in (b'{"error": {"code": %b}}', b'{"error": {"code": "%b"}}', b'{"usage": {"prompt_tokens": %b}}'):
        async with hostile(JSON, lambda body=body: iter([body % digits])) as server:
            completion = await ask(server.url, max_tries=1)
        assert completion.error.error_class in {"malformed", "server"}, completion.error


async def test_a_head_without_end_is_refused():
    for head in (b"200 OK\r\nX-Long: " + b"a" * MIB, b"200 OK" + b"\r\nX-Many: a" * 10_000):
        async with hostile(head, lambda: iter([b""])) as server:
            completion = await ask(server.url, max_tries=1)
        assert completion.error.error_class in {"malformed", "reset"}, completion.error


async def test_a_list_of_models_without_end_says_nothing():
    async with hostile(JSON, endless(b"", b"a", HUGE)) as server:
        endpoint = open_openai_endpoint(Pool("p", ModelSpec("other", url=server.url)), any_server({}))
        try:
            await endpoint.check()  # the list has another name, and what is said to the question is no refusal
        except Unavailable as error:
            pytest.fail(error.message)
        finally:
            await endpoint.close()
        assert server.sent_bytes < IN_FLIGHT_BYTES + 8 * MIB


async def test_other_runs_go_on_meanwhile(tmp_path: Path):
    """The bomb of one run costs its samples and nothing else: the same process answers all the time."""
    questions = write_questions(tmp_path / "questions.jsonl", 8)
    packed = b"".join(squeezed(endless(TEXT, b"a", HUGE // 8), 31)())
    async with (
        hostile(JSON + b"\r\nContent-Encoding: gzip", lambda: iter([packed])) as server,
        opened(tmp_path / "work") as (_, client),
    ):
        model = ModelSpec("m", url=server.url, concurrency=8)
        run = await client.create_run(
            RunSpec(model, (BenchmarkSpec("general_mcq", local_path=str(questions)),), shard_size=1)
        )
        answers = 0
        while not (await client.get_run(run)).state.terminal:
            answers += 1
        ended = await client.get_run(run)
        rows = [row async for row in client.results(run, "general_mcq")]
    assert ended.state in {RunState.SUCCEEDED, RunState.FAILED}
    assert {row["error_class"] for row in rows} == {"malformed"}
    assert answers > len(rows), "GetRun did not answer between the bombs"
