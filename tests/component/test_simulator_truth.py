"""What the simulator says it did, held against what a client saw."""

import asyncio
import json
import math
import time
from collections import Counter
from itertools import pairwise
from operator import itemgetter

import aiohttp
import pytest
from tests.kit.simulator import served

from evalmesh.simulator.distribution import constant
from evalmesh.simulator.faults import TRANSPORT_KINDS, parse_fault
from evalmesh.simulator.truth import TruthLog

pytestmark = pytest.mark.alone

PAUSE_S = 0.05


def chat(text, **more):
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


async def truth_of(session, url, **query):
    async with session.get(f"{url}/truth", params=query) as answer:
        assert answer.status == 200
        return [json.loads(line) for line in (await answer.text()).splitlines()]


async def summary_of(session, url):
    async with session.get(f"{url}/truth/summary") as answer:
        return await answer.json()


async def ask(session, url, body, path="chat/completions"):
    """(moments at which content came, error, whole text)."""
    seen, data = [], b""
    try:
        async with session.post(f"{url}/{path}", json=body) as answer:
            async for line in answer.content:
                data += line
                if b'"content":"' in line and b'"content":""' not in line:
                    seen.append(time.monotonic())
    except aiohttp.ClientError as error:
        return seen, error, data
    return seen, None, data


async def test_times_are_those_a_client_saw():
    settings = {"ttft": constant(0.04), "itl": constant(0.005), "truth_size": 10}
    async with served(**settings) as (_, url, session):
        start = time.monotonic()
        seen, error, _ = await ask(session, url, chat("a", stream=True, max_tokens=16, ignore_eos=True))
        assert error is None
        (line,) = await truth_of(session, url, times=1)
        assert line["outcome"] == "ok"
        assert (line["tokens"], line["status"], line["stream"], line["try"]) == (16, 200, True, 1)
        assert line["prompt_tokens"] == 1
        assert start <= line["arrived_s"] <= line["slot_s"] < line["first_s"] < line["last_s"] <= line["end_s"]
        assert line["first_s"] - line["arrived_s"] >= 0.04
        assert len(line["times_s"]) == len(seen) == 16
        for at, wrote in zip(seen, line["times_s"], strict=True):
            assert line["arrived_s"] + wrote <= at + 1e-5, "a client had a token before it was written"
        assert line["first_s"] == pytest.approx(line["arrived_s"] + line["times_s"][0], abs=1e-5)
        summary = await summary_of(session, url)
        assert summary["outcomes"] == {"ok": 1}
        assert summary["ttft_ms"]["p50"] == pytest.approx(1e3 * (line["first_s"] - line["arrived_s"]))
        assert summary["itl_ms"]["count"] == 15


async def test_several_tokens_in_a_chunk_take_the_time_of_all():
    settings = {"itl": constant(0.004), "tokens_per_chunk": 4, "truth_size": 10}
    async with served(**settings) as (_, url, session):
        length = {"max_tokens": 11, "ignore_eos": True}
        seen, _, data = await ask(session, url, chat("a", stream=True, **length))
        whole = await ask(session, url, chat("a", **length))
        (line, _) = await truth_of(session, url, times=1)
        assert len(seen) == len(line["times_s"]) == 3
        assert line["tokens"] == 11
        assert line["times_s"][1] - line["times_s"][0] >= 0.0155
        text = "".join(
            chunk["choices"][0]["delta"].get("content", "")
            for chunk in map(json.loads, data.decode().replace("data: [DONE]", "").split("data: ")[1:])
        )
        assert text == json.loads(whole[2])["choices"][0]["message"]["content"]
        gaps = (await summary_of(session, url))["itl_ms"]
        assert gaps["count"] == 4 + 3


