"""The APIs beside chat, and what the simulator tells Prometheus, asked as their own clients ask."""

import asyncio
import base64
import json
import re
import struct

import pytest
from tests.kit.simulator import served

from evalmesh.simulator.distribution import constant
from evalmesh.simulator.faults import parse_fault
from evalmesh.simulator.render import Style
from evalmesh.simulator.tokens import count_tokens


async def post(session, url, path, body, status=200):
    async with session.post(f"{url}/{path}", json=body) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def typed_events(session, url, body):
    async with session.post(f"{url}/responses", json=body) as answer:
        assert answer.content_type == "text/event-stream"
        text = await answer.text()
    events = []
    for block in text.strip().split("\n\n"):
        kind, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert kind == f"event: {event['type']}"
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


@pytest.mark.parametrize("reasoning", [False, True])
@pytest.mark.parametrize("size", [1, 3])
async def test_a_response_is_the_same_whole_and_as_events(reasoning, size):
    style = Style(1.0, reasoning_content=reasoning)
    async with served(style=style, tokens_per_chunk=size, truth_size=10) as (_, url, session):
        body = {"model": "m", "input": "Say something", "instructions": "Be brief"}
        whole = await post(session, url, "responses", body)
        assert (whole["object"], whole["status"]) == ("response", "completed")
        (message,) = [item for item in whole["output"] if item["type"] == "message"]
        text = message["content"][0]["text"]
        thoughts = [item["content"][0]["text"] for item in whole["output"] if item["type"] == "reasoning"]
        assert bool(thoughts) == reasoning
        usage = whole["usage"]
        assert usage["input_tokens"] == count_tokens("Say something") + count_tokens("Be brief")
        assert usage["output_tokens"] == count_tokens(text) + sum(map(count_tokens, thoughts))

        events = await typed_events(session, url, body | {"stream": True})
        kinds = [event["type"] for event in events]
        assert kinds[:2] == ["response.created", "response.in_progress"]
        assert kinds[-1] == "response.completed"
        assert "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta") == text
        assert "".join(e["delta"] for e in events if e["type"] == "response.reasoning_text.delta") == "".join(thoughts)
        assert events[-1]["response"]["usage"] == usage
        async with session.get(f"{url}/truth") as answer:
            lines = [json.loads(line) for line in (await answer.text()).splitlines()]
        assert [(line["endpoint"], line["tokens"]) for line in lines] == [("responses", usage["output_tokens"])] * 2


