"""The loop that takes and settles work, over a real bus: what is acked, what comes back and when, what is set aside."""

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise

import pytest

from evalmesh.domain.errors import InvalidInput, NotFound, Unavailable
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.domain.work import Queue, Shard, Task, WorkItem
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.outages import Patience
from evalmesh.runtime.work import RunCancelledError, Worker, WorkPolicy
from evalmesh.wire import subjects

SCORE = Queue.SCORE
ACK_WAIT_S = 0.6
SPEC = RunSpec(ModelSpec("m", url="http://h/v1"), (BenchmarkSpec("gsm8k"),))
QUICK = Patience(total_s=30.0, first_s=0.05, cap_s=0.1)


@pytest.fixture
def ack_wait_s():
    return ACK_WAIT_S


def items(count, run="run-1", **more):
    return [item(run, shard, **more) for shard in range(count)]


def item(run, shard, **more):
    return WorkItem(run, Task.STAGE, "gsm8k", "score", "score", Shard(shard, "main", 0, 1, 1), **more)


class Harness:
    """A worker under test; `handle` is what the test wants its step to do."""

    def __init__(self, opened, handle, **options):
        self.opened = opened
        self.handled = Counter()
        self.set_aside = []
        self.control = options.pop("control", None) or ControlView(opened.runs)
        gate = options.pop("gate", None)
        self.queue = options.pop("queue", SCORE)
        policy = WorkPolicy(**{"patience": QUICK, "drain_s": 1.0, "concurrency": 4, **options})

        async def counted(item):
            self.handled[item.shard_index] += 1
            await handle(item)

        async def aside(item, error):
            self.set_aside.append((item.shard_index, error))

        self.worker = Worker(
            bus=opened.bus,
            take_from=partial(opened.bus.consume, self.queue),
            handle=counted,
            set_aside=aside,
            control=self.control,
            policy=policy,
            gate=gate,
        )

    @asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.worker.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until_empty(self, within_s=20.0):
        async with asyncio.timeout(within_s):
            while await self.opened.bus.backlog(self.queue):  # noqa: ASYNC110  (the queue has no event for it)
                await asyncio.sleep(0.02)


async def dead_items(opened):
    answer = await opened.bus.connection.api(f"STREAM.INFO.{subjects.DEAD_STREAM}", {"subjects_filter": "dead.>"})
    return answer["state"]["messages"]


async def nothing(item):
    """A step that succeeds."""


async def test_success_is_acked_once(opened):
    await opened.bus.publish(items(20))
    async with Harness(opened, nothing).running() as worker:
        await worker.until_empty()
        await asyncio.sleep(ACK_WAIT_S * 1.5)
    assert worker.handled == Counter(range(20))
    assert worker.set_aside == []


async def test_defect_is_tried_again_with_growing_pauses_then_set_aside(opened):
    times = []

    async def fail(item):
        times.append(time.monotonic())
        raise ZeroDivisionError("no such luck")

    await opened.bus.publish(items(1))
    async with Harness(opened, fail, max_deliveries=4, patience=Patience(30, 0.2, 5.0)).running() as worker:
        await worker.until_empty()
    assert worker.set_aside == [(0, "ZeroDivisionError: no such luck")]
    assert await dead_items(opened) == 1
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert len(pauses) == 3
    # Half of the nominal pause at least: jitter is over its upper half.
    assert all(pause >= nominal / 2 for pause, nominal in zip(pauses, (0.2, 0.4, 0.8), strict=True))


async def test_what_cannot_succeed_is_set_aside_at_once(opened):
    async def refuse(item):
        raise InvalidInput("The row is no row.")

    await opened.bus.publish(items(1))
    async with Harness(opened, refuse).running() as worker:
        await worker.until_empty()
    assert worker.handled[0] == 1
    assert worker.set_aside == [(0, "The row is no row.")]


async def test_consequence_that_fails_is_made_up_for(opened):
    """The item stays until both the dead letter and its consequence are out."""
    failures = iter([Unavailable("The store is away."), None])

    async def refuse(item):
        raise NotFound("gone")

    harness = Harness(opened, refuse)
    told = harness.worker._set_aside

    async def stumble(item, error):
        if (failure := next(failures)) is not None:
            raise failure
        await told(item, error)

    harness.worker._set_aside = stumble
    await opened.bus.publish(items(1))
    async with harness.running():
        await harness.until_empty()
    assert harness.set_aside == [(0, "gone")]
    assert await dead_items(opened) == 1


