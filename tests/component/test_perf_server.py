"""The judge of the load benches is judged: its counts, its times, and that it breaks what it was told to break."""

import asyncio
import json
import time
from collections import Counter
from itertools import pairwise
from operator import itemgetter

import aiohttp
import pytest
from tests.kit.perf_server import NO_COMPILER, compiler, perf_server

pytestmark = pytest.mark.skipif(compiler() is None, reason=NO_COMPILER)

RATES = {
    "500": 0.06,
    "429": 0.06,
    "reset": 0.06,
    "truncated": 0.06,
    "cut": 0.06,
    "malformed": 0.06,
    "stall": 0.06,
    "error_event": 0.06,
    "empty": 0.06,
    "slow_header": 0.06,
}


def body(i, **more):
    return {"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": f"question {i}"}], **more}


def ending(status, data, error):
    """As a client sees it, without being told."""
    if error is not None:
        return "broken"
    if status != 200:
        return str(status)
    if b'"error"' in data:
        return "error_event"
    text = data.decode()
    events = [event.removeprefix("data: ") for event in text.split("\n\n")[:-1]] if "data: " in text else [text]
    try:
        parsed = [json.loads(event) for event in events if event != "[DONE]"]
    except ValueError:
        return "malformed"
    if not any(choice["finish_reason"] for one in parsed for choice in one["choices"]):
        return "truncated"
    return "ok" if text.count(" tok") else "empty"


async def ask(session, url, request):
    status, data, error = 0, b"", None
    try:
        async with session.post(f"{url}/chat/completions", json=request) as answer:
            status = answer.status
            async for piece in answer.content.iter_any():
                data += piece
    except aiohttp.ClientError as caught:
        error = caught
    return ending(status, data, error)


@pytest.mark.parametrize("pace", ["0", "1ms"])
async def test_faults_are_what_a_client_meets_and_the_same_again(pace):
    flags = [word for kind, rate in RATES.items() for word in ("--fault", f"{kind}={rate}")]
    rounds = []
    for _ in range(2):
        with perf_server("--itl", pace, "--ttft", pace, "--stall", "20ms", *flags) as server:
            seen = Counter()
            queue = list(range(400))

            async def worker(session, queue=queue, seen=seen, url=server.url):
                while queue:
                    i = queue.pop()
                    seen[await ask(session, url, body(i, stream=bool(i % 3)))] += 1

            async with aiohttp.ClientSession() as session:
                await asyncio.gather(*(worker(session) for _ in range(16)))
            stats = server.stats()
            told = Counter(stats["outcomes"])
            told["broken"] = told.pop("reset") + told.pop("cut")
            assert told == seen
            assert set(stats["faults"]) == set(RATES)
            assert sum(stats["outcomes"].values()) == stats["requests"] == 400
            assert (stats["running"], stats["waiting"]) == (0, 0)
            rounds.append(stats["faults"])
    assert rounds[0] == rounds[1]


async def test_times_are_kept_and_told():
    with perf_server("--ttft", "20ms", "--itl", "lognormal:2ms:0.3", "--per-chunk", "2") as server:
        async with aiohttp.ClientSession() as session:
            start = time.monotonic()
            request = body(0, stream=True, stream_options={"include_usage": True})
            async with session.post(server.chat_url, json=request) as answer:
                text = (await answer.read()).decode()
            took_s = time.monotonic() - start
        (row,) = server.truth()
        assert start <= row["arrived_s"] <= row["slot_s"] < row["first_s"] < row["last_s"] <= row["end_s"]
        assert row["first_s"] - row["slot_s"] >= 0.02
        assert row["last_s"] - row["arrived_s"] <= took_s  # the server may note the end after the client had it
        assert text.count('"content":" tok tok"') == 4
        assert '"completion_tokens":8' in text
        summary = server.summary()
        assert summary["itl_ms"]["count"] == 6
        assert summary["ttft_ms"]["p50"] == pytest.approx(1e3 * (row["first_s"] - row["arrived_s"]), abs=0.01)


async def test_slots_make_a_queue_and_clients_that_leave_free_theirs():
    with perf_server("--ttft", "30ms", "--slots", "1") as server:
        async with aiohttp.ClientSession() as session:
            endings = await asyncio.gather(*(ask(session, server.url, body(i, stream=True)) for i in range(4)))
            assert endings == ["ok"] * 4
            assert server.stats()["max_running"] == 1
            rows = sorted(server.truth(), key=itemgetter("slot_s"))
            assert rows[-1]["arrived_s"] < rows[0]["end_s"], "all four were there before the first was through"
            for earlier, later in pairwise(rows):
                assert later["slot_s"] >= earlier["last_s"] >= earlier["slot_s"] + 0.03
            asked = [asyncio.create_task(ask(session, server.url, body(i))) for i in range(3)]
            await asyncio.sleep(0.01)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            assert await ask(session, server.url, body(9)) == "ok"
        assert server.stats()["outcomes"] == {"ok": 5, "aborted": 3}


async def test_a_frozen_server_is_silent_and_goes_on():
    with perf_server("--itl", "5ms", "--freeze", "200ms/400ms") as server:
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(ask(session, server.url, body(i, stream=True, max_tokens=60)) for i in range(3)))
        assert server.summary()["itl_ms"]["max"] > 190
        assert server.stats()["outcomes"] == {"ok": 3}
        server.reset()
        assert server.stats()["requests"] == 0
