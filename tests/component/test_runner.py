"""The model runner over a real bus and a folder; the endpoint, at the edge of the world, is the test's own."""

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
from tests.kit.hosting import hosted
from tests.kit.services import plan_run, write_questions

from evalmesh.adapters.environment import SystemClock
from evalmesh.domain import layout
from evalmesh.domain.completion import Completion, CompletionError
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec, RunState
from evalmesh.domain.work import Queue
from evalmesh.model_runner import service as model_runner
from evalmesh.model_runner.settings import ModelRunnerSettings
from evalmesh.ports.endpoint import Capabilities, Occupancy
from evalmesh.runtime.runs import RunRecords
from evalmesh.wire import subjects
from evalmesh.wire.runs.shard_files import RunFiles

SCORE = Queue.SCORE
NAME = "general_mcq"


class TestEndpoint:
    """Answers after `latency_s`, at most `limit` at once; `hold` keeps the requests it says open until released."""

    __test__ = False

    def __init__(self, limit=8, latency_s=0.01, hold=lambda request: False):
        self.limit = limit
        self.latency_s = latency_s
        self.hold = hold
        self.released = asyncio.Event()
        self.asked = Counter()
        self.answered = Counter()
        self.aborted = Counter()
        self.in_flight = 0
        self.history = []
        self.closed = False
        self._slots = asyncio.Semaphore(limit)

    capabilities = Capabilities(frozenset({"chat", "completion", "loglikelihood"}))

    @property
    def load(self):
        return Occupancy(self.in_flight, self.limit)

    trouble = ""

    async def check(self, kind=None, config=None):
        return ()

    def renew(self, wish):
        pass

    async def generate(self, request, config, ask_again=None):
        async with self._slots:
            self._changed(+1)
            self.asked[request.sample_id] += 1
            try:
                if self.hold(request):
                    await self.released.wait()
                else:
                    # Spread out, so that slots do not fall free in step.
                    await asyncio.sleep(self.latency_s * (0.5 + self.asked.total() % 7 / 7))
            except asyncio.CancelledError:
                self.aborted[request.sample_id] += 1
                raise
            finally:
                self._changed(-1)
        self.answered[request.sample_id] += 1
        return Completion(request.sample_id, request.repeat, request.digest, text="ANSWER: A", finish_reason="stop")

    def _changed(self, by):
        self.in_flight += by
        self.history.append((time.monotonic(), self.in_flight))

    async def close(self):
        self.closed = True


@asynccontextmanager
async def running(opened, *endpoints, **settings):
    """The service with all its wiring; each time it opens a pool it gets the next endpoint."""
    waiting = list(endpoints)
    service = model_runner.build(
        settings=ModelRunnerSettings(**{"drain_s": 0.2, **settings}),
        runs=opened.runs,
        bus=opened.bus,
        signals=opened.signals,
        objects=opened.objects,
        open_endpoint=lambda pool: waiting.pop(0),
        clock=SystemClock(),
    )
    async with hosted(service):
        yield service


def spec_of(tmp_path, count, **more):
    path = write_questions(tmp_path / f"questions{count}.jsonl", count)
    return RunSpec(ModelSpec("m", url="http://h/v1"), (BenchmarkSpec(NAME, local_path=str(path)),), **more)


async def until(condition, within_s=15.0):
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  (the endpoint is a plain counter)
            await asyncio.sleep(0.01)


async def until_queued(opened, queue, count, pool=""):
    async with asyncio.timeout(15):
        while await opened.bus.backlog(queue, pool) != count:  # noqa: ASYNC110  (a queue has no event for it)
            await asyncio.sleep(0.02)


async def checkpointed(opened, run, shard=0):
    return {row.sample_id for row in await outputs(opened, run).read_parts(shard)}


def outputs(opened, run):
    return RunFiles(opened.objects).of(run, NAME).of("generate")


# Keeping the endpoint busy


async def test_in_flight_is_the_limit_across_shards_and_benchmarks(opened, tmp_path):
    spec = spec_of(tmp_path, 150, shard_size=5)
    spec = RunSpec(spec.model, (*spec.benchmarks, BenchmarkSpec("starter_mcq")), shard_size=5)
    endpoint = TestEndpoint(limit=12, latency_s=0.05)
    plan = await plan_run(opened, "r1", spec)
    total = plan.requests
    async with running(opened, endpoint):
        await until(lambda: endpoint.answered.total() == total)
    assert max(level for _, level in endpoint.history) == 12
    full = next(place for place, (_, level) in enumerate(endpoint.history) if level == 12)
    # Until the last request is out, a slot that falls free is taken at once.
    steady = endpoint.history[full : -2 * 12]
    area = sum(level * (later - at) for (at, level), (later, _) in pairwise(steady))
    assert area / (steady[-1][0] - steady[0][0]) > 0.93 * 12
    assert set(endpoint.asked.values()) == {1}


