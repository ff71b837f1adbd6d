"""Levels as the engine runs them: what is sent when, what is counted, and how a level ends."""

import asyncio
import itertools
import json
import math
import threading
import time

import pytest
from tests.kit.engine import (
    RawServer,
    chat_body,
    chat_events,
    chunk,
    conversation_frame,
    end_frame,
    engine,
    failed_frame,
    plain,
    request_frame,
    requests,
    streamed,
)
from tests.kit.simulator import simulator

from evalmesh.domain.load_test import ArrivalSpec, LoadLevel, LoadTarget, Stage
from evalmesh.load.measure.histogram import Histogram
from evalmesh.load.measure.records import Flag, Outcome
from evalmesh.load_generator.protocol import RunLevel, Start, Stop

pytestmark = pytest.mark.alone

OPEN = ArrivalSpec("constant")


async def at_once(wire, body):
    await wire.send(streamed(chat_events(4)))


def after(seconds):
    async def answer(wire, body):
        await asyncio.sleep(seconds)
        await wire.send(streamed(chat_events(4)))

    return answer


def merged(ticks, name):
    return Histogram.merged(Histogram.decode(getattr(tick.sketches, name)) for tick in ticks)


def endless():
    return (request_frame(index, chat_body(index)) for index in itertools.count())


def test_closed_loop_keeps_so_many_in_flight() -> None:
    with RawServer(after(0.05)) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"), generator=3)
        played = one.play(
            requests(30, prepared=9),
            LoadLevel(parallel=5, number=30),
            goodput_ms={"e2e": 60_000, "itl_p99": 60_000, "itl_mean": 60_000},
        )
    done, records = played.done, sorted(played.records, key=lambda one: one["index"])
    assert done.counts == {"ok": 30}
    assert done.peak_in_flight == done.connections == server.connections == 5
    assert done.error == ""
    assert done.sent_first_s <= done.sent_last_s <= done.end_s <= done.wall_s
    assert {one["generator"] for one in records} == {3}
    assert {one["prepared_tokens"] for one in records} == {9}
    assert sum(bool(one["flags"] & Flag.NEW_CONNECTION) for one in records) == 5
    # A slot that is free is the moment the next request is due.
    assert [one["due_s"] for one in records[:5]] == [0.0] * 5
    ends = {one["end_s"] for one in records}
    assert all(one["due_s"] in ends for one in records[5:])
    assert sum(tick.sent for tick in played.ticks) == sum(tick.ok for tick in played.ticks) == 30
    assert sum(tick.good for tick in played.ticks) == 30
    assert sum(tick.output_tokens for tick in played.ticks) == 30 * 4
    assert [merged(played.ticks, name).n for name in ("ttft", "e2e", "send_lag")] == [30] * 3
    assert merged(played.ticks, "itl").n == 30 * 3
    assert merged(played.ticks, "ttft_due").n == 0


def test_stages_change_how_many_are_in_flight() -> None:
    level = LoadLevel(stages=(Stage(0.4, 1, 1), Stage(0.6, 6, 6), Stage(0.5, 2, 2)))
    with RawServer(after(0.03)) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        played = one.play(endless(), level)
    in_stage = [
        max(
            sum(one["send_s"] <= at < one["end_s"] for one in played.records)
            for at in (low + step * 0.02 for step in range(int((high - low) / 0.02)))
        )
        for low, high in ((0.05, 0.4), (0.5, 1.0), (1.1, 1.5))
    ]
    assert in_stage == [1, 6, 2]
    assert max(one["send_s"] for one in played.records) <= 1.55


def test_open_loop_sends_when_due_and_not_before() -> None:
    with RawServer(at_once) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        played = one.play(requests(100, rate=200), LoadLevel(rate=200, number=100), arrival=OPEN)
    records = sorted(played.records, key=lambda one: one["index"])
    assert played.done.counts == {"ok": 100}
    assert [one["due_s"] for one in records] == [pytest.approx(index / 200) for index in range(100)]
    assert min(one["send_s"] - one["due_s"] for one in records) >= 0
    assert merged(played.ticks, "ttft_due").n == merged(played.ticks, "e2e_due").n == 100
    assert played.done.feed_starved == 0


def test_a_cap_holds_requests_back_and_leaves_their_schedule() -> None:
    with RawServer(after(0.1)) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        played = one.play(requests(60, rate=40), LoadLevel(rate=40, number=60, parallel=2), arrival=OPEN)
    assert played.done.peak_in_flight == 2
    assert max(tick.queued for tick in played.ticks) > 5
    last = max(played.records, key=lambda one: one["index"])
    assert last["due_s"] == pytest.approx(59 / 40)
    assert last["send_s"] - last["due_s"] > 0.5
    assert merged(played.ticks, "send_lag").max > 0.5
    assert merged(played.ticks, "ttft_due").max > 0.5 > merged(played.ticks, "ttft").max