async def test_every_ending_is_counted_and_the_same_again():
    rates = (("500", 0.06), ("429", 0.06), *((kind, 0.06) for kind in TRANSPORT_KINDS))
    faults = tuple(parse_fault(f"{kind}:rate={rate},pause=50ms") for kind, rate in rates)
    n = 300
    endings = []
    for _ in range(2):
        async with served(faults=faults, output_tokens=constant(8), truth_size=1000) as (simulator, url, session):
            queue = list(range(n))

            async def worker(url=url, session=session, queue=queue):
                while queue:
                    await ask(session, url, chat(f"question {queue.pop()}", stream=bool(len(queue) % 2)))

            await asyncio.gather(*(worker() for _ in range(16)))
            lines = await truth_of(session, url)
            summary = await summary_of(session, url)
            assert len(lines) == summary["requests"] == n
            assert [line["seq"] for line in lines] == list(range(1, n + 1))
            by_fault = Counter(line["fault"] for line in lines if line["fault"])
            assert by_fault == simulator.stats.faults == summary["faults"]
            assert set(by_fault) == {kind for kind, _ in rates}
            for line in lines:
                delayed = line["fault"] in {"stall", "slow_header"}
                assert line["outcome"] == ("ok" if delayed else line["fault"] or "ok")
                assert line["status"] == (int(line["fault"]) if (line["fault"] or "").isdigit() else 200)
            assert simulator.stats.answered == summary["outcomes"]["ok"]
            assert sum(summary["outcomes"].values()) == n
            endings.append(sorted((line["name"], line["outcome"]) for line in lines))
    assert endings[0] == endings[1]


async def test_a_slow_header_holds_back_even_the_status():
    fault = parse_fault("slow_header:every=1,pause=80ms")
    async with served(faults=(fault,), truth_size=5) as (_, url, session):
        start = time.monotonic()
        async with session.post(f"{url}/chat/completions", json=chat("a", stream=True)) as answer:
            assert time.monotonic() - start >= 0.08
            assert b"[DONE]" in await answer.read()


async def test_a_client_that_leaves_is_told_apart():
    async with served(ttft=constant(30), truth_size=5) as (_, url, session):
        with pytest.raises(TimeoutError):
            await session.post(f"{url}/chat/completions", json=chat("x"), timeout=aiohttp.ClientTimeout(total=0.1))
        lines = []
        while not lines:
            lines = await truth_of(session, url)
        assert (lines[0]["outcome"], lines[0]["status"], lines[0]["first_s"]) == ("aborted", 0, None)


async def test_a_wait_for_a_slot_is_told():
    async with served(ttft=constant(PAUSE_S), max_concurrency=1, truth_size=5) as (_, url, session):
        await asyncio.gather(*(ask(session, url, chat(f"{i}")) for i in range(3)))
        lines = sorted(await truth_of(session, url), key=itemgetter("slot_s"))
        assert lines[-1]["arrived_s"] < lines[0]["end_s"], "all three were there before the first was through"
        for earlier, later in pairwise(lines):
            assert later["slot_s"] >= earlier["last_s"] >= earlier["slot_s"] + PAUSE_S


async def test_the_ring_keeps_the_last_and_since_skips_the_known():
    async with served(truth_size=5) as (_, url, session):
        for i in range(8):
            await ask(session, url, chat(f"{i}"))
        assert [line["seq"] for line in await truth_of(session, url)] == [4, 5, 6, 7, 8]
        assert [line["seq"] for line in await truth_of(session, url, since=6)] == [7, 8]
        assert (await summary_of(session, url))["dropped"] == 3
        await session.post(f"{url}/stats/reset")
        assert await truth_of(session, url) == []


async def test_without_the_flag_there_is_no_truth():
    async with served() as (_, url, session), session.get(f"{url}/truth") as answer:
        assert answer.status == 404
        assert "--truth" in (await answer.json())["error"]["message"]


async def test_arrivals_have_a_rate_and_a_spread():
    async with served(truth_size=100) as (_, url, session):
        for i in range(20):
            await ask(session, url, chat(f"{i}"))
            await asyncio.sleep(0.01)
        arrivals = (await summary_of(session, url))["arrivals"]
        assert 20 < arrivals["rate"] <= 100
        assert arrivals["gap_ms"]["count"] == 19
        assert arrivals["gap_cv"] >= 0


def test_a_log_of_nothing_says_so():
    summary = TruthLog(3).summary(0)
    assert (summary["requests"], summary["ttft_ms"], summary["arrivals"]) == (0, None, None)
    assert math.isfinite(summary["now_s"])


async def test_a_stream_that_takes_no_time_has_no_gaps():
    async with served(truth_size=5) as (_, url, session):
        await ask(session, url, chat("a", stream=True, max_tokens=12, ignore_eos=True))
        (line,) = await truth_of(session, url, times=1)
        assert (line["tokens"], len(line["times_s"]), line["chunk_gap_max_s"]) == (12, 12, 0.0)
