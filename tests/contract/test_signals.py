"""What every adapter of signals must do; run on NATS, the only one there is."""

import asyncio
import os
import signal
import time

import pytest
from tests.kit.nats import kill

from evalmesh.adapters.nats.connection import connect
from evalmesh.adapters.nats.signals import NatsSignals
from evalmesh.domain.errors import FailedPrecondition, InternalError, InvalidInput, Unavailable
from evalmesh.wire import subjects

SUBJECT = subjects.conductor_subject("test-1")


@pytest.fixture
async def here(nats_connection):
    return NatsSignals(nats_connection)


@pytest.fixture
async def there(nats_server):
    connection = await connect(nats_server.url, "there")
    yield NatsSignals(connection)
    await connection.close()


async def echo(body):
    return b"re: " + body


async def test_a_question_is_answered(here, there):
    async with there.answer(SUBJECT, echo):
        assert await here.ask(SUBJECT, b"\x00ready?", 5) == b"re: \x00ready?"
        assert await there.ask(SUBJECT, b"", 5) == b"re: "


async def test_subjects_do_not_mix(here, there):
    async def other(body):
        return b"other"

    async with there.answer(SUBJECT, echo), there.answer(subjects.conductor_subject("test-2"), other):
        assert await here.ask(SUBJECT, b"x", 5) == b"re: x"
        assert await here.ask(subjects.conductor_subject("test-2"), b"x", 5) == b"other"


async def test_nobody_there_is_told_at_once(here, there):
    start = time.monotonic()
    with pytest.raises(Unavailable, match=r"load\.test-1\.conductor.*nobody"):
        await here.ask(SUBJECT, b"x", 30)
    async with there.answer(SUBJECT, echo):
        await here.ask(SUBJECT, b"x", 5)
    with pytest.raises(Unavailable, match="nobody"):
        await here.ask(SUBJECT, b"x", 30)
    assert time.monotonic() - start < 10


async def test_an_answer_that_takes_too_long_is_unavailable_in_time(here, there):
    async def never(body):
        await asyncio.Event().wait()
        return b""

    async with there.answer(SUBJECT, never):
        start = time.monotonic()
        with pytest.raises(Unavailable, match=r"within 0\.2 s"):
            await here.ask(SUBJECT, b"x", 0.2)
        assert time.monotonic() - start < 3


async def test_a_question_may_wait_while_others_are_answered(here, there):
    """A barrier: each seat asks, and is answered when the last one has."""
    waiting, all_there = [], asyncio.Event()

    async def barrier(body):
        waiting.append(body)
        if len(waiting) == 20:
            all_there.set()
        await all_there.wait()
        return body

    async with there.answer(SUBJECT, barrier):
        answers = await asyncio.gather(*(here.ask(SUBJECT, b"%d" % seat, 10) for seat in range(20)))
    assert answers == [b"%d" % seat for seat in range(20)]


async def test_a_long_wait_is_asked_once(here, there):
    """Longer than one try of a request to the server itself takes."""
    asked = []

    async def slow(body):
        asked.append(body)
        await asyncio.sleep(3.3)
        return body

    async with there.answer(SUBJECT, slow):
        assert await here.ask(SUBJECT, b"x", 10) == b"x"
    assert asked == [b"x"]


async def test_an_error_is_raised_where_it_was_asked(here, there, caplog):
    async def refuse(body):
        if body == b"defect":
            raise KeyError("secret")
        raise FailedPrecondition("The level has begun; wait for the next é.")

    async with there.answer(SUBJECT, refuse):
        with pytest.raises(FailedPrecondition, match="next é"):
            await here.ask(SUBJECT, b"x", 5)
        with pytest.raises(InternalError) as told:
            await here.ask(SUBJECT, b"defect", 5)
    assert "KeyError" in told.value.message
    assert "secret" not in told.value.message
    assert "secret" in caplog.text


async def test_what_is_under_way_when_the_block_ends_is_given_up(here, there):
    given_up = asyncio.Event()

    async def wait(body):
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    async with there.answer(SUBJECT, wait):
        asking = asyncio.create_task(here.ask(SUBJECT, b"x", 30))
        await asyncio.sleep(0.1)
    assert given_up.is_set()
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable, match="has left"):
            await asking


async def test_answers_go_on_after_the_server_was_killed(here, there, nats_server):
    async with there.answer(SUBJECT, echo):
        assert await here.ask(SUBJECT, b"1", 5) == b"re: 1"
        for number in range(3):
            await asyncio.to_thread(kill, nats_server)
            asking = asyncio.create_task(here.ask(SUBJECT, b"%d" % number, 10))
            await asyncio.sleep(0.1)
            await asyncio.to_thread(nats_server.start)
            assert await asking == b"re: %d" % number


async def test_a_question_whose_answer_was_lost_is_asked_again(here, there, nats_server):
    asked = []

    async def slow(body):
        asked.append(body)
        await asyncio.sleep(0.5 if len(asked) == 1 else 0)
        return b"%d" % len(asked)

    async with there.answer(SUBJECT, slow):
        asking = asyncio.create_task(here.ask(SUBJECT, b"x", 10))
        while not asked:  # noqa: ASYNC110  (the port has no event for it)
            await asyncio.sleep(0.01)
        await asyncio.to_thread(kill, nats_server)
        await asyncio.to_thread(nats_server.start)
        assert await asking in (b"1", b"2")
    assert len(asked) == 2


async def test_a_server_that_stays_away_or_hangs_is_unavailable_in_bounded_time(here, there, nats_server):
    async with there.answer(SUBJECT, echo):
        os.kill(nats_server.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(5):
                with pytest.raises(Unavailable):
                    await here.ask(SUBJECT, b"x", 0.3)
        finally:
            os.kill(nats_server.pid, signal.SIGCONT)
        assert await here.ask(SUBJECT, b"x", 5) == b"re: x"
        nats_server.stop()
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                await here.ask(SUBJECT, b"x", 0.3)


@pytest.mark.parametrize("bad", ["", "a.b", "*", "a b", ">"])
def test_ids_that_could_break_a_subject_are_refused(bad):
    with pytest.raises(InvalidInput):
        subjects.conductor_subject(bad)