def test_a_feeder_that_is_late_shows_in_the_send_lag() -> None:
    go_on = threading.Event()

    def slowly():
        for index in range(10):
            if index == 5:
                go_on.wait(10)
            yield request_frame(index, chat_body(index), due_s=index / 50)
        yield end_frame()

    with RawServer(at_once) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        path = one.prepare(slowly(), LoadLevel(rate=50, number=10), arrival=OPEN)
        one.tell(Start(time.monotonic()))
        time.sleep(0.5)
        go_on.set()
        played = one.finish(path)
    assert played.done.counts == {"ok": 10}
    assert played.done.feed_starved == sum(tick.feed_starved for tick in played.ticks) == 5
    assert max(one["send_s"] - one["due_s"] for one in played.records) > 0.3


def test_warm_up_is_recorded_and_in_no_figure() -> None:
    flags = [Flag.WARMUP] * 4 + [0] * 6
    frames = [*(request_frame(index, chat_body(index), flags=flag) for index, flag in enumerate(flags)), end_frame()]
    with RawServer(at_once) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        played = one.play(frames, LoadLevel(parallel=2, number=10))
    assert played.done.counts == {"ok": 6}
    assert played.done.warmup_counts == {"ok": 4}
    assert [bool(one["flags"] & Flag.WARMUP) for one in sorted(played.records, key=lambda one: one["index"])] == [
        bool(flag) for flag in flags
    ]
    assert merged(played.ticks, "ttft").n == sum(tick.sent for tick in played.ticks) == 6


def test_stop_cancels_what_is_in_flight_and_the_counts_add_up() -> None:
    with RawServer(after(0.2)) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        played = one.play(requests(500), LoadLevel(parallel=4, number=500), stop_after_s=0.5)
    assert played.done.counts["cancelled"] == 4
    assert played.done.counts["ok"] >= 4
    assert sum(played.done.counts.values()) == len(played.records) == 500
    assert played.done.error == ""


def test_stop_before_the_start() -> None:
    with RawServer(at_once) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        path = one.prepare(requests(7), LoadLevel(parallel=2, number=7))
        one.tell(Stop("no"))
        played = one.finish(path)
        assert played.done.counts == {"unsent": 7}
        assert played.done.sent_first_s is None
        assert one.play(requests(5, level=1), LoadLevel(parallel=2, number=5), number=1).done.counts == {"ok": 5}


def test_a_duration_ends_a_level_whose_feed_is_endless() -> None:
    with RawServer(after(0.02)) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        stop = {"feeding": True}

        def until_stopped():
            for index in itertools.count():
                if not stop["feeding"]:
                    break
                yield request_frame(index, chat_body(index))
            yield end_frame(0)
            yield from requests(8, level=1)

        played = one.play(until_stopped(), LoadLevel(parallel=4, duration_s=0.5))
        assert set(played.done.counts) == {"ok"}
        assert 0.5 <= played.done.end_s < 2
        assert max(one["send_s"] for one in played.records) <= 0.52
        stop["feeding"] = False
        after_it = one.play([], LoadLevel(parallel=2, number=8), number=1)
    # What was read ahead of the first level is gone; connections are still there.
    assert after_it.done.counts == {"ok": 8}
    assert after_it.done.connections == 0


def test_a_duration_before_the_number_leaves_the_rest_unsent() -> None:
    with RawServer(after(0.05)) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        played = one.play(requests(300), LoadLevel(parallel=2, number=300, duration_s=0.4))
    assert set(played.done.counts) == {"ok", "unsent"}
    assert sum(played.done.counts.values()) == 300


def test_open_loop_requests_that_the_cap_kept_until_the_end_are_unsent() -> None:
    with RawServer(after(0.1)) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        level = LoadLevel(rate=100, duration_s=0.5, parallel=1)
        played = one.play(requests(50, rate=100), level, arrival=OPEN)
    assert sum(played.done.counts.values()) == 50
    assert played.done.counts["unsent"] > 30


def test_answers_are_waited_for_only_so_long() -> None:
    with RawServer(after(30)) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        played = one.play(requests(3), LoadLevel(parallel=3, number=3), drain_s=0.3)
    assert played.done.counts == {"cancelled": 3}
    assert 0.3 <= played.done.end_s < 2


def talked(wire_bodies):
    """What each conversation (by its first message) was asked, in order."""
    found = {}
    for body in wire_bodies:
        messages = json.loads(body)["messages"]
        found.setdefault(next(m["content"] for m in messages if m["role"] == "user"), []).append(messages)
    return found


