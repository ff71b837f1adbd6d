"""The parts of the OpenAI adapter that can be judged without a server."""

import asyncio
import itertools
import time
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.adapters.openai.errors import Redactor, failure_of_status, parse_retry_after
from evalmesh.adapters.openai.health import duration_text
from evalmesh.adapters.openai.limiter import AdaptiveLimiter, ServerLimit
from evalmesh.adapters.openai.retry import RetryPolicy
from evalmesh.dialect.prompt_scores import span_of
from evalmesh.dialect.sse import FrameTooLarge, SseParser

SSE = (
    b"\xef\xbb\xbf: a comment\n\nevent: message\nid: 1\ndata: one\n\ndata:two\ndata:  three\n\n"
    b"retry: 10\n\ndata\n\n:\ndata: \xc3\xa9\n\n"
)
EVENTS = [b"one", b"two\n three", b"", b"\xc3\xa9"]


@given(st.lists(st.integers(0, len(SSE) * 2), max_size=20), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_events_are_the_same_however_the_bytes_are_cut(cuts, line_end):
    text = SSE.replace(b"\n", line_end)
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    parser = SseParser()
    events = [event for start, end in itertools.pairwise(edges) for event in parser.feed(text[start:end])]
    assert events + parser.finish() == EVENTS


def test_an_event_without_its_empty_line_comes_at_the_end():
    parser = SseParser()
    assert parser.feed(b"data: [DONE]") == []
    assert parser.finish() == [b"[DONE]"]
    assert parser.finish() == []


def test_an_endless_event_is_refused():
    parser = SseParser()
    for _ in range(16):
        assert parser.feed(b"x" * 2**20) == []
    with pytest.raises(FrameTooLarge):
        parser.feed(b"x")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 40.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:01 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
    ],
)
def test_retry_after(headers, seconds):
    assert parse_retry_after(headers, now=60.0) == seconds


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"error": {"message": "too long", "code": null}}', "too long"),
        (b'{"error": "too long"}', "too long"),
        (b'{"object": "error", "message": "too long", "code": 400}', "too long"),
        (b'{"detail": "too long"}', "too long"),
        (b'{"detail": [{"loc": ["body", "n"], "msg": "too long"}]}', "too long"),
        (b"<html>too\n\n long</html>", "too long"),
        (b"", "no message"),
        (b"\xff\xfe", "400"),
    ],
)
def test_the_servers_words_are_found(body, says):
    failure = failure_of_status(400, body, {}, Redactor([]))
    assert says in failure.message
    assert not failure.retryable


def test_secrets_are_blanked_longest_first_before_the_text_is_cut():
    redact = Redactor(["secret", "secret-longer", "", "x"])
    assert redact("a secret-longer x secret") == "a *** x ***"
    assert "secret" not in redact("y" * 495 + "secret")


def test_delays_are_spread_and_bounded():
    policy, rng = RetryPolicy(), Random(1)
    for failures in (1, 2, 3, 10, 5000):
        delays = [policy.delay_s(failures, rng) for _ in range(500)]
        cap = min(30.0, 0.5 * 2 ** min(failures - 1, 10))
        assert min(delays) < cap * 0.05
        assert cap * 0.95 < max(delays) <= cap
    looks = [policy.probe_delay_s(50, rng) for _ in range(100)]
    assert policy.max_probe_delay_s / 2 <= min(looks) < max(looks) <= policy.max_probe_delay_s


async def test_slots_are_handed_on_in_order_and_never_lost():
    limiter = AdaptiveLimiter(1)
    order = []

    async def use(name, *, ahead=False):
        await limiter.acquire(ahead=ahead)
        order.append(name)
        await asyncio.sleep(0)
        limiter.release()

    await limiter.acquire()
    tasks = [asyncio.create_task(use(name)) for name in "abc"]
    await asyncio.sleep(0)
    retry = asyncio.create_task(use("retry", ahead=True))
    await asyncio.sleep(0)
    tasks[0].cancel()
    limiter.release()
    await asyncio.gather(retry, *tasks, return_exceptions=True)
    assert order == ["retry", "b", "c"]
    assert limiter.in_flight == 0
    assert limiter.try_acquire()


