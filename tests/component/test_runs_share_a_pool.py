"""Runs on one pool take turns: a small one does not wait for a large one, and none starves."""

import asyncio
from contextlib import asynccontextmanager

from tests.component.test_runner import TestEndpoint
from tests.kit.hosting import hosted
from tests.kit.services import plan_run, write_questions

from evalmesh.adapters.environment import SystemClock
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec
from evalmesh.domain.work import Queue
from evalmesh.model_runner import service as model_runner
from evalmesh.model_runner.settings import ModelRunnerSettings

NAME = "general_mcq"


@asynccontextmanager
async def running(opened, endpoint):
    service = model_runner.build(
        settings=ModelRunnerSettings(drain_s=0.2),
        runs=opened.runs,
        bus=opened.bus,
        signals=opened.signals,
        objects=opened.objects,
        open_endpoint=lambda pool: endpoint,
        clock=SystemClock(),
    )
    async with hosted(service):
        yield


def spec_of(tmp_path, count):
    path = write_questions(tmp_path / f"questions{count}.jsonl", count)
    return RunSpec(ModelSpec("m", url="http://h/v1"), (BenchmarkSpec(NAME, local_path=str(path)),), shard_size=16)


class Counting(TestEndpoint):
    """Knows how many requests were answered when the last one of a run was."""

    def __init__(self, **more):
        super().__init__(limit=16, **more)
        self.order = []

    async def generate(self, request, config, ask_again=None):
        answer = await super().generate(request, config)
        self.order.append(request.digest)
        return answer


async def digests(planned):
    files = planned.of(NAME)
    shards = planned.indices[NAME].shard_count
    return {q.digest for n in range(shards) for row in (await files.read_requests(n))[1] for q in row.requests()}


async def until_scored(opened, count):
    async with asyncio.timeout(60):
        while await opened.bus.backlog(Queue.SCORE) < count:  # noqa: ASYNC110  (a queue has no event for it)
            await asyncio.sleep(0.02)


async def test_small_run_behind_a_large_one_ends_within_three_times_what_it_takes_alone(opened, tmp_path):
    """Counted in answers of the pool, which is what its time is made of: alone it takes 100."""
    endpoint = Counting(latency_s=0.004)
    large = await plan_run(opened, "large", spec_of(tmp_path, 3200))
    async with running(opened, endpoint):
        async with asyncio.timeout(30):
            while len(endpoint.order) < 160:  # noqa: ASYNC110  (the endpoint is a plain list)
                await asyncio.sleep(0.01)
        small = await plan_run(opened, "small", spec_of(tmp_path, 100))
        before = len(endpoint.order)
        mine = await digests(small)
        async with asyncio.timeout(60):
            while not mine <= set(endpoint.order):  # noqa: ASYNC110  (likewise)
                await asyncio.sleep(0.01)
        last = max(place for place, digest in enumerate(endpoint.order) if digest in mine)
    assert last - before <= 3 * 100
    assert large.requests == 3200


async def test_many_runs_all_get_their_turn(opened, tmp_path):
    endpoint = Counting(latency_s=0.002)
    runs = [await plan_run(opened, f"r{number}", spec_of(tmp_path, 64 + number)) for number in range(25)]
    async with running(opened, endpoint):
        await until_scored(opened, sum(run.indices[NAME].shard_count for run in runs))
    assert len(endpoint.order) == sum(run.requests for run in runs)
    assert len(set(endpoint.order)) == len(endpoint.order)
    firsts = [min(endpoint.order.index(digest) for digest in await digests(run)) for run in runs]
    # By the time one run in turn has had its first shard, none has had more than a few.
    assert max(firsts) < 25 * 16 * 4
