"""Planning over a real bus and a folder: shards go out while rows are read, nobody waits, nothing is planned twice."""

import asyncio
import json
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from tests.kit.hosting import hosted
from tests.kit.services import plan_run, write_questions
from tests.unit.domain.test_stage_graph import JUDGED

from evalmesh.adapters.datasets import LocalDatasets
from evalmesh.adapters.environment import SystemClock
from evalmesh.benchmarks import registry
from evalmesh.dataset_loader import service as dataset_loader
from evalmesh.dataset_loader.settings import DatasetLoaderSettings
from evalmesh.domain import layout
from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.progress import ShardCounts
from evalmesh.domain.run import RUN_FORMAT, BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.domain.work import Queue, Task, WorkItem
from evalmesh.results.finding import Datasets
from evalmesh.runtime.progress import change_progress, read_progress

NAME = "general_mcq"


def spec_of(tmp_path, count, **more):
    path = write_questions(tmp_path / f"questions{count}.jsonl", count)
    return RunSpec(ModelSpec("m", url="http://h/v1"), (BenchmarkSpec(NAME, local_path=str(path)),), **more)


class SlowRows(LocalDatasets):
    """Rows that come only as far as they are let through; says how often they were read from the start."""

    def __init__(self, only=""):
        super().__init__()
        self.only = only
        self.allowed = threading.Semaphore(0)
        self.read = 0
        self.passes = 0

    def rows(self, files, *how):
        self.passes += 1
        for row in super().rows(files, *how):
            assert self.only not in files[0].name or self.allowed.acquire(timeout=30)
            self.read += 1
            yield row

    def marks(self, files, *how):
        for mark in super().marks(files, *how):
            assert self.only not in files[0].name or self.allowed.acquire(timeout=30)
            self.read += 1
            yield mark

    def let_through(self, count):
        for _ in range(count):
            self.allowed.release()


@asynccontextmanager
async def running(opened, source=None):
    service = dataset_loader.build(
        settings=DatasetLoaderSettings(drain_s=0.2),
        runs=opened.runs,
        bus=opened.bus,
        objects=opened.objects,
        datasets=Datasets(source or LocalDatasets()),
        clock=SystemClock(),
    )
    async with hosted(service):
        yield service


async def submit(opened, run, spec):
    await opened.runs.create(Run(run, spec, RunState.QUEUED, time.time(), format=RUN_FORMAT))
    await opened.bus.publish([WorkItem(run, Task.PLAN)])


async def until(condition, within_s=15.0):
    async with asyncio.timeout(within_s):
        while not (found := await condition()):  # noqa: ASYNC110  (records and queues have no event for it)
            await asyncio.sleep(0.02)
    return found


async def pool_of(opened, run):
    return (await until(lambda: opened.runs.list_pools(run)))[0].pool.id


async def taken(opened, queue, *where, count):
    consumer = await opened.bus.consume(queue, *where)
    items = []
    async with asyncio.timeout(15):
        while len(items) < count:
            for delivery in await consumer.fetch(64, 1):
                items.append(delivery.item)
                await delivery.ack()
    await consumer.close()
    return items


async def test_shards_go_out_while_rows_are_still_read(opened, tmp_path):
    rows = SlowRows()
    async with running(opened, rows):
        await submit(opened, "r1", spec_of(tmp_path, 100, shard_size=10))
        rows.let_through(35)
        pool = await pool_of(opened, "r1")
        first = await taken(opened, Queue.GENERATE, pool, "r1", count=2)
        assert rows.read <= 35
        assert [item.shard.start for item in first[:2]] == [0, 10]
        assert (await opened.runs.get("r1")).value.state in {RunState.PLANNING, RunState.RUNNING}
        assert not (await read_progress(opened.runs, "r1", NAME)).planned
        rows.let_through(65)
        rest = await taken(opened, Queue.GENERATE, pool, "r1", count=7)
        assert sorted(item.shard.index for item in [*first, *rest]) == list(range(10))
        record = await until(lambda: planned(opened, "r1"))
    assert (record.total, record.shards) == (100, 10)
    assert rows.passes == 1


async def planned(opened, run):
    record = await read_progress(opened.runs, run, NAME)
    return record if record.planned else None


@pytest.mark.alone
@pytest.mark.parametrize("more", [{}, {"limit": 0.5}], ids=["rows that are planned", "rows that are only counted"])
async def test_cancel_while_rows_are_read_is_seen_within_a_second(opened, tmp_path, more):
    rows = SlowRows()
    async with running(opened, rows):
        await submit(opened, "r1", spec_of(tmp_path, 4000, shard_size=10, **more))
        rows.let_through(300)
        await until(lambda: asyncio.sleep(0, rows.read >= 250))
        known = await opened.runs.get("r1")
        await opened.runs.update(replace(known.value, state=RunState.CANCELLING), known.revision)
        await opened.runs.set_control("r1", "cancel")
        asked = time.monotonic()
        # Rows come slowly from here on, as from a large file.
        while await opened.bus.backlog(Queue.PLAN):
            rows.let_through(100)
            await asyncio.sleep(0.02)
            assert time.monotonic() - asked < 5
        before = rows.read
        rows.let_through(400)
        await asyncio.sleep(0.2)
        assert rows.read <= before + 260, "somebody still reads"