async def test_a_slot_handed_to_a_cancelled_waiter_goes_on():
    limiter = AdaptiveLimiter(1)
    await limiter.acquire()
    first, second = (asyncio.create_task(limiter.acquire()) for _ in range(2))
    await asyncio.sleep(0)
    limiter.release()
    first.cancel()
    await second
    assert (limiter.in_flight, first.cancelled()) == (1, True)


async def test_a_pause_holds_everybody_and_ends():
    limiter = AdaptiveLimiter(4)
    limiter.pause(0.05)
    limiter.pause(0.01)
    started = time.monotonic()
    assert not limiter.try_acquire()
    await asyncio.gather(*(limiter.acquire() for _ in range(4)))
    assert time.monotonic() - started >= 0.045
    assert limiter.in_flight == 4


async def test_the_limit_has_a_floor_and_a_ceiling():
    limiter = AdaptiveLimiter(3, decrease_interval_s=0.0)
    limiter.try_acquire()
    for _ in range(20):
        limiter.overloaded(time.monotonic())
    assert limiter.limit == 1
    for _ in range(50):
        limiter.succeeded()
    assert limiter.limit <= 2, "one request at a time shows nothing about three"
    limiter.try_acquire()
    for _ in range(50):
        limiter.succeeded()
    assert limiter.limit == 3


async def test_pools_of_one_server_share_its_limit_in_turn_and_each_keeps_its_own_ceiling():
    server = ServerLimit()
    large, small = AdaptiveLimiter(4, server=server), AdaptiveLimiter(1, server=server)
    assert (large.limit, small.limit) == (4, 1)
    assert all(large.try_acquire() for _ in range(4))
    assert not small.try_acquire(), "the server has four slots, whoever takes them"
    order = []

    async def use(limiter, name):
        await limiter.acquire()
        order.append(name)

    tasks = [asyncio.create_task(use(limiter, name)) for limiter, name in [(large, "a"), (large, "b"), (small, "s")]]
    await asyncio.sleep(0)
    for _ in range(2):
        large.release()
    await asyncio.sleep(0)
    assert sorted(order) == ["a", "s"]
    large.release()
    await asyncio.gather(*tasks)
    assert (server.in_flight, small.in_flight) == (4, 1)
    large.overloaded(time.monotonic())
    assert large.limit == 2, "asked for less by one pool is asked for less by the server"
    small.close()
    large.close()


async def test_a_pause_of_one_pool_does_not_hold_the_others():
    server = ServerLimit()
    paused, other = AdaptiveLimiter(2, server=server), AdaptiveLimiter(2, server=server)
    paused.pause(30.0)
    waiting = asyncio.create_task(paused.acquire())
    await asyncio.sleep(0)
    assert other.try_acquire()
    paused.lift()
    assert await waiting


async def test_a_line_that_does_not_move_is_left_when_the_time_is_over():
    limiter = AdaptiveLimiter(1)
    limiter.pause(30.0)
    assert not await limiter.acquire(left_s=lambda: 0.0)
    limiter.lift()
    assert await limiter.acquire(left_s=lambda: 1.0)
    limiter.release()
    assert limiter.in_flight == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (272, "4 min 32 s"),
        (3600, "1 h"),
        (86400, "24 h"),
        (5400, "1 h 30 min"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, text):
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("tokens", "offsets", "positions"),
    [
        (["The", " sky", " is", " blue"], None, [2, 3]),
        (["<bos>", "The", " sky is", " blue", "."], None, [2, 3]),  # One token lies across the border.
        (["The", " sky", " is", " bl", "\ufffd"], [0, 3, 7, 10, 13], [2, 3, 4]),
        (["Das", " sky"], None, None),
    ],
)
def test_the_tokens_of_a_continuation_are_found(tokens, offsets, positions):
    span = span_of("The sky is blue", len("The sky"), tokens, offsets)
    assert (None if span is None else list(span)) == positions
