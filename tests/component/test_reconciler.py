"""No run is stuck: what a crash left between a state and its message is made up for; what cannot go on is ended."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from tests.kit.services import plan_run, write_questions

from evalmesh.adapters.environment import SystemClock
from evalmesh.domain.run import RUN_FORMAT, BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.domain.work import PoolNote, Queue, Task, WorkItem
from evalmesh.gateway.runs.deletion import RunDeletion
from evalmesh.gateway.runs.reconciler import Reconciler, ReconcilerPolicy
from evalmesh.gateway.runs.stored import StoredRuns
from evalmesh.runtime.runs import RunRecords
from evalmesh.wire.runs.shard_files import RunFiles

QUICK = ReconcilerPolicy(interval_s=0.05, settle_s=0.1, pool_wait_s=0.3, orphan_s=0.3)
NAME = "general_mcq"


@pytest.fixture
def spec(tmp_path):
    path = write_questions(tmp_path / "questions.jsonl", 20)
    return RunSpec(ModelSpec("m", url="http://h/v1"), (BenchmarkSpec(NAME, local_path=str(path)),), shard_size=5)


@asynccontextmanager
async def reconciling(opened, count=1):
    records = RunRecords(opened.runs, opened.bus, SystemClock())
    deletion = RunDeletion(records, StoredRuns(opened.runs, RunFiles(opened.objects)))
    tasks = [asyncio.create_task(Reconciler(records, QUICK, deletion).run()) for _ in range(count)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def put(opened, run, spec, state, **more):
    await opened.runs.set_active(run, active=True)
    await opened.runs.create(Run(run, spec, state, time.time(), format=RUN_FORMAT, **more))


async def change(opened, run, **changes):
    known = await opened.runs.get(run)
    await opened.runs.update(replace(known.value, **changes), known.revision)


async def next_item(opened, queue):
    consumer = await opened.bus.consume(queue)
    async with asyncio.timeout(10):
        while not (batch := await consumer.fetch(1, 1)):
            pass
    await consumer.close()
    return batch[0]


async def until(condition, within_s=10.0):
    async with asyncio.timeout(within_s):
        while not (found := await condition()):  # noqa: ASYNC110  (records have no event for it)
            await asyncio.sleep(0.02)
    return found


async def ended(opened, run):
    found = (await opened.runs.get(run)).value
    return found if found.state.terminal else None


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.PLANNING, RunState.RUNNING])
async def test_run_whose_message_was_never_sent_is_planned_again(opened, spec, state):
    """The gateway died between record and queue, or the loader with the item of a plan that was acked too early."""
    await put(opened, "r1", spec, state, attempt=2)
    async with reconciling(opened):
        delivery = await next_item(opened, Queue.PLAN)
    assert (delivery.item.run, delivery.item.task, delivery.item.attempt) == ("r1", Task.PLAN, 2)


async def test_cancel_that_died_before_its_last_message_is_finished(opened, spec):
    await put(opened, "r1", spec, RunState.CANCELLING)
    async with reconciling(opened):
        delivery = await next_item(opened, Queue.REDUCE)
        assert (delivery.item.run, delivery.item.task) == ("r1", Task.FINISH)
        async for run, wish in opened.runs.watch_control():
            assert (run, wish) == ("r1", "cancel")
            break


async def test_run_that_is_at_work_is_left_alone(opened, spec):
    """A shard in somebody's hand is work, however long it takes."""
    run = await plan_run(opened, "r1", spec)
    consumer = await opened.bus.consume(Queue.GENERATE, run.pool, "r1")
    taken = await consumer.fetch(4, 2)
    await opened.runs.note_pool(PoolNote(run.pool, "runner-1", serves=True, time=time.time()))
    async with reconciling(opened):
        for _ in range(20):
            await asyncio.sleep(0.05)
            for delivery in taken:
                await delivery.heartbeat()
    assert await opened.bus.backlog(Queue.PLAN) == 0
    assert (await opened.runs.get("r1")).value.state is RunState.RUNNING


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.CANCELLED])
async def test_end_that_was_not_finished_stops_the_spending(opened, spec, state):
    """FAILED was written, and its writer died before it told the runners."""
    run = await plan_run(opened, "r1", spec)
    await change(opened, "r1", state=state)
    assert await opened.bus.pending("r1") == 4
    async with reconciling(opened):
        await until(lambda: nothing_active(opened))
    assert await opened.bus.pending("r1") == 0
    assert await opened.runs.list_pools("r1") == []
    assert run.requests == 20