def test_conversations_carry_their_answers_and_think() -> None:
    frames = [
        conversation_frame(0, ["a1", "a2", "a3"], think_s=0.2, system="be brief"),
        conversation_frame(1, ["b1", "b2"]),
        end_frame(),
    ]
    with RawServer(at_once) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        played = one.play(frames, LoadLevel(parallel=2, number=2))
    assert played.done.counts == {"ok": 5}
    first, *_, last = talked(server.bodies)["a1"]
    answer = {"role": "assistant", "content": " w0 w1 w2 w3"}
    assert first == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a1"}]
    assert last == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "a1"}, answer,
        {"role": "user", "content": "a2"}, answer,
        {"role": "user", "content": "a3"},
    ]  # fmt: skip
    assert all(json.loads(body)["max_tokens"] == 16 for body in server.bodies)
    turns = sorted(
        (one["turn"], one["due_s"], one["send_s"], one["end_s"]) for one in played.records if not one["index"]
    )
    assert [turn for turn, *_ in turns] == [0, 1, 2]
    for (_, _, _, ended), (_, due, sent, _) in itertools.pairwise(turns):
        assert due == pytest.approx(ended + 0.2)
        assert sent >= due - 0.002


def test_a_turn_that_fails_skips_those_after_it() -> None:
    async def fails_at_second(wire, body):
        if len(json.loads(body)["messages"]) > 1:
            await wire.send(plain("503 Service Unavailable", b"{}"))
        else:
            await at_once(wire, body)

    with RawServer(fails_at_second) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        played = one.play([conversation_frame(0, ["a", "b", "c", "d"]), end_frame()], LoadLevel(parallel=1, number=1))
    assert played.outcomes() == [Outcome.OK, Outcome.HTTP, Outcome.SKIPPED, Outcome.SKIPPED]
    assert played.done.counts == {"ok": 1, "http_503": 1, "skipped": 2}


def test_stop_in_the_middle_of_conversations() -> None:
    frames = [*(conversation_frame(index, ["a", "b", "c"], think_s=9) for index in range(4)), end_frame()]
    with RawServer(at_once) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        played = one.play(frames, LoadLevel(parallel=3, number=4), stop_after_s=0.4)
    assert played.done.counts == {"ok": 3, "unsent": 9}


def test_a_feeder_that_fails_ends_the_level_with_its_sentence() -> None:
    frames = [request_frame(0, chat_body(0)), failed_frame("row 17 of the data set is no JSON")]
    with RawServer(at_once) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        played = one.play(frames, LoadLevel(parallel=2, number=10))
    assert played.done.counts == {"ok": 1}
    assert played.done.error == "row 17 of the data set is no JSON"


def test_a_feeder_that_dies_ends_the_level() -> None:
    with RawServer(at_once) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        path = one.prepare([request_frame(0, chat_body(0))], LoadLevel(parallel=2, number=10))
        one.tell(Start(time.monotonic()))
        time.sleep(0.2)
        one.feed.shutdown(1)
        played = one.finish(path)
    assert played.done.counts == {"ok": 1}
    assert "feeder" in played.done.error


def test_a_full_disk_ends_the_level() -> None:
    with RawServer(after(0.01)) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        full = one.play(requests(2000), LoadLevel(parallel=4, number=2000), records_path="/dev/full")
        assert "No space left" in full.done.error
        assert full.done.records == 0
        # The engine is of further use.
        assert one.play(requests(3, level=1), LoadLevel(parallel=1, number=3), number=1).done.counts == {"ok": 3}


def test_a_target_that_cannot_be_asked_on_this_machine_is_told() -> None:
    with RawServer(at_once) as server, engine() as one:
        https = server.url.replace("http:", "https:")
        one.set_up(LoadTarget(https, "m", ca_file="/nowhere/authorities.pem"))
        one.send(requests(3))
        one.tell(RunLevel(0, LoadLevel(parallel=1, number=3), ArrivalSpec(), str(one.folder / "r"), 0.0, {}))
        assert "ca_file: '/nowhere/authorities.pem'" in one.hear().error
        one.set_up(LoadTarget(server.url, "m"))
        assert one.play(requests(3, level=1), LoadLevel(parallel=1, number=3), number=1).done.counts == {"ok": 3}


def test_token_counts_beyond_belief_are_unknown_and_end_nothing() -> None:
    async def boast(wire, body):
        events = chat_events(3)
        events[-2] = events[-2].replace(b'"completion_tokens": 3', b'"completion_tokens": 99999999999')
        await wire.send(streamed([part.replace(b'"prompt_tokens": 7', b'"prompt_tokens": -5') for part in events]))

    with RawServer(boast) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        played = one.play(requests(3), LoadLevel(parallel=1, number=3))
    assert played.done.counts == {"ok": 3}
    assert not any(one["flags"] & (Flag.USAGE | Flag.MISMATCH) for one in played.records)
    assert {(one["input_tokens"], one["output_tokens"]) for one in played.records} == {(0, 3)}


