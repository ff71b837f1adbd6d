"""What a load test reports is what the server did: latencies, token gaps, arrivals, prompt lengths."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from tests.kit import load_tests as kit
from tests.kit.cli import evalmesh
from tests.kit.load_levels import Server, closed
from tests.kit.load_tests import Measured, assert_true, measure, measure_on_time, target
from tests.kit.simulator import SimulatorProcess, simulator

from evalmesh.domain.load_test import (
    ArrivalSpec,
    Lengths,
    LoadLevel,
    LoadTestSpec,
    PromptSpec,
    SearchSpec,
    SloTerm,
    Stage,
    TurnSpec,
)
from evalmesh.sdk import AsyncClient

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

PROMPTS = 4096
LOGNORMAL = "lognormal:median=%s,sigma=0.4,max=%s"
BURSTY = "bursty:base=%s,burst=%s,share=0.1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory) -> AsyncIterator[AsyncClient]:
    async with kit.load_platform(tmp_path_factory.mktemp("platform"), generators=4) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def numbered(client, tmp_path_factory) -> PromptSpec:
    """Prompts that are known apart at the server."""
    path = kit.write_prompts(tmp_path_factory.mktemp("prompts") / "prompts.txt", PROMPTS)
    return PromptSpec("line_by_line", await client.import_load_file(path), path.name)


@pytest.fixture(scope="module")
def idle() -> Iterator[SimulatorProcess]:
    """Answers at once."""
    with simulator("--truth") as model:
        yield model


def uniform(low: int, high: int) -> Lengths:
    return Lengths("uniform", low, high)


def exactly(tokens: int) -> Lengths:
    return Lengths("fixed", tokens, tokens)


def in_flight(
    model: SimulatorProcess, prompts: PromptSpec, parallel: int, number: int, *, stream: bool = True
) -> LoadTestSpec:
    """A closed loop whose first request per slot, which opens its connection, is warm-up."""
    return LoadTestSpec(
        target(model, stream=stream),
        prompts,
        levels=(LoadLevel(parallel, number=number),),
        warmup=float(parallel),
        server_metrics=(),
        check_endpoint=False,
    )


def assert_latencies(level: Measured) -> None:
    """Figures against the server's, of the same requests."""
    document, served = level.document, level.served
    assert document["ok"] == document["planned"]
    assert not document["client_limited"], document["client"]
    assert document["client"]["cpu"] < 0.7
    assert_true(document["ttft_ms"], kit.ttft_ms(served), "ttft")
    assert_true(document["e2e_ms"], kit.e2e_ms(served), "e2e")


def assert_gaps(level: Measured) -> None:
    document, served = level.document, level.served
    assert document["itl_ms"]["n"] == sum(line["tokens"] for line in served) - sum(
        line["tokens_per_chunk"] for line in served
    )
    assert_true(document["itl_ms"], kit.token_gaps_ms(served), "itl")
    assert_true(document["chunk_gap_ms"], kit.chunk_gaps_ms(served), "chunk gap")


