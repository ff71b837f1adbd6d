"""A run that leads nowhere ends soon: what it was not answered is not run, and a resume asks it."""

import asyncio
import time
from dataclasses import replace

import pytest
from tests.component.test_runner import NAME, TestEndpoint, outputs, running, spec_of
from tests.kit.services import plan_run

from evalmesh.domain.completion import Completion, CompletionError, Timing
from evalmesh.domain.run import RunState
from evalmesh.domain.work import Queue, Task
from evalmesh.ports.endpoint import EndpointGone


class Failing(TestEndpoint):
    """Fails where `fails` gives an error for a request; tries thrice unless `ask_again` objects."""

    __test__ = False

    def __init__(self, fails, **more):
        super().__init__(**more)
        self.fails = fails
        self.tries = 0

    async def generate(self, request, config, ask_again=None):
        error, sent_at = self.fails(request), time.time()
        if error is None:
            self.tries += 1
            answer = await super().generate(request, config)
            return replace(answer, timing=Timing(sent_at, time.time() - sent_at))
        for n in range(3):
            self.tries += 1
            await asyncio.sleep(self.latency_s)
            if n == 1 and ask_again is not None:
                await ask_again(error, sent_at)
        return Completion(request.sample_id, request.repeat, request.digest, error=error)


class Refusing(TestEndpoint):
    """Refuses at once and for good, at most `limit` at a time."""

    __test__ = False
    tries = 0

    async def generate(self, request, config, ask_again=None):
        async with self._slots:
            self.tries += 1
            await asyncio.sleep(self.latency_s)
        return Completion(request.sample_id, request.repeat, request.digest, error=GONE)


SERVER = CompletionError("server", "The endpoint answered 500: oops", 500)
TOO_LONG = CompletionError("bad_request", "The endpoint answered 400: too long", 400)
GONE = CompletionError("bad_request", "The endpoint answered 404: no such model", 404)


def place(request) -> int:
    return int(request.sample_id.split("/")[1])


async def ended(opened, run):
    """The record once somebody has said that the run cannot go on."""
    async with asyncio.timeout(15):
        while True:
            found = (await opened.runs.get(run)).value
            if found.error:
                return found
            await asyncio.sleep(0.02)


async def written(opened, run, shards):
    files = outputs(opened, run)
    return [row for shard in range(shards) if await files.has(shard) for row in await files.read_completions(shard)]


async def finishing(opened):
    """The item that asks for the report and the end of a run."""
    consumer = await opened.bus.consume(Queue.REDUCE)
    async with asyncio.timeout(15):
        while not (batch := await consumer.fetch(1, 1)):
            pass
    await consumer.close()
    assert batch[0].item.task is Task.FINISH
    return batch[0].item


async def until_written(opened, run, shards, count):
    async with asyncio.timeout(15):
        while len(await written(opened, run, shards)) < count:  # noqa: ASYNC110  (files have no event for it)
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("error", [SERVER, GONE, CompletionError("malformed", "no JSON")])
async def test_failures_alike_without_one_success_end_the_run(opened, tmp_path, error):
    endpoint = Failing(lambda request: error, limit=4)
    plan = await plan_run(opened, "r1", spec_of(tmp_path, 200, shard_size=10))
    async with running(opened, endpoint):
        run = await ended(opened, "r1")
        assert run.state is RunState.CANCELLING, "FAILED once its report is there"
        assert "20 requests in a row failed alike, none succeeded" in run.error
        assert error.message in run.error
        assert (await finishing(opened)).run == "r1"
    assert endpoint.tries <= 2 * (20 + 30), "each once or twice: those that made it sure, and those that were under way"
    assert await written(opened, "r1", 20) == [], "what failed is asked again by a resume"
    assert plan.requests == 200


async def test_the_rest_of_a_large_shard_is_not_asked_once_it_is_known(opened, tmp_path):
    endpoint = Refusing(limit=8)
    await plan_run(opened, "r1", spec_of(tmp_path, 400, shard_size=400))
    async with running(opened, endpoint):
        run = await ended(opened, "r1")
    assert "20 requests in a row failed alike" in run.error
    assert endpoint.tries <= 20 + 2 * 8, "those that made it sure, and those that were under way"


