"""What every bus must do; run on JetStream, the only one there is."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from tests.kit.nats import kill, running_server

from evalmesh.adapters.nats.bus import BusSettings, open_bus
from evalmesh.adapters.nats.connection import connect
from evalmesh.domain.errors import InvalidInput, OutOfRange, ResourceExhausted, Unavailable
from evalmesh.domain.events import Activity, Event
from evalmesh.domain.work import Queue, Shard, Task, WorkItem
from evalmesh.internal.v1 import messages_pb2
from evalmesh.wire import messages

SCORE = Queue.SCORE
ACK_WAIT_S = 0.4


def item(shard, run="run-1", kind="score", **more):
    place = Shard(shard, "main", 64 * shard, 64, 128)
    return WorkItem(run, Task.STAGE, "gsm8k", stage=kind, kind=kind, shard=place, **more)


def event(run="run-1", kind="progress", at=1.5, **more):
    return Event(run=run, kind=kind, source="scorer-1", time=at, **more)


async def drain(consumer, wait_s=0.2):
    """Takes and acknowledges everything; the shards in order of delivery."""
    shards = []
    while batch := await consumer.fetch(64, wait_s):
        shards += [delivery.item.shard_index for delivery in batch]
        await asyncio.gather(*(delivery.ack() for delivery in batch))
    return shards


async def take(events, count):
    """The first `count` of an endless watch, within 10 s."""
    taken = []
    async with asyncio.timeout(10):
        async for entry in events:
            taken.append(entry)
            if len(taken) == count:
                break
    return taken


@pytest.fixture
async def bus(nats_connection):
    bus = await open_bus(nats_connection, BusSettings(ack_wait_s=ACK_WAIT_S))
    yield bus
    await bus.close()


async def test_how_long_items_wait_is_known(bus):
    assert await bus.oldest_s(SCORE) == 0.0
    begun = time.monotonic()
    await bus.publish([item(0)])
    consumer = await bus.consume(SCORE)
    (first,) = await consumer.fetch(1, 5.0)
    await bus.publish([item(1)])
    age_s = await bus.oldest_s(SCORE)
    assert 0.0 < first.waited_s <= age_s <= time.monotonic() - begun + 0.1  # what is in hand is counted too
    await first.ack()
    (second,) = await consumer.fetch(1, 5.0)
    assert second.waited_s < age_s + 5.0
    await second.ack()
    assert await bus.oldest_s(SCORE) == 0.0
    await consumer.close()


async def test_a_queue_of_many_pools_is_counted_by_pool_and_as_a_whole(bus):
    generate = Queue.GENERATE
    await bus.publish(
        [item(0, kind="generate", pool="a"), item(1, kind="generate", pool="b"), item(2, "run-2", "generate", pool="b")]
    )
    assert [await bus.backlog(generate, pool) for pool in ("a", "b", "")] == [1, 2, 3]
    of_one_s = await bus.oldest_s(generate, "b")
    assert await bus.oldest_s(generate) >= of_one_s > 0.0


async def test_an_item_arrives_whole(bus):
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b"}
    sent = item(7, kind="generate", pool="pool-1", attempt=2, trace=trace)
    consumer = await bus.consume(Queue.GENERATE, "pool-1")
    await bus.publish([sent])
    (delivery,) = await consumer.fetch(1, 2)
    assert delivery.item == sent
    assert delivery.delivered == 1


async def test_an_item_published_twice_is_one(bus):
    await bus.publish([item(0), item(1), item(0)])
    await bus.publish([item(1)])
    assert await bus.backlog(SCORE) == 2
    assert await drain(await bus.consume(SCORE)) == [0, 1]


async def test_thousands_of_items_keep_their_order(bus):
    await bus.publish([item(shard) for shard in range(5000)])
    assert await bus.backlog(SCORE) == 5000
    assert await drain(await bus.consume(SCORE)) == list(range(5000))
    assert await bus.backlog(SCORE) == 0


async def test_queues_do_not_mix(bus):
    score = await bus.consume(SCORE)
    report = await bus.consume(Queue.REDUCE)
    pool_a = await bus.consume(Queue.GENERATE, "pool-a")
    pool_b = await bus.consume(Queue.GENERATE, "pool-b")
    await bus.publish(
        [
            item(0),
            item(1, kind="reduce"),
            item(2, kind="generate", pool="pool-a"),
            item(3, kind="generate", pool="pool-b"),
        ]
    )
    assert [await drain(consumer) for consumer in (score, report, pool_a, pool_b)] == [[0], [1], [2], [3]]


async def test_fetch_returns_with_the_first_item_and_does_not_wait_for_more(bus):
    consumer = await bus.consume(SCORE)
    waiting = asyncio.create_task(consumer.fetch(100, 30))
    await asyncio.sleep(0.1)
    await bus.publish([item(0)])
    async with asyncio.timeout(5):
        (delivery,) = await waiting
    assert delivery.item.shard_index == 0


async def test_fetch_takes_no_more_than_asked_for(bus):
    consumer = await bus.consume(SCORE)
    await bus.publish([item(shard) for shard in range(5)])
    assert len(await consumer.fetch(3, 1)) == 3
    assert len(await consumer.fetch(3, 1)) == 2


async def test_fetch_of_an_empty_queue_is_empty_after_the_wait(bus):
    consumer = await bus.consume(SCORE)
    start = time.monotonic()
    assert not await consumer.fetch(10, 0.2)
    assert 0.15 < time.monotonic() - start < 2
    assert not await consumer.fetch(10, 0)


async def test_an_unsettled_item_comes_back_after_the_ack_wait(bus):
    consumer = await bus.consume(SCORE)
    await bus.publish([item(0)])
    (first,) = await consumer.fetch(1, 1)
    assert not await consumer.fetch(1, ACK_WAIT_S / 4)
    (second,) = await consumer.fetch(1, 5)
    assert (first.delivered, second.delivered) == (1, 2)
    assert second.item == first.item


async def test_heartbeats_keep_an_item(bus):
    consumer = await bus.consume(SCORE)
    await bus.publish([item(0)])
    (delivery,) = await consumer.fetch(1, 1)
    for _ in range(10):
        await delivery.heartbeat()
        assert not await consumer.fetch(1, ACK_WAIT_S / 4)
    await delivery.ack()
    assert not await consumer.fetch(1, ACK_WAIT_S * 2)


async def test_a_refused_item_comes_back_after_the_delay(bus):
    consumer = await bus.consume(SCORE)
    await bus.publish([item(0)])
    (delivery,) = await consumer.fetch(1, 1)
    start = time.monotonic()
    await delivery.nak(1.0)
    (again,) = await consumer.fetch(1, 10)
    assert time.monotonic() - start > 0.9
    assert again.delivered == 2
    await again.nak(0)
    (third,) = await consumer.fetch(1, 10)
    assert third.delivered == 3


async def test_acknowledging_twice_is_fine(bus):
    consumer = await bus.consume(SCORE)
    await bus.publish([item(0)])
    (delivery,) = await consumer.fetch(1, 1)
    await delivery.ack()
    await delivery.ack()
    assert await bus.backlog(SCORE) == 0


async def test_the_server_never_gives_up_on_an_item(bus):
    consumer = await bus.consume(SCORE)
    await bus.publish([item(0)])
    for expected in range(1, 30):
        (delivery,) = await consumer.fetch(1, 5)
        assert delivery.delivered == expected
        await delivery.nak(0)


async def test_purge_removes_a_run_and_only_that(bus):
    steps = [
        item(0),
        item(1),
        item(2, kind="generate", pool="pool-a"),
        item(3, kind="generate", pool="pool-b"),
        WorkItem("run-1", Task.PLAN),
        item(5, kind="reduce"),
    ]
    consumer = await bus.consume(SCORE)
    await bus.publish([*steps, item(9, run="run-2")])
    (taken,) = await consumer.fetch(1, 1)
    assert await bus.purge("run-1") == 6
    await taken.ack()
    assert await drain(consumer, ACK_WAIT_S * 2) == [9]
    assert await bus.purge("run-1") == 0


async def test_two_workers_share_a_queue(bus, nats_server):
    other = await open_bus(await connect(nats_server.url, "other"), BusSettings(ack_wait_s=ACK_WAIT_S))
    consumers = [await bus.consume(SCORE), await other.consume(SCORE)]
    tasks = [asyncio.create_task(drain(consumer, 1)) for consumer in consumers]
    for shard in range(200):
        await bus.publish([item(shard)])
    shares = await asyncio.gather(*tasks)
    assert sorted(shares[0] + shares[1]) == list(range(200))
    assert min(map(len, shares)) > 0
    await other.close()


async def test_many_workers_waiting_at_once_get_each_item_once(bus):
    consumers = [await bus.consume(SCORE) for _ in range(20)]
    tasks = [asyncio.create_task(drain(consumer, 1)) for consumer in consumers]
    await asyncio.sleep(0.1)
    await bus.publish([item(shard) for shard in range(300)])
    shares = await asyncio.gather(*tasks)
    assert sorted(shard for share in shares for shard in share) == list(range(300))


async def test_a_cancelled_fetch_loses_nothing(bus):
    consumer = await bus.consume(SCORE)
    for shard in range(20):
        waiting = asyncio.create_task(consumer.fetch(4, 30))
        await asyncio.sleep(0.002 * (shard % 5))
        await bus.publish([item(shard)])
        await asyncio.sleep(0.001 * (shard % 3))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    shards = set()
    while batch := await consumer.fetch(64, ACK_WAIT_S * 3):
        for delivery in batch:
            shards.add(delivery.item.shard_index)
            await delivery.ack()
    taken_before_the_cancel = 20 - len(shards)
    assert await bus.backlog(SCORE) == 0
    assert taken_before_the_cancel == 0


async def test_a_closed_worker_leaves_its_items_to_others(bus):
    leaving, staying = await bus.consume(SCORE), await bus.consume(SCORE)
    await bus.publish([item(0), item(1)])
    assert len(await leaving.fetch(2, 1)) == 2
    await leaving.close()
    batch = []
    while len(batch) < 2:
        batch += await staying.fetch(2, 5)
    assert {delivery.item.shard_index for delivery in batch} == {0, 1}


async def test_a_buried_item_lies_in_the_dead_letters_with_its_error(bus, nats_connection):
    await bus.bury(item(3), "boom " * 2000)
    await bus.bury(item(3), "again")
    answer = await nats_connection.client.jetstream().get_last_msg("DEAD", "dead.score.run-1")
    dead = messages_pb2.DeadItem.FromString(answer.data)
    assert messages.decode_item(dead.item.SerializeToString()) == item(3)
    assert dead.error.startswith("boom")
    assert len(answer.data) < 4096
    info = await nats_connection.client.jetstream().stream_info("DEAD")
    assert info.state.messages == 1


async def test_a_message_nobody_can_read_is_set_aside(bus, nats_connection):
    consumer = await bus.consume(SCORE)
    await nats_connection.client.jetstream().publish("work.score.run-1", b"\xff\xff garbage")
    await bus.publish([item(1)])
    assert await drain(consumer) == [1] or await drain(consumer) == [1]
    answer = await nats_connection.client.jetstream().get_last_msg("DEAD", "dead.score.run-1")
    assert messages_pb2.DeadItem.FromString(answer.data).item.work.run == "run-1"
    assert await bus.backlog(SCORE) == 0


@pytest.mark.parametrize("bad", ["", "a.b", "a b", "*", ">", "a/b", "A", "x" * 64, "a\r\nPUB x 1"])
async def test_names_that_could_break_a_subject_are_refused(bus, bad):
    with pytest.raises(InvalidInput):
        await bus.publish([item(0, run=bad)])
    with pytest.raises(InvalidInput):
        await bus.publish([item(0, kind="generate", pool=bad)])
    with pytest.raises(InvalidInput):
        await bus.consume(Queue.GENERATE, bad)
    with pytest.raises(InvalidInput):
        await bus.purge(bad)
    with pytest.raises(InvalidInput):
        await take(bus.watch(bad), 1)


async def test_events_replay_then_live(bus):
    activity = {"gsm8k": Activity(in_flight=3, generated=4, errored=1)}
    first, second = event(kind="state"), event(kind="activity", activity=activity)
    await bus.emit(first)
    await bus.emit(event(run="run-2"))
    watching = asyncio.create_task(take(bus.watch("run-1"), 2))
    await asyncio.sleep(0.1)
    await bus.emit(second)
    taken = await watching
    assert [entry.event for entry in taken] == [first, second]
    assert (taken[0].sequence, taken[1].sequence) == (1, 0)


async def test_activity_is_told_to_whoever_listens_and_kept_nowhere(bus):
    await bus.emit(event(kind="activity"))
    await bus.emit(event(kind="state"))
    assert [entry.event.kind for entry in await take(bus.watch("run-1"), 1)] == ["state"]
    watching = asyncio.create_task(take(bus.watch("run-1", 2), 1))
    while not watching.done():
        await bus.emit(event(kind="activity"))
        await asyncio.sleep(0.01)
    assert (await watching)[0].event.kind == "activity"


async def test_pending_counts_what_waits_and_what_is_unsettled(bus):
    consumer = await bus.consume(SCORE)
    await bus.publish([item(0), item(1), item(2, kind="generate", pool="pool-a"), item(3, run="run-2")])
    (taken,) = await consumer.fetch(1, 1)
    assert (await bus.pending("run-1"), await bus.pending("run-2"), await bus.pending("run-3")) == (3, 1, 0)
    await taken.ack()
    assert await bus.pending("run-1") == 2


async def test_every_run_has_a_queue_of_its_own_on_a_pool(bus):
    first = await bus.consume(Queue.GENERATE, "pool-a", "run-1")
    second = await bus.consume(Queue.GENERATE, "pool-a", "run-2")
    await bus.publish([item(n, run=f"run-{1 + n % 2}", kind="generate", pool="pool-a") for n in range(6)])
    assert [await drain(first), await drain(second)] == [[0, 2, 4], [1, 3, 5]]
    await bus.retire("pool-a", "run-1")
    await bus.retire("pool-a", "run-1")
    await bus.publish([item(9, run="run-1", kind="generate", pool="pool-a")])
    assert await drain(first, 3) == [9], "a consumer that was taken away is made again when it is asked"


async def test_consumer_of_a_whole_pool_makes_way_for_those_of_runs(bus):
    """As a platform has it that was upgraded."""
    await bus.publish([item(0, kind="generate", pool="pool-a")])
    await bus.consume(Queue.GENERATE, "pool-a")
    assert await drain(await bus.consume(Queue.GENERATE, "pool-a", "run-1")) == [0]


async def test_events_resume_at_a_sequence(bus):
    for at in range(10):
        await bus.emit(event(at=at))
    everything = await take(bus.watch("run-1"), 10)
    rest = await take(bus.watch("run-1", everything[6].sequence), 4)
    assert rest == everything[6:]
    after_the_last = asyncio.create_task(take(bus.watch("run-1", everything[-1].sequence + 1), 1))
    await asyncio.sleep(0.1)
    await bus.emit(event(at=99))
    assert (await after_the_last)[0].event.time == 99


async def test_events_that_are_no_longer_kept_are_out_of_range(bus, nats_connection):
    for at in range(5):
        await bus.emit(event(at=at))
    await take(bus.watch("run-1"), 5)
    await nats_connection.client.jetstream().purge_stream("EVENTS", seq=4)
    with pytest.raises(OutOfRange):
        await take(bus.watch("run-1", 2), 1)
    assert [entry.event.time for entry in await take(bus.watch("run-1"), 2)] == [3, 4]


async def test_opening_at_once_from_many_processes_is_fine(nats_server):
    connections = [await connect(nats_server.url, f"test-{number}") for number in range(5)]
    buses = await asyncio.gather(*(open_bus(connection) for connection in connections))
    await asyncio.gather(*(bus.consume(Queue.GENERATE, "pool-1") for bus in buses))
    for bus in buses:
        await bus.close()


async def test_changed_settings_reach_an_existing_stream(bus, nats_server, nats_connection):
    await open_bus(nats_connection, BusSettings(events_max_age_s=3600, ack_wait_s=ACK_WAIT_S))
    info = await nats_connection.client.jetstream().stream_info("EVENTS")
    assert info.config.max_age == 3600


async def test_everything_goes_on_when_the_server_is_killed_and_comes_back(bus, nats_server):
    consumer = await bus.consume(SCORE)
    watching = asyncio.create_task(take(bus.watch("run-1"), 2))
    await bus.emit(event(at=1))
    await bus.publish([item(shard) for shard in range(1000)])

    async def publish_more():
        for start in range(1000, 2000, 10):
            await bus.publish([item(shard) for shard in range(start, start + 10)])
            await asyncio.sleep(0.002)

    async def work():
        done = set()
        while len(done) < 2000:
            try:
                for delivery in await consumer.fetch(20, 2):
                    done.add(delivery.item.shard_index)
                    await delivery.ack()
            except Unavailable:
                await asyncio.sleep(0.05)
        return done

    tasks = [asyncio.create_task(publish_more()), asyncio.create_task(work())]
    for _ in range(2):
        await asyncio.sleep(0.1)
        await asyncio.to_thread(kill, nats_server)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(nats_server.start)
    async with asyncio.timeout(60):
        await tasks[0]
        assert await tasks[1] == set(range(2000))
    await drain(consumer, ACK_WAIT_S * 2)
    assert await bus.backlog(SCORE) == 0
    await bus.emit(event(at=2))
    assert [entry.event.time for entry in await watching] == [1, 2]


async def test_a_server_that_stays_away_is_unavailable_in_bounded_time(nats_server):
    connection = await connect(nats_server.url, "test")
    bus = await open_bus(connection, BusSettings(call_timeout_s=0.5))
    consumer = await bus.consume(SCORE)
    await bus.publish([item(0)])
    (delivery,) = await consumer.fetch(1, 1)
    nats_server.stop()
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable):
            await bus.publish([item(1)])
        with pytest.raises(Unavailable):
            await delivery.ack()
        with pytest.raises(Unavailable):
            await consumer.fetch(1, 0.2)
        await bus.emit(event())
        await delivery.heartbeat()
    await bus.close()


async def test_a_server_that_hangs_is_unavailable_in_bounded_time(nats_server):
    bus = await open_bus(await connect(nats_server.url, "test"), BusSettings(call_timeout_s=0.5))
    os.kill(nats_server.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                await bus.publish([item(shard) for shard in range(100)])
    finally:
        os.kill(nats_server.pid, signal.SIGCONT)
    await bus.publish([item(shard) for shard in range(100)])
    assert await bus.backlog(SCORE) == 100
    await bus.close()


def stopped_threads(pid):
    """States of the threads of a process; "T" is stopped."""
    stats = Path(f"/proc/{pid}/task").glob("*/stat")
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in stats}


@pytest.mark.parametrize("how", ["cancelled", "given up"])
async def test_a_close_that_the_server_holds_up_costs_the_connection_nothing(nats_server, how):
    bus = await open_bus(await connect(nats_server.url, "test"))
    consumer = await bus.consume(SCORE)
    await bus.publish([item(0), item(1)])
    (delivery,) = await consumer.fetch(1, 1)
    os.kill(nats_server.pid, signal.SIGSTOP)
    try:
        while stopped_threads(nats_server.pid) != {"T"}:  # noqa: ASYNC110  (a signal takes its time)
            await asyncio.sleep(0.01)
        closing = asyncio.create_task(consumer.close())
        if how == "cancelled":
            await asyncio.sleep(0.1)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
        else:
            await asyncio.wait_for(closing, 10)
    finally:
        os.kill(nats_server.pid, signal.SIGCONT)
    async with asyncio.timeout(40):
        await delivery.ack()
        await bus.publish([item(2)])
        other = await bus.consume(SCORE)
        found = {(await other.fetch(1, 5))[0].item.shard_index for _ in range(2)}
    assert found == {1, 2}
    await bus.close()


async def test_a_full_disk_is_told(tmp_path):
    with running_server(tmp_path / "small", max_store_bytes=200_000) as server:
        bus = await open_bus(await connect(server.url, "test"), BusSettings(events_max_bytes=50_000))
        with pytest.raises(ResourceExhausted):
            await bus.publish([item(shard) for shard in range(5000)])
        await bus.close()


async def test_a_queue_whose_consumer_and_stream_vanished_is_made_again(bus, nats_connection):
    consumer = await bus.consume(SCORE)
    waiting = asyncio.create_task(consumer.fetch(1, 20))
    await asyncio.sleep(0.1)
    await nats_connection.client.jetstream().delete_consumer("WORK", "score")
    await bus.publish([item(0)])
    async with asyncio.timeout(5):
        (delivery,) = await waiting
    await delivery.ack()
    await nats_connection.client.jetstream().delete_stream("WORK")
    await bus.publish([item(1)])
    async with asyncio.timeout(5):
        assert [entry.item.shard_index for entry in await consumer.fetch(1, 5)] == [1]