async def test_one_slow_request_does_not_hold_up_other_shards(opened, tmp_path):
    endpoint = TestEndpoint(limit=4, hold=lambda request: request.sample_id.endswith("/0"))
    await plan_run(opened, "r1", spec_of(tmp_path, 60, shard_size=6))
    async with running(opened, endpoint):
        await until_queued(opened, SCORE, 9)
        assert endpoint.answered.total() == 59
        endpoint.released.set()
        await until_queued(opened, SCORE, 10)
    assert set(endpoint.asked.values()) == {1}


async def test_runner_does_not_hoard_what_another_could_do(opened, tmp_path):
    endpoint = TestEndpoint(limit=4, hold=lambda request: True)
    plan = await plan_run(opened, "r1", spec_of(tmp_path, 160, shard_size=8))
    async with running(opened, endpoint):
        await until(lambda: endpoint.in_flight == 4)
        await asyncio.sleep(0.3)
        name = subjects.consumer_name(Queue.GENERATE, plan.pool, "r1")
        info = await opened.bus.connection.api(f"CONSUMER.INFO.{subjects.WORK_STREAM}.{name}")
        assert info["num_ack_pending"] <= 2


# Keeping what was paid for


@pytest.mark.alone
async def test_answers_are_safe_within_a_second_while_the_shard_goes_on(opened, tmp_path):
    endpoint = TestEndpoint(limit=8, hold=lambda request: int(request.sample_id.split("/")[1]) % 4 == 3)
    await plan_run(opened, "r1", spec_of(tmp_path, 20))
    async with running(opened, endpoint):
        await until(lambda: endpoint.answered.total() == 15)
        start = time.monotonic()
        async with asyncio.timeout(3):
            while len(await checkpointed(opened, "r1")) < 15:  # noqa: ASYNC110  (files have no event for it)
                await asyncio.sleep(0.02)
        assert time.monotonic() - start < 1.2
    successor = TestEndpoint(limit=8)
    async with running(opened, successor):
        await until_queued(opened, SCORE, 1)
    assert successor.asked.total() == 5
    assert set(successor.asked) == set(endpoint.asked) - set(endpoint.answered)
    rows = await outputs(opened, "r1").read_completions(0)
    assert len({row.sample_id for row in rows}) == 20
    assert await checkpointed(opened, "r1") == set(), "checkpoints outlived the shard"


async def test_drain_keeps_what_was_answered_since_the_last_checkpoint(opened, tmp_path):
    endpoint = TestEndpoint(limit=8, hold=lambda request: request.sample_id.endswith("7"))
    await plan_run(opened, "r1", spec_of(tmp_path, 20))
    async with running(opened, endpoint, checkpoint_s=60):
        await until(lambda: endpoint.answered.total() == 18)
        assert await checkpointed(opened, "r1") == set()
    assert len(await checkpointed(opened, "r1")) == 18


async def test_first_writer_of_a_shard_wins(opened, tmp_path):
    """Two runners may hold one shard, after one was believed dead: what the score step has read must not change."""
    endpoint = TestEndpoint(limit=8, hold=lambda request: request.sample_id.endswith("/3"))
    planned = await plan_run(opened, "r1", spec_of(tmp_path, 5))
    async with running(opened, endpoint):
        await until(lambda: endpoint.answered.total() == 4)
        header_and_rows = await planned.of(NAME).read_requests(0)
        first = [
            Completion(request.sample_id, 0, request.digest, text="by the other runner")
            for row in header_and_rows[1]
            for request in row.requests()
        ]
        assert await outputs(opened, "r1").write(0, first)
        endpoint.released.set()
        await until_queued(opened, SCORE, 1)
    assert await outputs(opened, "r1").read_completions(0) == first


async def test_shard_that_is_complete_is_only_passed_on(opened, tmp_path):
    await plan_run(opened, "r1", spec_of(tmp_path, 5))
    first, second = TestEndpoint(), TestEndpoint()
    async with running(opened, first):
        await until_queued(opened, SCORE, 1)
    consumer = await opened.bus.consume(SCORE)
    (delivery,) = await consumer.fetch(1, 2)
    await delivery.ack()
    await plan_run(opened, "r1", spec_of(tmp_path, 5), attempt=1)
    async with running(opened, second):
        await until_queued(opened, SCORE, 1)
    assert second.asked.total() == 0


async def test_store_that_fails_while_generating_costs_no_request(opened, tmp_path):
    endpoint = TestEndpoint(limit=4, latency_s=0.05)
    await plan_run(opened, "r1", spec_of(tmp_path, 80, shard_size=8))
    objects, away = tmp_path / "objects", tmp_path / "away"
    async with running(opened, endpoint, checkpoint_s=0.2):
        await until(lambda: endpoint.answered.total() >= 20)
        objects.rename(away)
        await asyncio.sleep(1.5)
        away.rename(objects)
        await until_queued(opened, SCORE, 10)
    assert endpoint.asked.total() == 80
    assert set(endpoint.asked.values()) == {1}