def test_the_end_of_its_input_ends_the_engine() -> None:
    with RawServer(after(30)) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        one.prepare(requests(3), LoadLevel(parallel=3, number=3))
        one.tell(Start(time.monotonic()))
        time.sleep(0.2)
        one.process.stdin.close()
        assert one.process.wait(5) == 0


def test_token_gaps_are_divided_by_the_tokens_a_chunk_carried() -> None:
    async def by_four(wire, body):
        # Four events a packet would arrive at once: these are four tokens in one event.
        events = chat_events(5)
        events[-2] = events[-2].replace(b'"completion_tokens": 5', b'"completion_tokens": 20')
        head, *rest = streamed(events).split(b"data: ", 1)[0], *map(chunk, events)
        await wire.send(head.rpartition(b"\r\n")[0].rpartition(b"\r\n")[0] + b"\r\n")
        for piece in rest:
            await wire.send(piece)
            await asyncio.sleep(0.04)
        await wire.send(b"0\r\n\r\n")

    with RawServer(by_four) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"))
        played = one.play(requests(5), LoadLevel(parallel=5, number=5))
    assert played.done.counts == {"ok": 5}
    itl, gaps = merged(played.ticks, "itl"), merged(played.ticks, "chunk_gap")
    assert (itl.n, gaps.n) == (5 * 16, 5 * 4)
    assert itl.total == pytest.approx(gaps.total)
    assert itl.max == pytest.approx(gaps.max / 4)
    assert all(one["itl_max_s"] == pytest.approx(one["chunk_gap_max_s"] / 4) for one in played.records)
    assert all(one["output_tokens"] == 20 and one["chunks"] == 5 for one in played.records)


@pytest.mark.parametrize("path", ["/chat/completions", "/completions"])
def test_what_is_counted_is_what_the_simulator_says_it_did(path) -> None:
    api = "chat" if path.startswith("/chat") else "completions"

    def body(index):
        if api == "chat":
            return chat_body(index)
        return json.dumps({"model": "m", "prompt": f"q {index}", "stream": True, "max_tokens": 16,
                           "stream_options": {"include_usage": True}}).encode()  # fmt: skip

    faults = ("--fault", "500:every=10", "--fault", "reset:every=7", "--fault", "truncated:every=6")
    with simulator("--itl", "1ms", *faults) as server, engine() as one:
        one.set_up(LoadTarget(server.url + path, "m", api=api))
        frames = [*(request_frame(index, body(index)) for index in range(200)), end_frame()]
        played = one.play(frames, LoadLevel(parallel=8, number=200))
        stats = server.stats()
    counts = played.done.counts
    assert sum(counts.values()) == 200 == stats["requests"]
    assert counts["http_500"] == stats["faults"]["500"] == 20
    assert counts["reset"] == stats["faults"]["reset"]
    assert counts["truncated"] == stats["faults"]["truncated"]
    assert counts["ok"] == 200 - sum(stats["faults"].values())
    ok = [one for one in played.records if one["outcome"] == Outcome.OK]
    assert sum(one["output_tokens"] for one in ok) == stats["completion_tokens"]
    assert all(one["output_tokens"] == one["chunks"] for one in ok)
    assert not any(math.isnan(one["itl_p99_s"]) for one in ok if one["chunks"] > 1)


def test_keys_and_headers_reach_the_server_and_no_message() -> None:
    with simulator("--api-key", "sesame") as server, engine() as one:
        target = LoadTarget(server.url + "/chat/completions", "m")
        one.set_up(target, {"Authorization": "Bearer sesame"})
        assert one.play(requests(2), LoadLevel(parallel=1, number=2)).done.counts == {"ok": 2}
        one.set_up(target, {"Authorization": "Bearer wrong"})
        played = one.play(requests(2, level=1), LoadLevel(parallel=1, number=2), number=1)
        assert played.done.counts == {"http_401": 2}
        assert "API key" in played.done.examples["http_401"]


def test_a_key_that_a_server_quotes_is_in_no_message() -> None:
    async def quote(wire, body):
        await wire.send(plain("401 Unauthorized", b'{"error":{"message":"sk-secret-4711 is no key"}}'))

    with RawServer(quote) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m"), {"Authorization": "Bearer sk-secret-4711"})
        played = one.play(requests(1), LoadLevel(parallel=1, number=1))
    assert played.done.examples == {"http_401": '{"error":{"message":"[key] is no key"}}'}
