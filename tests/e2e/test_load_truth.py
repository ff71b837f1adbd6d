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
from tests.kit.load_tests import Measured, assert_true, measure, prove, target
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

pytestmark = [pytest.mark.alone, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

PROMPTS = 4096
LOGNORMAL = "lognormal:median=%s,sigma=0.4,max=%s"
BURSTY = "bursty:base=%s,burst=%s,share=0.1"
EVEN = ("--ttft", LOGNORMAL % ("150ms", "1s"), "--itl", "10ms")
"""Equal gaps, and requests that do not come in waves, of which a server reads the last one late."""


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


def latencies_are_true(level: Measured) -> None:
    """Figures against the server's, of the same requests."""
    document, served = level.document, level.served
    assert document["ok"] == document["planned"]
    assert document["client"]["cpu"] < 0.7
    assert_true(document["ttft_ms"], kit.ttft_ms(served), "ttft")
    assert_true(document["e2e_ms"], kit.e2e_ms(served), "e2e")


def streams_are_true(level: Measured) -> None:
    """The same, and each token's gap."""
    latencies_are_true(level)
    document, told = level.document, level.gaps_told
    if len(told) == document["planned"]:
        assert document["itl_ms"]["n"] == sum(line["tokens"] - line["tokens_per_chunk"] for line in told)
    assert_true(document["itl_ms"], kit.token_gaps_ms(told), "itl")
    assert_true(document["chunk_gap_ms"], kit.chunk_gaps_ms(told), "chunk gap")


def schedule_is_true(level: Measured) -> None:
    """Constant arrivals at 100 a second: latencies from when each request should have been sent."""
    document, served = level.document, level.served
    due_s = np.flatnonzero(level.counted) / 100
    assert level.requests["due_s"][level.counted] == pytest.approx(due_s)
    for name in ("first_s", "last_s"):
        truth_ms = 1000 * (np.array([line[name] for line in served]) - level.start_s - due_s)
        assert_true(document["ttft_due_ms" if name == "first_s" else "e2e_due_ms"], truth_ms, f"{name} from due")


def chunks_are_true(level: Measured) -> None:
    """Where nothing says how many tokens a chunk carried, it is one."""
    latencies_are_true(level)
    document, gaps_ms = level.document, kit.chunk_gaps_ms(level.gaps_told)
    assert document["token_source"] == "counted"
    assert document["output_tokens"]["total"] == sum(len(line["times_s"]) for line in level.served)
    assert_true(document["itl_ms"], gaps_ms, "itl")
    assert_true(document["chunk_gap_ms"], gaps_ms, "chunk gap")


class TestLatencies:
    @pytest.mark.parametrize(
        "case",
        [
            pytest.param(("200ms", "20ms", 32, 160, uniform(4, 16)), id="fixed-32"),
            pytest.param(
                (LOGNORMAL % ("150ms", "1s"), LOGNORMAL % ("20ms", "200ms"), 16, 96, uniform(8, 16)), id="lognormal-16"
            ),
            pytest.param(
                (BURSTY % ("150ms", "500ms"), BURSTY % ("20ms", "150ms"), 64, 320, uniform(8, 16)), id="bursty-64"
            ),
            pytest.param(
                (LOGNORMAL % ("400ms", "2s"), LOGNORMAL % ("80ms", "400ms"), 256, 512, uniform(4, 8)),
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
            level = await prove(client, model, spec, tmp_path, streams_are_true)
            assert model.stats()["max_in_flight"] == parallel
        assert level.document["client"]["peak_in_flight"] == parallel
        # A chunk with a role and no content comes at once: it is no token.
        assert level.document["first_byte_ms"]["p50"] < level.document["ttft_ms"]["p50"] / 4

    async def test_answers_in_one_piece(self, client, numbered, tmp_path) -> None:
        with simulator("--truth", *EVEN) as model:
            spec = in_flight(model, replace(numbered, output_tokens=uniform(4, 32)), 16, 96, stream=False)
            level = await prove(client, model, spec, tmp_path, latencies_are_true)
        assert level.document["ttft_ms"] == level.document["e2e_ms"]
        assert level.document["itl_ms"]["n"] == level.document["tpot_ms"]["n"] == 0
        assert level.document["output_tokens"]["total"] == sum(line["tokens"] for line in level.served)

    @pytest.mark.parametrize("per_chunk", [1, 4])
    async def test_tokens_in_chunks(self, client, numbered, tmp_path, per_chunk) -> None:
        with simulator("--truth", *EVEN, "--tokens-per-chunk", str(per_chunk)) as model:
            spec = in_flight(model, replace(numbered, output_tokens=uniform(17, 32)), 16, 64)
            level = await prove(client, model, spec, tmp_path, streams_are_true)
            assert level.document["token_source"] == "usage"
            bare = replace(spec, prompts=replace(spec.prompts, body={"stream_options": None}))
            await prove(client, model, bare, tmp_path, chunks_are_true)

    async def test_reasoning_counts_from_its_first_token(self, client, numbered, tmp_path) -> None:
        with simulator("--truth", *EVEN, "--reasoning-content") as model:
            spec = in_flight(model, replace(numbered, output_tokens=exactly(24)), 16, 64)
            level = await prove(client, model, spec, tmp_path, streams_are_true)
        assert level.document["reasoning_tokens"]["min"] > 0


class TestArrivals:
    """As the server saw them. Whether the schedule is the law asked for is tested where it is made."""

    def spec(self, model: SimulatorProcess, numbered: PromptSpec, arrival: ArrivalSpec, **more: Any) -> LoadTestSpec:
        usual = {"levels": (LoadLevel(rate=200.0, number=100),)}
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
            pytest.param((ArrivalSpec("constant"), 1, 50.0), id="constant-1"),
            pytest.param((ArrivalSpec("poisson"), 1, 200.0), id="poisson-1"),
            pytest.param((ArrivalSpec("poisson"), 4, 200.0), id="poisson-4"),
            pytest.param((ArrivalSpec("gamma", burstiness=0.25), 2, 200.0), id="gamma-2"),
        ],
    )
    async def test_process(self, client, idle, numbered, tmp_path, case) -> None:
        arrival, generators, rate = case
        number = round(2 * rate)
        wanted = LoadLevel(rate=rate, number=number)
        spec = self.spec(idle, numbered, arrival, generators=generators, levels=(wanted,))
        law = np.random.default_rng(1).gamma(arrival.burstiness, 1 / arrival.burstiness, 200_000) / rate

        def is_the_process(level: Measured) -> None:
            due = level.requests["due_s"]
            arrived = np.array([level.lines[row]["arrived_s"] for row in range(number)])
            # By all arrivals: one that is a millisecond late is no other rate.
            assert np.polyfit(due, arrived - arrived[0], 1)[0] == pytest.approx(1.0, abs=0.001)
            gaps, planned = np.diff(np.sort(arrived)), np.diff(due)
            if arrival.kind == "constant":
                assert planned == pytest.approx(1 / rate)
                assert kit.cv(gaps) < 0.1
                return
            assert kit.cv(gaps) == pytest.approx(kit.cv(planned), rel=0.03)
            assert kit.cv(planned) == pytest.approx(arrival.burstiness**-0.5, rel=0.15)
            # A server reads one request after the other: below a millisecond it cannot tell what was sent at once.
            seen, lawful = gaps[gaps > 0.001], law[law > 0.001]
            assert len(seen) / len(gaps) == pytest.approx(len(lawful) / len(law), abs=0.05)
            assert kit.ks(seen, lawful) < 1.63

        level = await prove(client, idle, spec, tmp_path, is_the_process)
        assert level.document["ok"] == number == len(level.truth)
        assert np.bincount(level.requests["generator"]).tolist() == [number // generators] * generators

    async def test_generators_share_one_schedule(self, client, idle, numbered, tmp_path) -> None:
        spec = self.spec(idle, numbered, ArrivalSpec("poisson"))
        alone = await measure(client, idle, spec, tmp_path)
        for generators in (2, 4):
            shared = await measure(client, idle, replace(spec, generators=generators), tmp_path)
            assert shared.requests["due_s"].tolist() == alone.requests["due_s"].tolist()
            assert (shared.requests["generator"] == np.arange(100) % generators).all()

    async def test_stages(self, client, idle, numbered, tmp_path) -> None:
        """A ramp of constant arrivals: the integrated rate at the n-th arrival is n."""
        stages = (Stage(1.5, 50, 250), Stage(0.5, 250, 250))
        spec = self.spec(idle, numbered, ArrivalSpec("constant"), levels=(LoadLevel(stages=stages),), generators=2)

        def follows_the_ramp(level: Measured) -> None:
            arrived = np.sort([line["arrived_s"] for line in level.truth]) - level.start_s
            assert len(arrived) == level.document["planned"] == 350
            ramp = np.minimum(arrived, 1.5)
            integrated = 50 * ramp + (200 / 1.5) * ramp**2 / 2 + 250 * np.maximum(arrived - 1.5, 0)
            assert np.max(np.abs(integrated - np.arange(350))) < 0.01 * 350

        await prove(client, idle, spec, tmp_path, follows_the_ramp)

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
        recorded = np.array([row["timestamp"] for row in rows])

        def is_the_trace(level: Measured) -> None:
            arrived = np.sort([line["arrived_s"] for line in level.truth if line["stream"]])
            assert arrived[-1] - arrived[0] == pytest.approx((recorded[-1] - recorded[0]) / 2, rel=0.001)
            assert kit.ks(np.diff(arrived), rng.exponential(0.01, 200_000)) < 1.63

        level = await prove(client, idle, spec, tmp_path, is_the_trace)
        assert level.requests["due_s"] == pytest.approx((recorded - recorded[0]) / 2)
        assert level.requests["input_tokens"].tolist() == [row["input_tokens"] for row in rows]
        assert level.requests["output_tokens"].tolist() == [row["output_tokens"] for row in rows]
        assert sorted((line["prompt_tokens"], line["tokens"]) for line in level.truth if line["stream"]) == sorted(
            (row["input_tokens"], row["output_tokens"]) for row in rows
        )


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
        talks, asked = 32, [20, 48, 76]
        prompts = PromptSpec(
            "random_multi_turn",
            input_tokens=exactly(20),
            output_tokens=exactly(8),
            turns=TurnSpec(3, 3),
            body={"ignore_eos": True},
        )
        with simulator("--truth", "--ttft", "lognormal:median=100ms,sigma=0.4,max=1s", "--itl", "5ms") as model:
            spec = LoadTestSpec(
                target(model),
                prompts,
                levels=(LoadLevel(8, number=talks - 8),),
                warmup=8.0,
                server_metrics=(),
                generators=2,
            )

            def turns_are_true(level: Measured) -> None:
                told = {turn["name"]: turn for turn in level.document["turns"]}
                for position, tokens in enumerate(asked):
                    one = told[f"turn {position + 1}"]
                    assert one["input_tokens"]["min"] == one["input_tokens"]["max"] == tokens
                    assert_true(one["ttft_ms"], kit.ttft_ms(_lines_of_turn(level, position, tokens)), one["name"])

            level = await prove(client, model, spec, tmp_path, turns_are_true)
        assert level.document["ok"] == level.document["planned"] == 3 * (talks - 8)
        assert sorted(line["prompt_tokens"] for line in level.truth if line["stream"]) == sorted(asked * talks)
        for position, tokens in enumerate(asked):
            assert set(level.requests["input_tokens"][level.requests["turn"] == position].tolist()) == {tokens}
        # In order of index and turn: each turn is sent when the answer before it is there.
        sent, ended = (level.requests[name].reshape(talks, 3) for name in ("send_s", "end_s"))
        assert (sent[:, 1:] >= ended[:, :-1]).all()


def _lines_of_turn(level: Measured, position: int, prompt_tokens: int) -> list[kit.Line]:
    """The server's lines of the counted requests of one turn, known by its prompt's length and the order of sending."""
    of_turn = np.flatnonzero(level.requests["turn"] == position)
    of_turn = of_turn[np.argsort(level.requests["send_s"][of_turn])]
    lines = [line for line in level.truth if line["stream"] and line["prompt_tokens"] == prompt_tokens]
    return [line for line, counts in zip(lines, level.counted[of_turn], strict=True) if counts]


class TestSchedule:
    async def test_a_freeze_shows_from_the_schedule(self, client, numbered, tmp_path) -> None:
        """Requests that a frozen server keeps waiting behind the cap are late, although they are served at once."""
        with simulator("--truth", "--ttft", "50ms", "--itl", "10ms", "--freeze", "500ms/2s") as model:
            spec = LoadTestSpec(
                target(model),
                replace(numbered, output_tokens=exactly(4)),
                ArrivalSpec("constant"),
                (LoadLevel(16, rate=100.0, number=400),),
                server_metrics=(),
                check_endpoint=False,
            )
            level = await prove(client, model, spec, tmp_path, schedule_is_true)
        document = level.document
        assert document["ok"] == 400
        assert document["ttft_due_ms"]["p90"] > 3 * document["ttft_ms"]["p90"]
        # That they waited is the cap's doing, and not the client's.
        assert document["queue_ms"]["p90"] > 10 * document["send_lag_ms"]["p90"]

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
                search=SearchSpec("parallel", low=30, high=42, level_s=1.0),
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
        """A server that costs nothing, and answers of 300 events, of which a client reads some hundred a second."""
        async with at_once(events=300) as url:
            load = ("--rate", "20000", "--number", "1000", "--parallel", "64", "--max-tokens", "300", "--strict")
            command = ("perf", "--url", url, "--model", "m", *load, "--dataset", "random", "--min-prompt-length", "16")
            done = await asyncio.to_thread(evalmesh, *command, "--max-prompt-length", "16", cwd=tmp_path)
        assert done.returncode == 6, done.stderr
        assert "the load generator was the bottleneck" in done.stdout
        (path,) = tmp_path.glob("outputs/*/perf.json")
        (level,) = json.loads(path.read_text())["levels"]
        assert level["client_limited"]
        assert level["ok"] == 1000


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
