"""When failures are held, whose they are, and when they end a run."""

import asyncio
import time

import pytest

from evalmesh.domain.completion import CompletionError
from evalmesh.model_runner.trial import HopelessError, Trial

SERVER = CompletionError("server", "The endpoint answered 500: oops", 500)
TOO_LONG = CompletionError("bad_request", "The endpoint answered 400: too long", 400)
NO_MODEL = CompletionError("bad_request", "The endpoint answered 404: no such model", 404)


def trial(stop_after=3, hold_s=0.05):
    made = Trial(stop_after, hold_s, lambda: None)
    made.open = 100  # others are being asked
    return made


async def fail(of, *errors):
    tasks = [asyncio.create_task(of.failed(f"r{n}", error, time.time())) for n, error in enumerate(errors)]
    await asyncio.sleep(0)
    return tasks


async def test_failures_alike_end_the_run_for_all_that_are_held():
    one = trial()
    tasks = await fail(one, SERVER, SERVER, SERVER)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {HopelessError}
    assert "3 requests in a row failed alike" in str(results[0])
    with pytest.raises(HopelessError):
        await one.failed("late", NO_MODEL, time.time())


async def test_a_success_shows_that_failures_were_the_requests_own():
    one = trial()
    tasks = await fail(one, SERVER, SERVER)
    assert one.held == 2
    one.succeeded(time.time())
    await asyncio.gather(*tasks)
    assert one.held == 0
    tasks = [asyncio.create_task(one.failed(name, SERVER, time.time())) for name in ("r8", "r9")]
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks), "the count began anew"
    one.succeeded(time.time())
    await asyncio.gather(*tasks)


async def test_the_success_of_a_request_that_was_sent_before_shows_nothing_of_a_failure():
    """A key is revoked while others are under way: what failed since is nobody's own."""
    one = trial()
    before = time.time()
    tasks = await fail(one, SERVER, SERVER)
    one.succeeded(before)
    await asyncio.sleep(0)
    assert one.held == 2
    tasks += [asyncio.create_task(one.failed(f"later{n}", SERVER, time.time())) for n in range(3)]
    assert {type(result) for result in await asyncio.gather(*tasks, return_exceptions=True)} == {HopelessError}


async def test_one_request_that_fails_often_is_one_failure():
    one = trial()
    tasks = [asyncio.create_task(one.failed("r0", SERVER, time.time())) for _ in range(10)]
    await asyncio.sleep(0)
    assert one.held == 10
    one.succeeded(time.time())
    await asyncio.gather(*tasks)


async def test_a_failure_that_was_the_requests_own_is_not_counted_again_with_its_next_try():
    one = trial()
    tasks = await fail(one, SERVER, SERVER)
    one.succeeded(time.time())
    await asyncio.gather(*tasks)
    await asyncio.gather(*await fail(one, SERVER, SERVER))  # the same two, to their end
    one.done("r0")
    task = asyncio.create_task(one.failed("r0", SERVER, time.time()))
    await asyncio.sleep(0)
    assert not task.done(), "asked anew, it is as any other"
    one.succeeded(time.time())
    await task


async def test_failures_that_differ_are_counted_apart():
    one = trial()
    tasks = await fail(one, SERVER, NO_MODEL, SERVER, NO_MODEL)
    assert one.held == 4
    one.succeeded(time.time())
    await asyncio.gather(*tasks)


async def test_who_is_alone_is_not_held_for_long():
    one = trial()
    one.open = 2

    async def ask(name):
        await one.failed(name, SERVER, time.time())
        one.done(name)

    await asyncio.wait_for(asyncio.gather(ask("r0"), ask("r1")), 5)


async def test_what_is_refused_for_what_it_is_counts_only_before_the_first_success():
    one = trial()
    one.succeeded(time.time())
    for n in range(50):
        await one.failed(f"r{n}", TOO_LONG, time.time())
    tasks = await fail(trial(), TOO_LONG, TOO_LONG, TOO_LONG)
    assert {type(one) for one in await asyncio.gather(*tasks, return_exceptions=True)} == {HopelessError}
    tasks = await fail(one, NO_MODEL, NO_MODEL, NO_MODEL)
    assert {type(one) for one in await asyncio.gather(*tasks, return_exceptions=True)} == {HopelessError}


async def test_nothing_is_held_where_nothing_stops():
    one = trial(stop_after=0)
    for n in range(50):
        await one.failed(f"r{n}", SERVER, time.time())


async def test_late_failures_of_requests_that_were_sent_before_the_newest_success_end_nothing():
    """A server that fails some for good: with their retries they are the last to end, and many in a row."""
    one = trial()
    sent_at = time.time()
    one.succeeded(time.time())
    one.open = 6  # no others are left
    await asyncio.wait_for(asyncio.gather(*(one.failed(f"r{n}", SERVER, sent_at) for n in range(6))), 5)