async def test_who_ends_a_run_late_leaves_one_alone_that_goes_on_meanwhile(opened, spec):
    records = RunRecords(opened.runs, opened.bus, SystemClock())
    await put(opened, "r1", spec, RunState.FAILED, error="e")
    ended = (await opened.runs.get("r1")).value
    await opened.runs.set_control("r1", "run")
    await change(opened, "r1", state=RunState.QUEUED, attempt=1)
    await opened.bus.publish([WorkItem("r1", Task.PLAN, attempt=1)])
    await records.stop(ended)
    assert await opened.bus.pending("r1")
    assert list(await opened.runs.list_active()) == ["r1"]


async def test_a_run_is_not_taken_up_again_before_it_is_stopped(opened, spec):
    records = RunRecords(opened.runs, opened.bus, SystemClock())
    await put(opened, "r1", spec, RunState.FAILED, error="e")
    ended = (await opened.runs.get("r1")).value
    waiting = asyncio.create_task(records.await_stopped(ended))
    done, _ = await asyncio.wait({waiting}, timeout=0.5)
    assert not done
    await records.stop(ended)
    await asyncio.wait_for(waiting, 10)


async def test_a_deletion_that_was_broken_off_is_finished(opened, spec):
    """The gateway died after it took the record away."""
    await plan_run(opened, "r1", spec)
    await change(opened, "r1", state=RunState.CANCELLED)
    await plan_run(opened, "r2", spec)
    known = await opened.runs.get("r1")
    await opened.runs.set_active("r1", active=True)
    await opened.runs.remove("r1", known.revision)
    assert await opened.runs.list_ids() == ["r2"]
    async with reconciling(opened):
        await until(lambda: nothing_left(opened, "r1"))
    assert (await opened.runs.get_progress("r1", NAME)).revision == 0
    assert [info async for info in opened.objects.list("runs/r2/")]


async def nothing_left(opened, run):
    objects = [info async for info in opened.objects.list(f"runs/{run}/")]
    return not objects and run not in await opened.runs.list_active()


async def nothing_active(opened):
    return not await opened.runs.list_active()


async def test_pool_that_every_runner_refuses_ends_the_run_and_says_why(opened, spec):
    run = await plan_run(opened, "r1", spec)
    await opened.runs.note_pool(PoolNote(run.pool, "runner-1", serves=False, message="No key here.", time=time.time()))
    async with reconciling(opened):
        failed = await until(lambda: ended(opened, "r1"))
        assert (failed.state, failed.error_reason) == (RunState.FAILED, "POOL_REFUSED")
        assert "No key here." in failed.error
        async with asyncio.timeout(10):
            while await opened.bus.pending("r1"):  # noqa: ASYNC110  (a queue has no event for it)
                await asyncio.sleep(0.02)


async def test_pool_that_nobody_serves_yet_is_said_and_waited_for(opened, spec):
    run = await plan_run(opened, "r1", spec)
    async with reconciling(opened):
        waiting = await until(lambda: noticed(opened))
        assert run.pool in waiting.notice
        assert waiting.state is RunState.RUNNING
        await opened.runs.note_pool(PoolNote(run.pool, "runner-1", serves=True, time=time.time()))
        await until(lambda: unnoticed(opened))
    assert (await opened.runs.get("r1")).value.state is RunState.RUNNING


async def noticed(opened):
    found = (await opened.runs.get("r1")).value
    return found if found.notice else None


async def unnoticed(opened):
    return not (await opened.runs.get("r1")).value.notice


async def test_one_of_many_gateways_looks_after_a_run(opened, spec):
    await put(opened, "r1", spec, RunState.QUEUED)
    async with reconciling(opened, count=5):
        await next_item(opened, Queue.PLAN)
        await asyncio.sleep(0.3)
        # It is in hand: nobody asks for it a second time.
        assert await opened.bus.backlog(Queue.PLAN) == 1