async def test_item_that_kills_its_worker_is_set_aside(opened):
    """Nobody ever says that it failed: the number of deliveries does."""
    await opened.bus.publish(items(1))
    consumer = await opened.bus.consume(SCORE)
    for _ in range(3):
        (delivery,) = await consumer.fetch(1, 5)
        await delivery.nak(0)
    await consumer.close()
    async with Harness(opened, nothing, max_deliveries=3).running() as worker:
        await worker.until_empty()
    assert not worker.handled
    ((shard, error),) = worker.set_aside
    assert shard == 0
    assert "handed out 3 times" in error


async def test_slow_step_is_not_handed_to_somebody_else(opened):
    async def slow(item):
        await asyncio.sleep(ACK_WAIT_S * 3)

    await opened.bus.publish(items(1))
    async with Harness(opened, slow).running() as one, Harness(opened, slow).running() as other:
        await one.until_empty()
    assert (one.handled + other.handled)[0] == 1


@pytest.mark.alone
async def test_lost_worker_s_item_comes_back_after_the_ack_wait(opened):
    await opened.bus.publish(items(1))
    lost = await opened.bus.consume(SCORE)
    (taken,) = await lost.fetch(1, 5)
    start = time.monotonic()
    async with Harness(opened, nothing).running() as worker:
        await worker.until_empty()
    assert taken.delivered == 1
    assert worker.handled[0] == 1
    assert ACK_WAIT_S * 0.8 < time.monotonic() - start < ACK_WAIT_S + 2


async def test_outage_is_waited_out_without_using_deliveries(opened):
    tries = 0

    async def away(item):
        nonlocal tries
        tries += 1
        if tries <= 12:
            raise Unavailable("The store is away.")

    await opened.bus.publish(items(1))
    async with Harness(opened, away, max_deliveries=2).running() as worker:
        await worker.until_empty()
    assert tries == 13
    assert worker.set_aside == []
    assert await dead_items(opened) == 0


@pytest.mark.parametrize("ack_wait_s", [60.0])
async def test_drain_finishes_what_it_can_and_gives_back_the_rest_at_once(opened):
    started = asyncio.Event()

    async def work(item):
        if item.shard_index == 3:
            started.set()
        await asyncio.sleep(0.3 if item.shard_index < 2 else 60)

    await opened.bus.publish(items(8))
    async with Harness(opened, work, concurrency=4).running() as worker:
        await asyncio.wait_for(started.wait(), 5)
    assert worker.handled == Counter(range(4))
    async with asyncio.timeout(5):
        consumer = await opened.bus.consume(SCORE)
        back = []
        while len(back) < 6:
            back += await consumer.fetch(8, 0.2)
    assert {delivery.item.shard_index: (delivery.delivered, delivery.item.handovers) for delivery in back} == {
        **dict.fromkeys((2, 3), (1, 1)),
        **dict.fromkeys((4, 5, 6, 7), (1, 0)),
    }


async def test_gate_decides_when_the_next_item_is_taken(opened):
    open_gate = asyncio.Event()

    async def gate():
        await open_gate.wait()
        open_gate.clear()

    await opened.bus.publish(items(3))
    async with Harness(opened, nothing, gate=gate).running() as worker:
        for taken in range(3):
            await asyncio.sleep(0.15)
            assert worker.handled.total() == taken
            open_gate.set()
        await worker.until_empty()
    assert worker.handled.total() == 3


async def test_a_long_queue_costs_no_more_memory_than_a_short_one(opened):
    most_tasks = in_hand = most_in_hand = 0

    async def work(item):
        nonlocal most_tasks, in_hand, most_in_hand
        in_hand += 1
        most_in_hand = max(most_in_hand, in_hand)
        most_tasks = max(most_tasks, len(asyncio.all_tasks()))
        await asyncio.sleep(0)
        in_hand -= 1

    before = len(asyncio.all_tasks())
    await opened.bus.publish(items(2000))
    async with Harness(opened, work, concurrency=4).running() as worker:
        await worker.until_empty(60)
    assert worker.handled == Counter(range(2000))
    assert most_in_hand <= 4
    # Each item in hand: itself and its heartbeat; the rest are the loop and the subscription.
    assert most_tasks - before <= 2 * 4 + 6
    assert len(worker.worker._tasks) == 0


# Cancelled runs