class TestLatencies:
    @pytest.mark.parametrize(
        "case",
        [
            pytest.param(("200ms", "20ms", 32, 256, uniform(4, 16)), id="fixed-32"),
            pytest.param(
                (LOGNORMAL % ("150ms", "1s"), LOGNORMAL % ("20ms", "200ms"), 16, 128, uniform(8, 16)), id="lognormal-16"
            ),
            pytest.param(
                (BURSTY % ("150ms", "500ms"), BURSTY % ("20ms", "150ms"), 64, 320, uniform(8, 16)), id="bursty-64"
            ),
            pytest.param(
                (LOGNORMAL % ("400ms", "2s"), LOGNORMAL % ("80ms", "400ms"), 256, 768, uniform(4, 8)),
                id="lognormal-256",
            ),
            pytest.param(
                (LOGNORMAL % ("800ms", "2s"), LOGNORMAL % ("250ms", "1s"), 1024, 1280, uniform(2, 4)),
                id="lognormal-1024",
            ),
        ],
    )
    async def test_streams(self, client, numbered, tmp_path, case) -> None:
        ttft, itl, parallel, number, tokens = case
        with simulator("--truth", "--ttft", ttft, "--itl", itl) as model:
            spec = in_flight(model, replace(numbered, output_tokens=tokens), parallel, number)
            level = await measure_on_time(client, model, spec, tmp_path)
            assert model.stats()["max_in_flight"] == parallel
        assert level.document["client"]["peak_in_flight"] == parallel
        assert_latencies(level)
        assert_gaps(level)
        # A chunk with a role and no content comes at once: it is no token.
        assert level.document["first_byte_ms"]["p50"] < level.document["ttft_ms"]["p50"] / 4

    async def test_answers_in_one_piece(self, client, numbered, tmp_path) -> None:
        with simulator("--truth", "--ttft", "lognormal:median=100ms,sigma=0.3,max=1s", "--itl", "10ms") as model:
            spec = in_flight(model, replace(numbered, output_tokens=uniform(4, 32)), 16, 160, stream=False)
            level = await measure_on_time(client, model, spec, tmp_path)
        assert_latencies(level)
        assert level.document["ttft_ms"] == level.document["e2e_ms"]
        assert level.document["itl_ms"]["n"] == level.document["tpot_ms"]["n"] == 0
        assert level.document["output_tokens"]["total"] == sum(line["tokens"] for line in level.served)

    @pytest.mark.parametrize("per_chunk", [1, 4])
    async def test_tokens_in_chunks(self, client, numbered, tmp_path, per_chunk) -> None:
        """Without usage nobody can say how many tokens a chunk carried: then it counts as one."""
        with simulator("--truth", "--ttft", "100ms", "--itl", "10ms", "--tokens-per-chunk", str(per_chunk)) as model:
            spec = in_flight(model, replace(numbered, output_tokens=uniform(17, 32)), 16, 96)
            level = await measure_on_time(client, model, spec, tmp_path)
            body = {"stream_options": None}
            bare = replace(spec, prompts=replace(spec.prompts, body=body))
            without = await measure_on_time(client, model, bare, tmp_path)
        assert level.document["token_source"] == "usage"
        assert_latencies(level)
        assert_gaps(level)
        assert without.document["token_source"] == "counted"
        chunks = sum(len(line["times_s"]) for line in without.served)
        assert without.document["output_tokens"]["total"] == chunks
        assert_latencies(without)
        assert_true(without.document["itl_ms"], kit.chunk_gaps_ms(without.served), "itl")
        assert_true(without.document["chunk_gap_ms"], kit.chunk_gaps_ms(without.served), "chunk gap")

    async def test_reasoning_counts_from_its_first_token(self, client, numbered, tmp_path) -> None:
        with simulator("--truth", "--ttft", "100ms", "--itl", "10ms", "--reasoning-content") as model:
            spec = in_flight(model, replace(numbered, output_tokens=exactly(24)), 16, 64)
            level = await measure_on_time(client, model, spec, tmp_path)
        assert level.document["reasoning_tokens"]["min"] > 0
        assert_latencies(level)
        assert_gaps(level)