async def test_a_response_that_is_cut_says_so():
    async with served() as (_, url, session):
        body = {"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]}
        whole = await post(session, url, "responses", body | {"max_output_tokens": 3})
        assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
        assert whole["usage"]["output_tokens"] == 3
        events = await typed_events(session, url, body | {"max_output_tokens": 3, "stream": True})
        assert events[-1]["type"] == "response.incomplete"
        await post(session, url, "responses", {"model": "m", "input": ""}, 400)
        await post(session, url, "responses", {"model": "m", "input": [{"role": 3}]}, 400)


@pytest.mark.parametrize(("kind", "last"), [("truncated", "response.output_text.delta"), ("error_event", "error")])
async def test_a_broken_response_has_no_end(kind, last):
    async with served(faults=(parse_fault(f"{kind}:every=1"),)) as (simulator, url, session):
        async with session.post(f"{url}/responses", json={"model": "m", "input": "x", "stream": True}) as answer:
            text = await answer.text()
        assert text.strip().split("\n\n")[-1].startswith(f"event: {last}\n")
        assert (simulator.stats.answered, simulator.stats.faults) == (0, {kind: 1})


async def test_embeddings_take_texts_and_token_ids():
    async with served() as (simulator, url, session):
        texts = ["one two three", "four"]
        body = await post(session, url, "embeddings", {"model": "m", "input": texts})
        assert [one["index"] for one in body["data"]] == [0, 1]
        assert {len(one["embedding"]) for one in body["data"]} == {64}
        assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
        again = await post(
            session, url, "embeddings", {"model": "m", "input": texts[1], "encoding_format": "base64", "dimensions": 64}
        )
        packed = struct.unpack("<64f", base64.b64decode(again["data"][0]["embedding"]))
        assert packed == pytest.approx(body["data"][1]["embedding"], abs=1e-6)
        for ids, n_texts, n_tokens in (([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3)):
            body = await post(session, url, "embeddings", {"model": "m", "input": ids, "dimensions": 2})
            assert (len(body["data"]), body["usage"]["prompt_tokens"]) == (n_texts, n_tokens)
        assert simulator.stats.requests == 4
        await post(session, url, "embeddings", {"model": "m", "input": []}, 400)
        await post(session, url, "embeddings", {"model": "m", "input": "x", "stream": True}, 400)


async def test_rerank_answers_as_jina_and_as_cohere_do():
    documents = ["red apples", {"text": "a blue sky at noon"}, "green"]
    body = {"model": "m", "query": "which colour", "documents": documents}
    async with served() as (_, url, session):
        jina = await post(session, url, "rerank", body)
        scores = [one["relevance_score"] for one in jina["results"]]
        assert scores == sorted(scores, reverse=True)
        assert sorted(one["index"] for one in jina["results"]) == [0, 1, 2]
        texts = {one["index"]: one["document"]["text"] for one in jina["results"]}
        assert texts == {0: "red apples", 1: "a blue sky at noon", 2: "green"}
        assert jina["usage"]["total_tokens"] == 3 * 2 + 2 + 5 + 1
        cohere = await post(session, url.removesuffix("/v1"), "v2/rerank", body | {"top_n": 2})
        assert [one["index"] for one in cohere["results"]] == [one["index"] for one in jina["results"][:2]]
        assert "document" not in cohere["results"][0]
        assert "usage" not in cohere
        assert cohere["meta"] == {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
        await post(session, url, "rerank", {"model": "m", "query": "q", "documents": []}, 400)
    async with served(rerank_form="cohere") as (_, url, session):
        assert (await post(session, url, "rerank", body))["meta"]["api_version"] == {"version": "1"}


@pytest.mark.parametrize("path", ["embeddings", "rerank"])
async def test_faults_hit_the_other_apis_too(path):
    body = {"embeddings": {"input": ["a", "b"]}, "rerank": {"query": "a", "documents": ["b", "c"]}}[path]
    rows = {"embeddings": "data", "rerank": "results"}[path]
    async with served(faults=(parse_fault("truncated:tries=1"),)) as (_, url, session):
        assert len((await post(session, url, path, body))[rows]) == 1
        assert len((await post(session, url, path, body))[rows]) == 2
    async with served(faults=(parse_fault("empty:tries=1"),)) as (simulator, url, session):
        assert (await post(session, url, path, body))[rows] == []
        assert len((await post(session, url, path, body))[rows]) == 2
        assert simulator.stats.faults == {"empty": 1}


async def test_images_are_counted_and_not_looked_at():
    parts = [{"type": "text", "text": "What is it?"}] + 2 * [{"type": "image_url", "image_url": {"url": "data:,"}}]
    async with served(truth_size=3) as (simulator, url, session):
        body = {"model": "m", "messages": [{"role": "user", "content": parts}]}
        answer = await post(session, url, "chat/completions", body)
        assert answer["usage"]["prompt_tokens"] == count_tokens("What is it?")
        assert simulator.stats.images == 2


async def test_usage_can_come_with_every_chunk_and_tell_of_the_cache():
    settings = {"template_tokens": 10, "cached_share": 0.5, "tokens_per_chunk": 2}
    async with served(**settings) as (_, url, session):
        options = {"include_usage": True, "continuous_usage_stats": True}
        body = {"model": "m", "messages": [{"role": "user", "content": "a b"}], "max_tokens": 5, "ignore_eos": True}
        async with session.post(
            f"{url}/chat/completions", json=body | {"stream": True, "stream_options": options}
        ) as answer:
            lines = [line[6:] async for line in answer.content if line.startswith(b"data: {")]
        chunks = [json.loads(line) for line in lines]
        assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [0, 2, 4, 5, 5, 5]
        usage = chunks[-1]["usage"]
        assert (usage["prompt_tokens"], usage["prompt_tokens_details"]) == (12, {"cached_tokens": 6})


async def test_tokenize_counts_as_usage_does():
    async with served(template_tokens=4) as (_, url, session):
        root = url.removesuffix("/v1")
        messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello, you there!"}]
        counted = await post(session, root, "tokenize", {"model": "m", "messages": messages})
        answer = await post(session, url, "chat/completions", {"model": "m", "messages": messages})
        assert counted["count"] == len(counted["tokens"]) == answer["usage"]["prompt_tokens"]
        counted = await post(session, root, "tokenize", {"model": "m", "prompt": "Hello, you there!"})
        body = {"model": "m", "prompt": counted["tokens"]}
        answer = await post(session, url, "completions", body)
        assert answer["usage"]["prompt_tokens"] == counted["count"] == 5
        await post(session, root, "tokenize", {"model": "m"}, 400)


def metrics_in(text):
    """{name: value} of lines without labels but the model's, histogram sums and counts included."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, value = re.fullmatch(r"([\w:]+)\{[^}]*\} ([\d.e+-]+)", line).groups()
        found[name] = float(value)
    return found


async def scrape(session, url):
    async with session.get(f"{url.removesuffix('/v1')}/metrics") as answer:
        assert answer.content_type == "text/plain"
        return metrics_in(await answer.text())


async def test_metrics_follow_the_load():
    settings = {"ttft": constant(0.1), "itl": constant(0.01), "max_concurrency": 2, "gpu_metrics": True}
    async with served(**settings) as (_, url, session):
        body = {"model": "m", "messages": [{"role": "user", "content": "a b"}], "max_tokens": 20, "ignore_eos": True}
        idle = await scrape(session, url)
        asked = [
            asyncio.create_task(post_stream(session, url, body | {"stream": True, "seed": seed})) for seed in range(3)
        ]
        await asyncio.sleep(0.2)
        busy = await scrape(session, url)
        await asyncio.gather(*asked)
        after = await scrape(session, url)
    assert (busy["vllm:num_requests_running"], busy["vllm:num_requests_waiting"]) == (2, 1)
    assert idle["vllm:kv_cache_usage_perc"] == after["vllm:kv_cache_usage_perc"] == 0 < busy["vllm:kv_cache_usage_perc"]
    assert 0 < busy["vllm:generation_tokens_total"] < 60
    assert (after["vllm:generation_tokens_total"], after["vllm:prompt_tokens_total"]) == (60, 6)
    assert after["vllm:request_success_total"] == after["vllm:time_to_first_token_seconds_count"] == 3
    assert after["vllm:time_to_first_token_seconds_sum"] >= 3 * 0.1 + 0.29
    assert (idle["DCGM_FI_DEV_GPU_UTIL"], busy["DCGM_FI_DEV_GPU_UTIL"], after["DCGM_FI_DEV_GPU_UTIL"]) == (0, 100, 0)
    assert busy["DCGM_FI_DEV_POWER_USAGE"] > after["DCGM_FI_DEV_POWER_USAGE"]
    used_j = (after["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] - idle["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"]) / 1e3
    assert used_j > 0.29 * 350 + 0.29 * 220 - 1, "two at once, then one alone"


async def post_stream(session, url, body):
    async with session.post(f"{url}/chat/completions", json=body) as answer:
        return await answer.read()


async def test_a_cache_that_is_too_small_preempts():
    async with served(ttft=constant(0.05), kv_tokens=50) as (_, url, session):
        body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "max_tokens": 30, "ignore_eos": True}
        await asyncio.gather(*(post(session, url, "chat/completions", body | {"seed": i}) for i in range(3)))
        found = await scrape(session, url)
        assert (found["vllm:num_preemptions_total"], found["vllm:kv_cache_usage_perc"]) == (2, 0)


@pytest.mark.parametrize(
    ("flavour", "running", "done"),
    [
        ("sglang", "sglang:num_running_reqs", "sglang:num_requests_total"),
        ("tgi", "tgi_batch_current_size", "tgi_request_success"),
    ],
)
async def test_metrics_have_the_names_of_other_servers(flavour, running, done):
    async with served(metrics=flavour) as (_, url, session):
        await post(session, url, "chat/completions", {"model": "m", "messages": [{"role": "user", "content": "a"}]})
        found = await scrape(session, url)
        assert (found[running], found[done]) == (0, 1)
    async with served(metrics="none") as (_, url, session), session.get(f"{url}/metrics") as answer:
        assert answer.status == 404
