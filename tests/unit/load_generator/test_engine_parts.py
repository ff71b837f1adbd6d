"""Parts of the engine that decide by themselves: token gaps, stages, frames, conversations, addresses, events."""

import asyncio
import json
import math
import socket
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.engine import chat_body, conversation_frame, end_frame, request_frame

from evalmesh.adapters.load_http.address import address_of, complete_headers, request_head
from evalmesh.dialect.sse import SseParser, SseSplitter
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import LoadLevel, Stage
from evalmesh.load.measure.histogram import Histogram
from evalmesh.load_generator.apis import registry
from evalmesh.load_generator.engine.dialogue import Dialogue
from evalmesh.load_generator.engine.feed import Feed, Frame
from evalmesh.load_generator.engine.flight import answer_gaps, carried_tokens
from evalmesh.load_generator.engine.pacing import bound_s, parallel_at
from evalmesh.load_generator.engine.timer import LoopTimer, open_timer
from evalmesh.load_generator.protocol import FRAME


def answered(times, sizes=None, *, stopped=False, marks=None):
    reader = registry.get("chat").reader()
    reader.times.extend(times)
    reader.sizes.extend(sizes or [4] * len(times))
    reader.stopped = stopped
    if marks is not None:
        reader.marks = marks
    return reader


class TestGaps:
    def test_one_token_a_chunk(self) -> None:
        gaps = answer_gaps(answered([1.0, 1.1, 1.3]), 3)
        assert gaps.chunk == pytest.approx([0.1, 0.2])
        assert gaps.token is None
        assert (gaps.mean_s, gaps.max_s, gaps.chunk_max_s) == pytest.approx((0.15, 0.2, 0.2))

    def test_a_gap_is_divided_by_the_tokens_it_carried(self) -> None:
        gaps = answer_gaps(answered([0.0, 0.4, 0.8]), 12)
        assert gaps.token == [(pytest.approx(0.1), 4)] * 2
        assert gaps.mean_s == pytest.approx(0.8 / 11)
        assert (gaps.max_s, gaps.chunk_max_s) == pytest.approx((0.1, 0.4))

    def test_the_99th_percentile_is_over_tokens(self) -> None:
        # 200 gaps of ten tokens each; the longest are half a percent of them.
        gaps = answer_gaps(answered([*(0.1 * i for i in range(200)), 30.0]), 2010)
        assert gaps.p99_s == pytest.approx(0.01)
        assert gaps.max_s == pytest.approx((30 - 19.9) / 10)

    def test_longer_texts_carried_more(self) -> None:
        assert carried_tokens(answered([0.0, 1.0, 2.0, 3.0], [2, 4, 12, 2]), 9) == [2, 2, 4, 1]

    def test_a_server_that_sends_every_four_tokens_is_taken_at_its_word(self) -> None:
        assert carried_tokens(answered([0.0, 1.0, 2.0], [2, 4, 12]), 12) == [4, 4, 4]
        assert carried_tokens(answered([0.0, 1.0, 2.0], [2, 4, 12]), 10) == [4, 4, 2]
        assert carried_tokens(answered([0.0, 1.0, 2.0], stopped=True), 13) == [4, 4, 4]

    def test_the_end_mark_is_no_token_of_a_chunk(self) -> None:
        assert carried_tokens(answered([0.0, 1.0, 2.0], stopped=True), 4) is None
        assert carried_tokens(answered([0.0, 1.0, 2.0], stopped=False), 4) == [1, 2, 1]

    def test_a_server_that_says_it_with_every_chunk_is_believed(self) -> None:
        assert carried_tokens(answered([0.0, 1.0, 2.0], marks=[1, 5, 6]), 6) == [1, 4, 1]
        assert carried_tokens(answered([0.0, 1.0, 2.0], marks=[1, 2, 3]), 3) is None

    def test_continuous_usage_is_read_from_the_stream(self) -> None:
        reader = registry.get("chat").reader()
        for tokens in (2, 4, 6):
            event = {"choices": [{"delta": {"content": "ab"}}], "usage": {"completion_tokens": tokens}}
            reader.event(json.dumps(event).encode(), tokens / 10)
        reader.event(b'{"choices": [], "usage": {"completion_tokens": 6}}', 1.0)
        assert carried_tokens(reader, 6) == [2, 2, 2]

    def test_one_chunk_has_no_gap(self) -> None:
        assert math.isnan(answer_gaps(answered([1.0]), 5).mean_s)

    @given(st.lists(st.integers(0, 60), min_size=2, max_size=40), st.integers(0, 200))
    def test_shares_add_up(self, sizes, surplus) -> None:
        sizes = [size + 1 for size in sizes]
        times = [0.1 * i for i in range(len(sizes))]
        carried = carried_tokens(answered(times, sizes), len(sizes) + surplus)
        assert surplus == 0 or (sum(carried) == len(sizes) + surplus and min(carried) >= 1)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_many_times_at_once_are_the_same_histogram(values) -> None:
    one, many = Histogram(), Histogram()
    for value in values:
        one.add(value)
    many.add_all(values)
    assert many.counts == one.counts
    assert (many.n, many.min, many.max) == (one.n, one.min, one.max)
    assert many.total == pytest.approx(one.total)