async def test_a_fraction_reads_its_rows_once(opened, tmp_path):
    rows = SlowRows(only="none")
    async with running(opened, rows):
        await submit(opened, "r1", replace(spec_of(tmp_path, 100, shard_size=10), limit=0.25))
        record = await until(lambda: planned(opened, "r1"))
    assert (record.total, rows.passes) == (25, 1)


async def test_a_small_run_is_planned_beside_a_large_one(opened, tmp_path):
    rows = SlowRows(only="questions500.")
    async with running(opened, rows):
        await submit(opened, "large", spec_of(tmp_path, 500, shard_size=10))
        rows.let_through(30)
        await until(lambda: asyncio.sleep(0, rows.read >= 30))
        small = replace(spec_of(tmp_path, 5), model=ModelSpec("other", url="http://h/v1"))
        await submit(opened, "small", small)
        await until(lambda: planned(opened, "small"))
        assert not (await read_progress(opened.runs, "large", NAME)).planned
        rows.let_through(1000)


async def test_planning_that_was_broken_off_is_made_up_for(opened, tmp_path):
    """The loader dies in the middle: the next one writes the same shards and asks for the rest."""
    spec = spec_of(tmp_path, 60, shard_size=10)
    rows = SlowRows()
    async with running(opened, rows):
        await submit(opened, "r1", spec)
        rows.let_through(25)
        pool = await pool_of(opened, "r1")
        await taken(opened, Queue.GENERATE, pool, "r1", count=2)
        rows.let_through(1000)  # its thread may end
        written = await opened.objects.get(layout.output_key("r1", NAME, "requests", 0))
    async with running(opened):
        await opened.bus.publish([WorkItem("r1", Task.PLAN, handovers=5)])
        record = await until(lambda: planned(opened, "r1"))
    assert (record.shards, record.total) == (6, 60)
    assert await opened.objects.get(layout.output_key("r1", NAME, "requests", 0)) == written


async def test_what_is_done_is_not_queued_again_and_what_is_begun_goes_on_where_it_is(opened, tmp_path):
    spec = spec_of(tmp_path, 40, shard_size=10)
    run = await plan_run(opened, "r1", spec)
    await opened.bus.purge("r1")
    files = run.of(NAME)
    _, rows = await files.read_requests(2)
    answers = [Completion(q.sample_id, q.repeat, q.digest, text="A") for row in rows for q in row.requests()]
    await files.of("generate").write(2, answers)
    await change_progress(opened.runs, "r1", NAME, lambda record: record.take_in(ShardCounts("score", 0, 10)))
    await plan_run(opened, "r1", spec, attempt=1)
    generate = await taken(opened, Queue.GENERATE, run.pool, "r1", count=2)
    score = await taken(opened, Queue.SCORE, count=1)
    assert sorted(item.shard.index for item in generate) == [1, 3]
    assert [item.shard.index for item in score] == [2]
    assert await opened.bus.pending("r1") == 0


async def test_many_repeats_make_small_shards(opened, tmp_path):
    run = await plan_run(opened, "r1", spec_of(tmp_path, 50, repeats=200))
    shards = list(run.indices[NAME].shards())
    assert max(shard.requests for shard in shards) <= 4096
    assert sum(shard.samples for shard in shards) == 50


async def test_role_without_a_model_is_refused_by_name(opened, tmp_path, monkeypatch):
    monkeypatch.setattr("evalmesh.benchmarks.general_mcq.BENCHMARK", replace(registry.get(NAME), graph=JUDGED))
    spec = spec_of(tmp_path, 10)
    with pytest.raises(InvalidInput, match="baseline"):
        await plan_run(opened, "r1", spec)
    others = {role: ModelSpec(role, url="http://h/v1") for role in ("baseline", "judge")}
    run = await plan_run(opened, "r2", replace(spec, roles=others))
    wishes = await opened.runs.list_pools("r2")
    assert sorted(wish.pool.model.name for wish in wishes) == ["baseline", "judge", "m"]
    items = [
        item
        for wish in wishes
        if wish.pool.model.name != "judge"
        for item in await taken(opened, Queue.GENERATE, wish.pool.id, "r2", count=1)
    ]
    assert {(item.stage, item.pool) for item in items} == {
        ("generate", run.plans[NAME].pools["model"]),
        ("baseline", run.plans[NAME].pools["baseline"]),
    }


async def test_subset_of_an_earlier_run_of_the_old_form_is_found(opened, tmp_path):
    """Runs from before stages kept all shards in one plan and their completions under another name."""
    spec = spec_of(tmp_path, 20, shard_size=5)
    await opened.runs.create(Run("old", spec, RunState.SUCCEEDED, 1.0))
    shards = [{"index": n, "subset": "default", "start": 8 * n, "samples": 8, "requests": 8} for n in range(2)]
    plan = {"run": "old", "pool": "p", "benchmarks": [{"name": NAME, "version": 1, "shards": shards}]}
    await opened.objects.put("runs/old/plan.json", json.dumps(plan).encode())
    run = await plan_run(opened, "new", replace(spec, reuse_runs=("old",)))
    header, _ = await run.of(NAME).read_requests(1)
    assert [(one.run, one.stage, one.shard) for one in header.reuse] == [
        ("old", "completions", 0),
        ("old", "completions", 1),
    ]