@asynccontextmanager
async def following(view):
    task = asyncio.create_task(view.follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def known_cancelled(view, run):
    async with asyncio.timeout(5):
        while not view.is_cancelled(run):  # noqa: ASYNC110  (nor has the view)
            await asyncio.sleep(0.01)


async def test_items_of_a_cancelled_run_are_dropped_and_its_report_is_not(opened):
    await opened.runs.create(Run("run-1", SPEC, RunState.CANCELLING, 0.0))
    await opened.runs.create(Run("run-2", SPEC, RunState.RUNNING, 0.0))
    await opened.runs.set_control("run-1", "cancel")
    view = ControlView(opened.runs)
    async with following(view):
        await known_cancelled(view, "run-1")
        arrived = [
            WorkItem(run, Task.ARRIVE, "gsm8k", "score", shard=Shard(9, "main", 0, 1, 1)) for run in ("run-1", "run-2")
        ]
        await opened.bus.publish([*arrived, WorkItem("run-1", Task.FINISH)])
        seen = []

        async def note(item):
            seen.append((item.run, item.task))

        async with Harness(opened, note, control=view, queue=Queue.REDUCE).running() as worker:
            await worker.until_empty()
    assert sorted(seen) == [("run-1", Task.FINISH), ("run-2", Task.ARRIVE)]


async def test_item_of_a_resumed_run_is_kept_though_the_view_is_old(opened):
    """A worker that still believes in the cancel must not drop what the resume has queued: nobody queues it again."""
    await opened.runs.create(Run("run-1", SPEC, RunState.CANCELLED, 0.0))
    await opened.runs.set_control("run-1", "cancel")
    view = ControlView(opened.runs)
    async with following(view):
        await known_cancelled(view, "run-1")
    known = await opened.runs.get("run-1")
    await opened.runs.update(Run("run-1", SPEC, RunState.QUEUED, 0.0, attempt=1), known.revision)
    await opened.bus.publish([*items(1), *items(1, attempt=1)])
    attempts = []

    async def note(item):
        attempts.append(item.attempt)

    async with Harness(opened, note, control=view).running() as worker:
        await worker.until_empty()
    # The old attempt's item is not dropped either, and does no harm: a step done twice changes nothing.
    assert 1 in attempts


async def test_step_that_stops_for_a_cancel_ends_its_item_only_if_it_is_one(opened):
    await opened.runs.create(Run("run-1", SPEC, RunState.CANCELLED, 0.0))
    await opened.runs.create(Run("run-2", SPEC, RunState.RUNNING, 0.0))
    for run in ("run-1", "run-2"):
        await opened.runs.set_control(run, "cancel")
    seen = Counter()

    async def stop_first(item):
        seen[item.run] += 1
        if seen[item.run] == 1:
            raise RunCancelledError

    view = ControlView(opened.runs)
    harness = Harness(opened, stop_first, control=view)
    await opened.bus.publish([*items(1), *items(1, run="run-2")])
    async with harness.running(), following(view):
        await known_cancelled(view, "run-2")
        await harness.until_empty()
    assert seen["run-2"] == 2, "the shard of a run that goes on was lost"
    assert harness.set_aside == []


async def test_view_of_cancelled_runs_is_bounded(opened, monkeypatch):
    monkeypatch.setattr("evalmesh.runtime.control._KEPT", 10)
    view = ControlView(opened.runs)
    heard = []
    unfollow = view.on_cancel(heard.append)
    async with following(view):
        for number in range(30):
            await opened.runs.set_control(f"run-{number}", "cancel")
        await known_cancelled(view, "run-29")
        assert len(view._cancelled) == 10
        unfollow()
        await opened.runs.set_control("run-30", "cancel")
        await known_cancelled(view, "run-30")
    assert heard == [f"run-{number}" for number in range(30)]


async def test_unreadable_message_does_not_stop_the_queue(opened):
    await opened.bus.connection.request(subjects.work_subject(SCORE, "run-1"), b"\xff\xff", {})
    await opened.bus.publish(items(1))
    async with Harness(opened, nothing).running() as worker:
        await worker.until_empty()
    assert worker.handled[0] == 1
    assert await dead_items(opened) == 1


async def test_item_that_is_drained_ever_so_often_is_no_failure(opened):
    """Rolling updates and scale-downs with a shard in hand: nothing was wrong with it."""
    await opened.bus.publish(items(1))
    for _ in range(8):
        started = asyncio.Event()

        async def work(item, started=started):
            started.set()
            await asyncio.sleep(60)

        async with Harness(opened, work, max_deliveries=3, drain_s=0.0).running() as harness:
            await asyncio.wait_for(started.wait(), 5)
        assert harness.set_aside == []
    async with Harness(opened, nothing, max_deliveries=3).running() as worker:
        await worker.until_empty()
    assert worker.handled[0] == 1
    assert await dead_items(opened) == 0


@pytest.mark.parametrize("trouble", [NotFound("There is no such run."), ZeroDivisionError("a defect")])
async def test_item_whose_consequence_cannot_be_drawn_does_not_come_for_ever(opened, trouble):
    async def refuse(item):
        raise InvalidInput("It cannot be.")

    harness = Harness(opened, refuse, max_deliveries=2)

    async def aside(item, error):
        raise trouble

    harness.worker._set_aside = aside
    await opened.bus.publish(items(1))
    async with harness.running():
        await harness.until_empty()
    assert await dead_items(opened) == 1