class TestArrivals:
    """As the server saw them. Whether the schedule is the law asked for is tested where it is made."""

    RATE = 200.0
    NUMBER = 400

    def spec(self, model: SimulatorProcess, numbered: PromptSpec, arrival: ArrivalSpec, **more: Any) -> LoadTestSpec:
        usual = {"levels": (LoadLevel(rate=self.RATE, number=self.NUMBER),)}
        return LoadTestSpec(
            target(model),
            replace(numbered, output_tokens=exactly(1)),
            arrival,
            server_metrics=(),
            check_endpoint=False,
            **(usual | more),
        )

    @pytest.mark.parametrize(
        "case",
        [
            pytest.param((ArrivalSpec("constant"), 1), id="constant-1"),
            pytest.param((ArrivalSpec("poisson"), 1), id="poisson-1"),
            pytest.param((ArrivalSpec("poisson"), 4), id="poisson-4"),
            pytest.param((ArrivalSpec("gamma", burstiness=0.25), 2), id="gamma-2"),
        ],
    )
    async def test_process(self, client, idle, numbered, tmp_path, case) -> None:
        arrival, generators = case
        spec = self.spec(idle, numbered, arrival, generators=generators)
        level = await measure_on_time(client, idle, spec, tmp_path)
        assert level.document["ok"] == self.NUMBER == len(level.truth)
        assert np.bincount(level.requests["generator"]).tolist() == [self.NUMBER // generators] * generators
        due = level.requests["due_s"]
        arrived = np.array([line["arrived_s"] for line in level.served])
        assert (arrived[-1] - arrived[0]) / (due[-1] - due[0]) == pytest.approx(1.0, abs=0.001)
        assert np.median(arrived - due - level.start_s) < 0.001
        gaps, planned = np.diff(np.sort(arrived)), np.diff(due)
        if arrival.kind == "constant":
            assert planned == pytest.approx(1 / self.RATE)
            assert kit.cv(gaps) < 0.1
            return
        assert kit.cv(gaps) == pytest.approx(kit.cv(planned), abs=0.03)
        assert kit.cv(planned) == pytest.approx(arrival.burstiness**-0.5, rel=0.15)
        law = np.random.default_rng(1).gamma(arrival.burstiness, 1 / arrival.burstiness, 200_000)
        # A server reads one request after the other: below a millisecond it cannot tell what it was sent at once.
        seen, lawful = gaps[gaps > 0.001] * self.RATE, law[law > 0.001 * self.RATE]
        assert len(seen) / len(gaps) == pytest.approx(len(lawful) / len(law), abs=0.05)
        assert kit.ks(seen, lawful) < 1.63

    async def test_generators_share_one_schedule(self, client, idle, numbered, tmp_path) -> None:
        spec = self.spec(idle, numbered, ArrivalSpec("poisson"), levels=(LoadLevel(rate=200, number=100),))
        alone = await measure(client, idle, spec, tmp_path)
        for generators in (2, 4):
            shared = await measure(client, idle, replace(spec, generators=generators), tmp_path)
            assert shared.requests["due_s"].tolist() == alone.requests["due_s"].tolist()
            assert (shared.requests["generator"] == np.arange(100) % generators).all()

    async def test_stages(self, client, idle, numbered, tmp_path) -> None:
        """A ramp of constant arrivals: the integrated rate at the n-th arrival is n."""
        stages = (Stage(1.5, 50, 250), Stage(0.5, 250, 250))
        spec = self.spec(idle, numbered, ArrivalSpec("constant"), levels=(LoadLevel(stages=stages),), generators=2)
        level = await measure_on_time(client, idle, spec, tmp_path)
        arrived = np.sort([line["arrived_s"] for line in level.truth]) - level.start_s
        assert len(arrived) == level.document["planned"] == 350
        ramp = np.minimum(arrived, 1.5)
        integrated = 50 * ramp + (200 / 1.5) * ramp**2 / 2 + 250 * np.maximum(arrived - 1.5, 0)
        assert np.max(np.abs(integrated - np.arange(350))) < 0.01 * 350

    async def test_trace(self, client, idle, tmp_path) -> None:
        """Times, prompt lengths and answer lengths are the recorded ones, twice as fast."""
        rng = np.random.default_rng(3)
        times = np.cumsum(rng.exponential(0.02, 200))
        rows = [
            {"timestamp": round(float(at), 4), "input_tokens": int(rng.integers(8, 200)), "output_tokens": 1 + n % 5}
            for n, at in enumerate(times)
        ]
        path = tmp_path / "trace.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        prompts = PromptSpec("trace", await client.import_load_file(path), path.name)
        spec = LoadTestSpec(
            target(idle), prompts, ArrivalSpec("trace", speed=2.0), (LoadLevel(),), server_metrics=(), generators=2
        )
        level = await measure_on_time(client, idle, spec, tmp_path)
        recorded = np.array([row["timestamp"] for row in rows])
        assert level.requests["due_s"] == pytest.approx((recorded - recorded[0]) / 2)
        assert level.requests["input_tokens"].tolist() == [row["input_tokens"] for row in rows]
        assert level.requests["output_tokens"].tolist() == [row["output_tokens"] for row in rows]
        served = [line for line in level.truth if line["stream"]]
        assert sorted((line["prompt_tokens"], line["tokens"]) for line in served) == sorted(
            (row["input_tokens"], row["output_tokens"]) for row in rows
        )
        arrived = np.sort([line["arrived_s"] for line in served])
        assert arrived[-1] - arrived[0] == pytest.approx((recorded[-1] - recorded[0]) / 2, rel=0.001)
        assert kit.ks(np.diff(arrived), rng.exponential(0.01, 200_000)) < 1.63


class TestPrompts:
    async def test_lengths_are_exact_as_the_server_counts(self, client, tmp_path) -> None:
        with simulator("--truth", "--template-tokens", "9") as model:
            prompts = PromptSpec("random", input_tokens=exactly(64), output_tokens=exactly(4))
            spec = LoadTestSpec(target(model), prompts, levels=(LoadLevel(8, number=100),), server_metrics=())
            level = await measure(client, model, spec, tmp_path)
            drawn = replace(spec, prompts=replace(prompts, input_tokens=uniform(32, 200)), generators=2)
            other = await measure(client, model, drawn, tmp_path)
        counted = level.document["input_tokens"]
        assert counted["min"] == counted["max"] == 64
        assert level.requests["input_tokens"].tolist() == [64] * 100
        assert [line["prompt_tokens"] for line in level.truth if line["stream"]] == [64] * 100
        assert other.requests["input_tokens"].tolist() == other.requests["prepared_tokens"].tolist()
        assert len(set(other.requests["input_tokens"].tolist())) > 50
        assert sorted(line["prompt_tokens"] for line in other.truth if line["stream"]) == sorted(
            other.requests["input_tokens"].tolist()
        )

    async def test_shared_prefixes(self, client, tmp_path) -> None:
        with simulator() as model:
            prompts = PromptSpec(
                "random", input_tokens=exactly(64), prefix_tokens=40, prefix_count=2, output_tokens=exactly(4)
            )
            spec = LoadTestSpec(target(model), prompts, levels=(LoadLevel(1, number=20),), server_metrics=())
            previewed = await client.preview_load_test(spec, 20)
        words = [json.loads(one.body)["messages"][0]["content"].split() for one in previewed]
        assert len({tuple(text[:40]) for text in words}) == 2
        assert len({tuple(text[40:]) for text in words}) == 20

    async def test_conversations_grow(self, client, tmp_path) -> None:
        """Each turn brings 20 tokens; before it stand all turns so far and their answers of 8."""
        talks, asked = 24, [20, 48, 76]
        prompts = PromptSpec(
            "random_multi_turn",
            input_tokens=exactly(20),
            output_tokens=exactly(8),
            turns=TurnSpec(3, 3),
            body={"ignore_eos": True},
        )
        with simulator("--truth", "--ttft", "lognormal:median=100ms,sigma=0.4,max=1s", "--itl", "5ms") as model:
            spec = LoadTestSpec(
                target(model), prompts, levels=(LoadLevel(8, number=talks),), server_metrics=(), generators=2
            )
            level = await measure_on_time(client, model, spec, tmp_path)
        document = level.document
        assert document["ok"] == document["planned"] == 3 * talks
        served = [line for line in level.truth if line["stream"]]
        assert sorted(line["prompt_tokens"] for line in served) == sorted(asked * talks)
        by_name = {turn["name"]: turn for turn in document["turns"]}
        for position, tokens in enumerate(asked):
            turn = level.requests["turn"] == position
            assert set(level.requests["input_tokens"][turn].tolist()) == {tokens}
            told = by_name[f"turn {position + 1}"]
            assert told["input_tokens"]["min"] == told["input_tokens"]["max"] == tokens
            if told["requests"] == talks:  # else some were due after the window
                alike = [line for line in served if line["prompt_tokens"] == tokens]
                assert_true(told["ttft_ms"], kit.ttft_ms(alike), f"ttft of turn {position + 1}")
        first = level.requests["turn"] == 0
        ends = dict(zip(level.requests["index"][first], level.requests["end_s"][first], strict=True))
        second = level.requests["turn"] == 1
        assert all(
            at >= ends[talk]
            for talk, at in zip(level.requests["index"][second], level.requests["send_s"][second], strict=True)
        )


class TestSchedule:
    async def test_a_freeze_shows_from_the_schedule(self, client, numbered, tmp_path) -> None:
        """Requests that a frozen server keeps waiting behind the cap are late, although they are served at once."""
        with simulator("--truth", "--ttft", "50ms", "--itl", "10ms", "--freeze", "500ms/2s") as model:
            spec = LoadTestSpec(
                target(model),
                replace(numbered, output_tokens=exactly(4)),
                ArrivalSpec("constant"),
                (LoadLevel(16, rate=100.0, number=600),),
                server_metrics=(),
                check_endpoint=False,
            )
            level = await measure_on_time(client, model, spec, tmp_path)
        document, served = level.document, level.served
        assert len(served) == document["ok"] == 600
        due = level.start_s + np.arange(600) / 100
        assert_true(document["ttft_due_ms"], 1000 * (np.array([line["first_s"] for line in served]) - due), "ttft")
        assert_true(document["e2e_due_ms"], 1000 * (np.array([line["last_s"] for line in served]) - due), "e2e")
        assert document["ttft_due_ms"]["p90"] > 3 * document["ttft_ms"]["p90"]
        assert document["queue_ms"]["p90"] > document["ttft_ms"]["p90"]
        assert not document["client_limited"], document["client"]

    async def test_the_search_finds_the_knee(self, client, tmp_path) -> None:
        """32 slots: beyond them requests wait. The truth is that of a queue simulated to the event."""
        server = Server(slots=32, ttft_s=0.05, token_s=0.005)
        met = [p for p in range(30, 48) if np.quantile(_waits_ms(server, p), 0.95) <= 100]
        prompts = PromptSpec(
            "random", input_tokens=exactly(16), output_tokens=uniform(16, 48), body={"ignore_eos": True}
        )
        with simulator("--truth", "--ttft", "50ms", "--itl", "5ms", "--max-concurrency", "32") as model:
            kit.put_first(model.process.pid, *kit.engines())
            spec = LoadTestSpec(
                target(model),
                prompts,
                slo=(SloTerm("ttft", "p95", 100.0),),
                search=SearchSpec("parallel", low=24, high=64, level_s=1.0),
                server_metrics=(),
            )
            _, report = await kit.run_to_end(client, spec)
        found = report["search"]
        assert found["state"] == "found", found
        assert abs(found["answer"] - max(met)) <= 1, found


def _waits_ms(server: Server, parallel: int) -> np.ndarray:
    table = closed(server, parallel, number=6000)[1000:]
    return 1000 * (table["first_s"] - table["send_s"])


class TestBeyondCapacity:
    async def test_a_client_that_is_too_slow_says_so(self, tmp_path) -> None:
        """A server that costs nothing, and answers of 500 events, of which a client reads some hundred a second."""
        async with at_once(events=500) as url:
            load = ("--rate", "20000", "--number", "3000", "--parallel", "64", "--max-tokens", "500", "--strict")
            command = ("perf", "--url", url, "--model", "m", *load, "--dataset", "random", "--min-prompt-length", "16")
            done = await asyncio.to_thread(evalmesh, *command, "--max-prompt-length", "16", cwd=tmp_path)
        assert done.returncode == 6, done.stderr
        assert "BOTTLENECK" in done.stdout
        (path,) = tmp_path.glob("outputs/*/perf.json")
        (level,) = json.loads(path.read_text())["levels"]
        assert level["client_limited"]
        assert level["ok"] == 3000


@asynccontextmanager
async def at_once(events: int) -> AsyncIterator[str]:
    """A server that sends every answer ready-made, without looking at the request."""
    word = b'data: {"choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\ndata: [DONE]\n\n'
    body = word * events + end
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body)

    class Answering(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.heard = transport, b""

        def data_received(self, data: bytes) -> None:
            self.heard += data
            found = re.search(rb"(?i)content-length: (\d+)\r\n.*?\r\n\r\n|\r\n\r\n", self.heard, re.DOTALL)
            if found and len(self.heard) >= found.end() + int(found.group(1) or 0):
                self.heard = b""
                self.transport.write(head + body)

    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions"
    finally:
        server.close()
