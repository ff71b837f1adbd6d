"""Media, tools and log-likelihoods through the whole platform: from rows to the wire, and back to the results."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tests.kit.pictures import COLOURS, NAME, install, png, write_rows
from tests.kit.platform import metrics_of, opened, run_to_end, write_questions
from tests.kit.simulator import served, simulator
from tests.kit.truth import results_of

from evalmesh.adapters.datasets import LocalDatasets
from evalmesh.benchmarks import registry
from evalmesh.benchmarks.samples import RowSource, iter_samples
from evalmesh.domain.content import ContentPart, ToolDefinition
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.media import media_part
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec, RunState
from evalmesh.simulator.distribution import constant
from evalmesh.simulator.skill import KnownSample, Skill

pytestmark = pytest.mark.timeout(120)

PICTURES = [(colour, png(number, colour)) for number in range(2) for colour in COLOURS]
ADD = ToolDefinition(
    "add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}, "note": {"type": "string"}}}
)


@pytest.fixture
def pictures(tmp_path, monkeypatch) -> Path:
    """Twelve rows that share six pictures, and the benchmark installed that reads them."""
    (tmp_path / "packages").mkdir()
    install(tmp_path / "packages")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    registry._installed.cache_clear()
    yield write_rows(tmp_path / "pictures.parquet", PICTURES * 2)
    registry._installed.cache_clear()


@asynccontextmanager
async def overheard(model_url: str) -> AsyncIterator[tuple[str, list[dict]]]:
    """An address that passes requests on to the model, and the bodies that came."""
    bodies: list[dict] = []

    async def pass_on(request: web.Request) -> web.Response:
        data = await request.read()
        if request.method == "POST":
            bodies.append(json.loads(data))
        url = model_url.removesuffix("/v1") + request.path
        async with session.request(request.method, url, data=data or None) as answer:
            return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")

    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", pass_on)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with aiohttp.ClientSession() as session:
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", bodies
        finally:
            await runner.cleanup()


def known(path: Path) -> list[KnownSample]:
    rows = LocalDatasets().rows
    samples = iter_samples(registry.get(NAME), BenchmarkSpec(NAME), RowSource(lambda: rows([path])), "default", None, 1)
    return [KnownSample(NAME, sample) for sample in samples]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20.0):
        while not condition():  # noqa: ASYNC110  (the simulator has no event for it)
            await asyncio.sleep(0.01)


async def test_pictures_go_from_rows_to_the_wire_and_are_stored_once(pictures, tmp_path):
    async with (
        served(known(pictures), skill=Skill(default=1.0)) as (model, model_url, _),
        overheard(model_url) as (url, bodies),
        opened(tmp_path / "work") as (_, client),
    ):
        spec = RunSpec(
            model=ModelSpec("simulated", url=url),
            benchmarks=(BenchmarkSpec(NAME, local_path=str(pictures)),),
            generation=GenerationConfig(temperature=0.0),
            shard_size=5,
        )
        [previewed] = await client.preview_benchmark(spec.benchmarks[0])
        first = media_part(PICTURES[0][1])
        assert previewed.messages[0].content[0] == first

        run = await run_to_end(client, spec)
        assert run.state is RunState.SUCCEEDED, run.error
        assert (await metrics_of(client, run, NAME))["accuracy"]["value"] == 1.0
        assert model.stats.images == 12

        stored = {path.name: path.read_bytes() for path in (tmp_path / "work").glob("**/media/*")}
        assert stored == {media_part(data).sha256: data for _, data in PICTURES}

        expected = {f"picture number {number}?": data for number, (_, data) in enumerate(PICTURES * 2)}
        asked = [body for body in bodies if body["messages"][0]["content"] != "Hi"]  # the look before a run
        for body in asked:
            image, text = body["messages"][0]["content"]
            picture = next(data for words, data in expected.items() if words in text["text"])
            assert image == {
                "type": "image_url",
                "image_url": {"url": f"data:image/png;base64,{base64.b64encode(picture).decode()}"},
            }
        assert len(asked) == 12

        row = (await results_of(client, run, NAME))[0]
        shown = json.loads(row["prompt"])[0]["content"]
        assert shown[0] == {
            "kind": "image",
            "sha256": first.sha256,
            "mime": "image/png",
            "size_bytes": first.size_bytes,
        }

        again = await run_to_end(client, replace(spec, reuse_runs=(run.id,)))
        assert again.state is RunState.SUCCEEDED
        assert sum(body["messages"][0]["content"] != "Hi" for body in bodies) == 12


async def test_the_client_library_asks_with_media_and_tools(tmp_path):
    async with served() as (model, url, _), opened(tmp_path / "work") as (_, client):
        picture = PICTURES[0][1]
        part = await client.upload_media(picture, "image/png")
        assert part == media_part(picture) == await client.upload_media(picture)
        lost = ContentPart("image", sha256="ab" * 32, mime="image/png", size_bytes=1)
        requests = [
            Request("seen", 0, "chat", "", (Message("user", (part, ContentPart("text", "What is it?"))),)),
            Request("lost", 0, "chat", "", (Message("user", (lost,)),)),
            Request("call", 0, "chat", "", (Message("user", "Add."),), tools=(ADD,), tool_choice="required"),
            Request("call", 1, "chat", "", (Message("user", "Add."),), tools=(ADD,), tool_choice="auto"),
        ]
        for stream in (False, True):
            spec = ModelSpec("simulated", url=url, stream=stream)
            found = {(one.sample_id, one.repeat): one async for one in client.generate(spec, requests)}
            assert found.keys() == {("seen", 0), ("lost", 0), ("call", 0), ("call", 1)}
            assert found["seen", 0].text
            assert found["lost", 0].error.error_class == "bad_request"
            assert lost.sha256 in found["lost", 0].error.message
            [call] = found["call", 0].tool_calls
            assert (call.name, json.loads(call.arguments)) == ("add", {"a": 1, "note": "text"})
            assert call.id
            assert found["call", 0].finish_reason == "tool_calls"
            assert found["call", 1].tool_calls == ()
            assert found["call", 1].text
        assert model.stats.images == 2


async def test_requests_that_fit_into_no_one_message_are_all_asked(tmp_path):
    async with served() as (model, url, _), opened(tmp_path / "work") as (_, client):
        requests = [Request(f"s{n}", 0, "completion", "", prompt=f"{n}" * (4 << 20)) for n in range(5)]
        requests += [Request(f"small{n}", 0, "completion", "", prompt=f"Once {n}") for n in range(1100)]
        spec = ModelSpec("simulated", url=url, kind="completion")
        found = [one async for one in client.generate(spec, requests)]
        assert sorted(one.sample_id for one in found) == sorted(one.sample_id for one in requests)
        assert not [one.error for one in found if one.error]
        assert model.stats.requests == len(requests) + 1  # and the look before them
        with pytest.raises(InvalidInput, match="Two requests have the id s0#0"):
            await anext(client.generate(spec, [requests[0], replace(requests[0], prompt="Other")]))


async def test_what_is_no_medium_is_not_taken(tmp_path):
    async with opened(tmp_path / "work") as (_, client):
        with pytest.raises(InvalidInput, match="no image, sound or film"):
            await client.upload_media(b"<html>")
        with pytest.raises(InvalidInput, match=r"mime is 'image/jpeg', but the bytes are image/png"):
            await client.upload_media(PICTURES[0][1], "image/jpeg")


async def test_continuations_are_judged_over_the_api(tmp_path):
    async with served() as (_, url, _), opened(tmp_path / "work") as (_, client):
        request = Request("s", 0, "loglikelihood", "", prompt="It is", continuations=(" good", " very bad"))
        spec = ModelSpec("simulated", url=url, kind="completion")
        [found] = [one async for one in client.generate(spec, [request])]
        assert [(one.n_tokens, one.n_bytes) for one in found.continuations] == [(1, 5), (2, 9)]
        assert all(one.logprob < 0 for one in found.continuations)


async def test_multiple_choice_by_log_likelihood_has_the_models_accuracy(tmp_path):
    questions = write_questions(tmp_path / "questions.jsonl", 60)
    arguments = json.dumps({"general_mcq": {"local_path": str(questions)}})
    with simulator("--benchmarks", "general_mcq", "--dataset-args", arguments, "--skill", "0.6") as model:
        async with opened(tmp_path / "work") as (_, client):
            one = BenchmarkSpec("general_mcq", local_path=str(questions), extra={"scoring": "loglikelihood"})
            spec = RunSpec(ModelSpec("simulated", url=model.url, kind="completion"), (one,), shard_size=16)
            run = await run_to_end(client, spec)
            assert run.state is RunState.SUCCEEDED, run.error
            truth = model.samples("general_mcq")
            right = sum(sample["right"] for sample in truth.values())
            metrics = await metrics_of(client, run, "general_mcq")
            assert 0 < right < 60
            assert {
                name: metrics[name]["value"] for name in ("acc", "acc_norm", "acc_bytes", "acc_norm_tokens")
            } == pytest.approx(dict.fromkeys(("acc", "acc_norm", "acc_bytes", "acc_norm_tokens"), right / 60))
            row = (await results_of(client, run, "general_mcq"))[0]
            assert [one["text"] for one in row["continuations"]] == [f" {choice}" for choice in row["choices"]]


async def test_a_stream_of_completions_can_be_left(tmp_path):
    async with served(ttft=constant(3600.0)) as (model, url, _), opened(tmp_path / "work") as (_, client):
        requests = [Request(f"s{n}", 0, "completion", "", prompt="Once") for n in range(3)]
        completions = client.generate(ModelSpec("simulated", url=url, kind="completion"), requests)
        waiting = asyncio.create_task(anext(completions))
        await until(lambda: model.stats.in_flight == 3)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await completions.aclose()
        await until(lambda: model.stats.in_flight == 0)