def test_stages_go_linearly_and_stay_at_their_end() -> None:
    stages = (Stage(10, 0, 100), Stage(5, 50, 50))
    assert [parallel_at(stages, at) for at in (0, 5, 9.99, 10, 14, 99)] == [0, 50, 100, 50, 50, 50]
    assert bound_s(LoadLevel(stages=stages)) == 15
    assert bound_s(LoadLevel(duration_s=3)) == 3
    assert bound_s(LoadLevel(number=3)) == 0


async def fed(pieces):
    ours, theirs = socket.socketpair()
    feed = Feed(asyncio.get_running_loop(), theirs)
    feed.start()
    with ours:
        for piece in pieces:
            ours.sendall(piece)
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)
    return feed


async def test_frames_are_cut_wherever_packets_end() -> None:
    data = b"".join(request_frame(index, chat_body(index)) for index in range(5)) + end_frame(7)
    feed = await fed(data[at : at + 11] for at in range(0, len(data), 11))
    frames = [feed.take() for _ in range(6)]
    assert [frame.position for frame in frames] == [0, 1, 2, 3, 4, 7]
    assert [frame.body for frame in frames[:5]] == [chat_body(index) for index in range(5)]
    assert feed.closed
    feed.close()


async def test_a_level_that_was_left_is_skipped() -> None:
    frames = [request_frame(1, b"a"), end_frame(3), request_frame(2, b"b"), end_frame(4)]
    ours, theirs = socket.socketpair()
    feed = Feed(asyncio.get_running_loop(), theirs)
    feed.skip_level(3)
    feed.start()
    ours.sendall(b"".join(frames))
    await asyncio.sleep(0.02)
    assert [frame.body for frame in feed.frames] == [b"b", b""]
    ours.close()
    feed.close()


async def test_the_feeder_is_kept_waiting_when_enough_is_there() -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    feed = Feed(asyncio.get_running_loop(), theirs)
    feed.start()
    left = request_frame(0, b"x" * 50_000) * 400

    async def send_what_goes():
        nonlocal left
        for _ in range(600):
            try:
                left = left[ours.send(left[: 1 << 16]) :]
            except BlockingIOError:
                await asyncio.sleep(0.0005)

    await send_what_goes()
    held = sum(len(frame.body) for frame in feed.frames)
    assert 8 << 20 <= held < 9 << 20
    assert len(left) > 10 << 20
    while len(feed.frames) > 10:
        feed.take()
    before = len(left)
    await send_what_goes()
    assert len(left) < before - (4 << 20), "there is room again"
    ours.close()
    feed.close()


