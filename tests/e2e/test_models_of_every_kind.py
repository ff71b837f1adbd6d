"""Models of every kind, behind every door, through the whole platform."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.kit.pictures import COLOURS, png
from tests.kit.platform import metrics_of, opened, run_to_end, write_questions
from tests.kit.simulator import SimulatorProcess, served, simulator

from evalmesh.domain.content import ContentPart
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.media import sniff_mime
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec, RunState
from evalmesh.sdk import AsyncClient

pytestmark = pytest.mark.timeout(120)


@asynccontextmanager
async def judged(
    questions: Path, folder: Path, forms: tuple[str, ...]
) -> AsyncIterator[tuple[SimulatorProcess, AsyncClient]]:
    """A simulated model that knows these questions, and a platform."""
    arguments = json.dumps({"general_mcq": {"local_path": str(questions)}})
    words = ("--benchmarks", "general_mcq", "--dataset-args", arguments, "--skill", "0.6", "--awkwardness", "0")
    with simulator(*words, "--likelihoods", *forms) as model:
        async with opened(folder / "work") as (_, client):
            yield model, client


async def test_vectors_scores_and_images_are_answered_over_the_api(tmp_path):
    embed = [Request("several", 0, "embedding", "", inputs=("a", "b")), Request("one", 0, "embedding", "", prompt="b")]
    rank = Request("rank", 0, "rerank", "", prompt="fruit", inputs=("apple", "stone", "pear"))
    draw = Request("draw", 0, "image", "", prompt="a red square")
    async with served() as (_, url, _), opened(tmp_path / "work") as (_, client):
        found = {}
        for encoding in ("float", "base64"):
            config = GenerationConfig(extra_body={"encoding_format": encoding, "dimensions": 8})
            spec = ModelSpec("simulated", url=url, kind="embedding")
            found[encoding] = {one.sample_id: one async for one in client.generate(spec, embed, config)}
        several, one = found["float"]["several"], found["float"]["one"]
        assert [len(vector) for vector in several.embeddings] == [8, 8]
        assert one.embeddings == several.embeddings[1:]
        assert found["base64"]["several"].embeddings == tuple(map(pytest.approx, several.embeddings))
        [ranked] = [one async for one in client.generate(ModelSpec("simulated", url=url, kind="rerank"), [rank])]
        assert len(set(ranked.scores)) == 3
        [drawn] = [one async for one in client.generate(ModelSpec("simulated", url=url, kind="image"), [draw])]
        [part] = drawn.media
        assert (part.kind, part.mime) == ("image", "image/png")
        [stored] = (tmp_path / "work").rglob(part.sha256)
        assert sniff_mime(stored.read_bytes()) == "image/png"


async def test_an_image_by_address_is_not_fetched(tmp_path):
    draw = Request("draw", 0, "image", "", prompt="a red square")
    by_address = GenerationConfig(extra_body={"response_format": None})
    async with served() as (_, url, _), opened(tmp_path / "work") as (_, client):
        spec = ModelSpec("simulated", url=url, kind="image")
        [drawn] = [one async for one in client.generate(spec, [draw], by_address)]
    assert drawn.error is not None
    assert "response_format=b64_json" in drawn.error.message
    assert drawn.tries == 1


async def test_requests_of_a_wrong_form_are_refused_by_name(tmp_path):
    async with served() as (_, url, _), opened(tmp_path / "work") as (_, client):
        for kind, request, field in (
            ("rerank", Request("s", 0, "rerank", "", prompt="no documents"), "inputs"),
            ("embedding", Request("s", 0, "embedding", "", prompt="both", inputs=("a",)), "either"),
            ("chat", Request("s", 0, "chat", "", messages=(Message("user", "Hi"),), inputs=("a",)), "messages"),
            ("image", Request("s", 0, "image", "", prompt="x", inputs=("a",)), "inputs"),
        ):
            with pytest.raises(InvalidInput, match=field):
                await anext(client.generate(ModelSpec("simulated", url=url, kind=kind), [request]))
        [wrong] = [
            one
            async for one in client.generate(
                ModelSpec("simulated", url=url, kind="embedding"), [Request("s", 0, "completion", "", prompt="Hi")]
            )
        ]
        assert wrong.error is not None
        assert "does not serve completion requests" in wrong.error.message


@pytest.mark.parametrize(
    ("forms", "said"),
    [
        (("echo",), "completions with echo"),
        (("prompt_logprobs",), "vLLM's prompt_logprobs of completions"),
        (("generate",), "SGLang's input_token_logprobs"),
    ],
)
async def test_how_log_likelihoods_are_told_is_found_out_before_the_run(tmp_path, forms, said):
    questions = write_questions(tmp_path / "questions.jsonl", 12)
    async with judged(questions, tmp_path, forms) as (model, client):
        spec = ModelSpec("simulated", url=model.url)
        description = await client.describe_model(spec, "loglikelihood")
        assert description.logprobs is True
        assert any(said in note for note in description.notes)
        one = BenchmarkSpec("general_mcq", local_path=str(questions), extra={"mode": "loglikelihood"})
        run = await run_to_end(client, RunSpec(spec, (one,), shard_size=4))
        assert run.state is RunState.SUCCEEDED, run.error
        assert any(said in note for note in run.notes)
        right = sum(sample["right"] for sample in model.samples("general_mcq").values())
        metrics = await metrics_of(client, run, "general_mcq")
        assert metrics["acc"]["value"] == pytest.approx(right / 12)
        assert 0 < right < 12


async def test_a_server_that_tells_no_log_likelihoods_is_refused_by_name(tmp_path):
    questions = write_questions(tmp_path / "questions.jsonl", 4)
    async with judged(questions, tmp_path, ()) as (model, client):
        one = BenchmarkSpec("general_mcq", local_path=str(questions), extra={"mode": "loglikelihood"})
        with pytest.raises(InvalidInput, match=r"no log probabilities of a given text.*prompt_logprobs.*/generate"):
            await client.create_run(RunSpec(ModelSpec("simulated", url=model.url), (one,)))
        plain = BenchmarkSpec("general_mcq", local_path=str(questions))
        run = await run_to_end(client, RunSpec(ModelSpec("simulated", url=model.url), (plain,)))
        assert run.state is RunState.SUCCEEDED


async def test_needs_that_a_door_cannot_meet_are_refused_before_anything_is_asked(tmp_path):
    questions = write_questions(tmp_path / "questions.jsonl", 4)
    one = BenchmarkSpec("general_mcq", local_path=str(questions), extra={"mode": "loglikelihood"})
    plain = BenchmarkSpec("general_mcq", local_path=str(questions))
    async with served() as (_, url, _), opened(tmp_path / "work") as (_, client):
        messages = ModelSpec("simulated", engine="anthropic", url=url)
        with pytest.raises(InvalidInput, match="needs loglikelihood requests"):
            await client.create_run(RunSpec(messages, (one,)))
        with pytest.raises(InvalidInput, match=r"needs chat requests.*serves embedding"):
            await client.create_run(RunSpec(ModelSpec("simulated", url=url, kind="embedding"), (plain,)))
        penalised = RunSpec(messages, (plain,), GenerationConfig(frequency_penalty=1.0))
        with pytest.raises(InvalidInput, match=r"generation\.frequency_penalty"):
            await client.create_run(penalised)


async def test_a_run_over_messages_has_the_models_accuracy(tmp_path):
    questions = write_questions(tmp_path / "questions.jsonl", 40)
    async with judged(questions, tmp_path, ()) as (model, client):
        one = BenchmarkSpec("general_mcq", local_path=str(questions))
        values = {}
        for engine, path in (("openai", "/v1"), ("openai", "/v1/responses"), ("anthropic", "")):
            spec = ModelSpec("simulated", engine=engine, url=model.root + path, stream=path == "")
            run = await run_to_end(client, RunSpec(spec, (one,), shard_size=8))
            assert run.state is RunState.SUCCEEDED, run.error
            values[path] = (await metrics_of(client, run, "general_mcq"))["accuracy"]["value"]
        right = sum(sample["right"] for sample in model.samples("general_mcq").values())
        assert values == pytest.approx(dict.fromkeys(values, right / 3 / 40))


async def test_images_go_through_every_door(tmp_path):
    async with served() as (model, url, _), opened(tmp_path / "work") as (_, client):
        part = await client.upload_media(png(1, COLOURS[0]))
        look = Message("user", (ContentPart("text", "What colour is it?"), part))
        doors = (("openai", url), ("openai", f"{url}/responses"), ("anthropic", url))
        for number, (engine, address) in enumerate(doors, start=1):
            spec = ModelSpec("simulated", engine=engine, url=address)
            [answered] = [one async for one in client.generate(spec, [Request("s", 0, "chat", "", messages=(look,))])]
            assert answered.error is None
            assert model.stats.images == number
        sound = await client.upload_media(b"RIFF\x24\0\0\0WAVEfmt ")
        heard = Request("s", 0, "chat", "", messages=(Message("user", (sound,)),))
        [refused] = [one async for one in client.generate(spec, [heard])]
        assert refused.error is not None
        assert "audio/wav" in refused.error.message