async def test_error_of_a_request_is_its_result(opened, tmp_path):
    class Failing(TestEndpoint):
        async def generate(self, request, config, ask_again=None):
            answer = await super().generate(request, config)
            if request.sample_id.endswith("/2"):
                error = CompletionError("bad_request", "too long")
                return Completion(request.sample_id, 0, request.digest, error=error)
            return answer

    await plan_run(opened, "r1", spec_of(tmp_path, 5))
    async with running(opened, Failing()):
        await until_queued(opened, SCORE, 1)
    rows = await outputs(opened, "r1").read_completions(0)
    assert [row.error is not None for row in rows] == [False, False, True, False, False]


async def test_defect_of_an_endpoint_is_tried_again_then_set_aside(opened, tmp_path):
    class Broken(TestEndpoint):
        async def generate(self, request, config, ask_again=None):
            if request.sample_id.endswith("/2"):
                self.asked[request.sample_id] += 1
                raise ZeroDivisionError
            return await super().generate(request, config)

    endpoint = Broken()
    await plan_run(opened, "r1", spec_of(tmp_path, 5))
    async with running(opened, endpoint, max_deliveries=2):
        await until_queued(opened, Queue.REDUCE, 1)
    assert endpoint.answered.total() == 4, "what was answered in the first try was asked again"
    (asked_twice,) = [sample for sample, times in endpoint.asked.items() if times == 2]
    assert asked_twice.endswith("/2")


# Cancelling, closing


@pytest.mark.alone
async def test_cancel_aborts_what_is_in_flight_and_keeps_what_is_finished(opened, tmp_path):
    endpoint = TestEndpoint(limit=8, hold=lambda request: int(request.sample_id.split("/")[1]) >= 10)
    plan = await plan_run(opened, "r1", spec_of(tmp_path, 20))
    async with running(opened, endpoint, checkpoint_s=60):
        await until(lambda: endpoint.answered.total() == 10)
        await cancel(opened, "r1")
        start = time.monotonic()
        await until(lambda: endpoint.in_flight == 0)
        assert time.monotonic() - start < 1
        await until_queued(opened, Queue.GENERATE, 0, plan.pool)
        assert await opened.bus.backlog(SCORE) == 0
        assert len(await checkpointed(opened, "r1")) == 10


async def test_run_that_has_failed_stops_spending_like_a_cancelled_one(opened, tmp_path):
    """One of its shards could not be reported: the others are not asked any more, and what is finished stays."""
    endpoint = TestEndpoint(limit=8, hold=lambda request: endpoint.asked.total() > 10)
    plan = await plan_run(opened, "r1", spec_of(tmp_path, 200, shard_size=20))
    async with running(opened, endpoint, checkpoint_s=60):
        await until(lambda: endpoint.answered.total() == 10)
        await RunRecords(opened.runs, opened.bus, SystemClock()).fail("r1", "No report.", "REPORT_FAILED")
        await until(lambda: endpoint.in_flight == 0, within_s=5)
        asked = endpoint.asked.total()
        await until_queued(opened, Queue.GENERATE, 0, plan.pool)
        assert endpoint.asked.total() == asked
        kept = [await checkpointed(opened, "r1", shard) for shard in range(10)]
        assert sum(map(len, kept)) == 10
    assert (await opened.runs.get("r1")).value.state is RunState.FAILED


async def cancel(opened, run):
    known = await opened.runs.get(run)
    await opened.runs.update(replace(known.value, state=RunState.CANCELLING), known.revision)
    await opened.runs.set_control(run, "cancel")


async def test_pool_that_no_run_wishes_for_is_closed_and_opened_again_when_wanted(opened, tmp_path):
    endpoints = [TestEndpoint(), TestEndpoint()]
    async with running(opened, *endpoints, idle_close_s=0.3):
        await plan_run(opened, "r1", spec_of(tmp_path, 5))
        await until_queued(opened, SCORE, 1)
        await opened.runs.withdraw_pools("r1")
        await until(lambda: endpoints[0].closed)
        before = len(asyncio.all_tasks())
        await plan_run(opened, "r2", spec_of(tmp_path, 6))
        await until_queued(opened, SCORE, 2)
        assert endpoints[1].answered.total() == 6
        await opened.runs.withdraw_pools("r2")
        await until(lambda: endpoints[1].closed)
        await until(lambda: len(asyncio.all_tasks()) <= before)
    assert not await leftovers(opened, "r1")


async def test_wish_that_comes_while_a_pool_is_about_to_close_is_served(opened, tmp_path):
    async with running(opened, *(TestEndpoint() for _ in range(10)), idle_close_s=0.2):
        for number in range(10):
            await plan_run(opened, f"r{number}", spec_of(tmp_path, 3 + number))
            await until_queued(opened, SCORE, number + 1)
            await opened.runs.withdraw_pools(f"r{number}")
            # From before the moment of closing to after it.
            await asyncio.sleep(0.16 + 0.01 * number)


async def leftovers(opened, run):
    prefix = layout.parts_prefix(run, NAME, "generate", 0)
    return [info.key async for info in opened.objects.list(prefix)]