def test_a_conversation_grows_by_its_answers() -> None:
    for name, key, limit in (("chat", "messages", "max_tokens"), ("responses", "input", "max_output_tokens")):
        frame = conversation_frame(4, ["one", "two"], system="s")
        api = registry.get(name)
        dialogue = Dialogue(api, frame_of(frame))
        first = dialogue.next_turn(0.0)
        first.reader.texts.append('answer "quoted"\n')
        dialogue.hear(first)
        second = json.loads(dialogue.next_turn(1.0).body)
        assert [message["content"] for message in second[key]] == ["s", "one", 'answer "quoted"\n', "two"]
        assert second[limit] == 16
        assert second["stream"] is True
        assert not dialogue.has_more


def frame_of(data):
    head = FRAME.unpack_from(data)
    return Frame._make((*head, data[FRAME.size :]))


@pytest.mark.parametrize("make", [open_timer, LoopTimer])
async def test_a_timer_calls_once_per_moment(make) -> None:
    called = []
    timer = make(asyncio.get_running_loop(), lambda: called.append(time.monotonic()))
    due = time.monotonic() + 0.02
    timer.at(due + 9)
    timer.at(due)
    await asyncio.sleep(0.1)
    assert len(called) == 1
    assert called[0] >= due - 1e-6
    timer.at(time.monotonic() - 1)
    await asyncio.sleep(0.02)
    assert len(called) == 2
    timer.at(time.monotonic() + 0.01)
    timer.close()
    await asyncio.sleep(0.03)
    assert len(called) == 2


class TestAddress:
    def test_of_a_url(self) -> None:
        address = address_of("https://user:p%40ss@[::1]:8443/v1/chat?x=1")
        assert (address.host, address.port, address.path) == ("::1", 8443, "/v1/chat?x=1")
        assert address.authority == "[::1]:8443"
        assert complete_headers(address, {})["Authorization"] == "Basic dXNlcjpwQHNz"
        assert address_of("http://host").port == 80
        assert address_of("https://host").port == 443

    @pytest.mark.parametrize("url", ["host:80/v1", "ftp://host/", "http://", "http://host:99999/", "http://[::1/"])
    def test_that_is_none(self, url) -> None:
        with pytest.raises(InvalidInput, match=r"target\.url"):
            address_of(url)

    def test_headers_of_the_user_win_but_for_those_of_the_transport(self) -> None:
        address = address_of("http://host/v1")
        given = {"content-type": "application/x", "Accept-Encoding": "gzip", "X-Key": "1"}
        head = request_head(address, given).decode()
        assert head.startswith("POST /v1 HTTP/1.1\r\nHost: host\r\n")
        assert "content-type: application/x" in head
        assert "Content-Type" not in head
        assert "gzip" not in head
        assert "X-Key: 1" in head
        assert head.endswith("Content-Length: ")

    @pytest.mark.parametrize(("name", "value"), [("X-A", "1\r\nX-B: 2"), ("X A", "1"), ("", "1"), ("X:", "1")])
    def test_headers_that_would_break_the_request(self, name, value) -> None:
        with pytest.raises(InvalidInput, match="header"):
            complete_headers(address_of("http://host/"), {name: value})


STREAMS = [
    b"data: a\n\ndata: b\n\n",
    b": alive\n\ndata: a\n\nevent: x\ndata: b\nid: 4\n\n",
    b"data: a\r\n\r\ndata: b\r\n\r\n",
    b"data:a\n\ndata: b1\ndata: b2\n\n",
    b"\xef\xbb\xbfdata: a\n\n\n\ndata: b\n\ndata: c",
    b"data: a\n\ndata: \n\ndata: b\n\n",
    msgspec.json.encode("data: no") + b"\n\ndata: a\n\n",
]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 9, 1000])
def test_the_quick_way_to_cut_events_finds_the_same(stream, size) -> None:
    quick, plain = SseSplitter(), SseParser()
    found, wanted = [], []
    for at in range(0, len(stream), size):
        found += quick.feed(stream[at : at + size])
        wanted += plain.feed(stream[at : at + size])
    assert found == wanted
    assert quick.finish() == plain.finish()