async def test_a_key_that_is_revoked_in_mid_run_ends_it_and_keeps_what_was_answered(opened, tmp_path):
    revoked = CompletionError("auth", "The endpoint answered 401: revoked", 401)
    endpoint = Failing(lambda request: revoked if place(request) >= 50 else None, limit=4)
    await plan_run(opened, "r1", spec_of(tmp_path, 200, shard_size=10))
    async with running(opened, endpoint):
        run = await ended(opened, "r1")
    assert run.error_reason == "UNAUTHENTICATED"
    rows = await written(opened, "r1", 20)
    assert len(rows) == 50
    assert all(row.error is None for row in rows)


async def test_requests_that_are_refused_for_what_they_are_stop_nothing(opened, tmp_path):
    """A hundred documents in a row that are too long, among others that are answered."""
    endpoint = Failing(lambda request: TOO_LONG if 10 <= place(request) < 110 else None, limit=4)
    await plan_run(opened, "r1", spec_of(tmp_path, 130, shard_size=10))
    async with running(opened, endpoint):
        await until_written(opened, "r1", 13, 130)
    rows = await written(opened, "r1", 13)
    assert sum(row.error is not None for row in rows) == 100
    assert (await opened.runs.get("r1")).value.state is RunState.RUNNING


@pytest.mark.parametrize("every", [2, 3])
async def test_failures_between_successes_stop_nothing(opened, tmp_path, every):
    endpoint = Failing(lambda request: SERVER if place(request) % every else None, limit=8)
    await plan_run(opened, "r1", spec_of(tmp_path, 60, shard_size=10))
    async with running(opened, endpoint, hold_s=0.2):
        await until_written(opened, "r1", 6, 60)
    assert (await opened.runs.get("r1")).value.error == ""


async def test_fewer_failures_than_make_a_run_hopeless_are_its_results(opened, tmp_path):
    endpoint = Failing(lambda request: SERVER, limit=4)
    await plan_run(opened, "r1", spec_of(tmp_path, 10))
    async with running(opened, endpoint, hold_s=0.2):
        await until_written(opened, "r1", 1, 10)
    assert endpoint.tries == 30, "each was tried as often as it may be"


async def test_nothing_is_stopped_where_that_is_asked_for(opened, tmp_path):
    endpoint = Failing(lambda request: SERVER, limit=8)
    await plan_run(opened, "r1", spec_of(tmp_path, 60, shard_size=10, stop_after_failures=0))
    async with running(opened, endpoint):
        await until_written(opened, "r1", 6, 60)


async def test_one_run_that_leads_nowhere_does_not_stop_its_neighbour_on_the_pool(opened, tmp_path):
    endpoint = Failing(lambda request: SERVER if request.digest in bad else None, limit=8)
    first = await plan_run(opened, "bad", spec_of(tmp_path, 100, shard_size=10))
    second = await plan_run(opened, "good", spec_of(tmp_path, 101, shard_size=10))
    assert first.pool == second.pool
    bad = {q.digest for n in range(10) for row in (await first.of(NAME).read_requests(n))[1] for q in row.requests()}
    async with running(opened, endpoint):
        run = await ended(opened, "bad")
        await until_written(opened, "good", 11, 101)
    assert "none succeeded" in run.error
    assert (await opened.runs.get("good")).value.error == ""


async def test_an_endpoint_that_is_gone_ends_every_run_of_its_pool(opened, tmp_path):
    class Gone(TestEndpoint):
        async def generate(self, request, config, ask_again=None):
            if self.answered.total() >= 20:
                raise EndpointGone("http://h/v1 has not answered for 10 min.")
            return await super().generate(request, config)

    for run, count in (("r1", 100), ("r2", 101)):
        await plan_run(opened, run, spec_of(tmp_path, count, shard_size=10))
    endpoint = Gone(limit=4)
    async with running(opened, endpoint):
        runs = [await ended(opened, run) for run in ("r1", "r2")]
    assert {run.error_reason for run in runs} == {"UNAVAILABLE"}
    assert all("has not answered for 10 min" in run.error for run in runs)
    rows = [*await written(opened, "r1", 10), *await written(opened, "r2", 11)]
    assert all(row.error is None for row in rows)


async def test_what_a_pool_waits_for_is_noted_and_that_it_is_over(opened, tmp_path):
    endpoint = TestEndpoint(limit=4, hold=lambda request: True)
    plan = await plan_run(opened, "r1", spec_of(tmp_path, 10))

    async def noted(trouble):
        async with asyncio.timeout(15):
            while [note.trouble for note in await opened.runs.pool_notes(plan.pool)] != [trouble]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async with running(opened, endpoint):
        await noted("")
        endpoint.trouble = "http://h/v1 has not answered for 2 s"
        await noted(endpoint.trouble)
        endpoint.trouble = ""
        await noted("")
