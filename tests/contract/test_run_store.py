"""What every run store must do; run on JetStream, the only one there is."""

import asyncio
import dataclasses

import pytest
from tests.kit.nats import kill

from evalmesh.adapters.nats.connection import connect
from evalmesh.adapters.nats.run_store import open_run_store
from evalmesh.domain.errors import AlreadyExists, Conflict, InternalError, InvalidInput, NotFound, Unavailable
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.domain.work import Pool

MODEL = ModelSpec(name="org/model", url="http://127.0.0.1:1/v1", args={"a": [1, {"b": 2.5}]})


def run(id_="run-1", **more):
    spec = RunSpec(model=MODEL, benchmarks=(BenchmarkSpec(name="gsm8k", limit=1), BenchmarkSpec(name="arc", limit=0.5)))
    return Run(id=id_, spec=spec, state=RunState.QUEUED, create_time=1.0, **more)


async def take(values, count):
    taken = []
    async with asyncio.timeout(10):
        async for value in values:
            taken.append(value)
            if len(taken) == count:
                break
    return taken


async def distinct(values):
    """After a broken connection a watch may repeat what it said."""
    before = object()
    async for value in values:
        if value != before:
            yield value
        before = value


@pytest.fixture
async def store(nats_connection):
    return await open_run_store(nats_connection)


async def test_a_run_comes_back_as_it_was(store):
    await store.create_run(run())
    found = await store.get_run("run-1")
    assert found.value == run()
    assert isinstance(found.value.spec.benchmarks[0].limit, int)
    assert isinstance(found.value.spec.benchmarks[1].limit, float)


async def test_a_run_is_created_once(store):
    await store.create_run(run())
    with pytest.raises(AlreadyExists, match="run-1"):
        await store.create_run(run(error="other"))
    assert (await store.get_run("run-1")).value == run()


async def test_an_unknown_run_is_not_found(store):
    with pytest.raises(NotFound, match="run-9"):
        await store.get_run("run-9")


async def test_an_update_needs_the_newest_revision(store):
    await store.create_run(run())
    first = await store.get_run("run-1")
    planning = dataclasses.replace(first.value, state=RunState.PLANNING)
    revision = await store.update_run(planning, first.revision)
    with pytest.raises(Conflict):
        await store.update_run(dataclasses.replace(first.value, state=RunState.FAILED), first.revision)
    assert (await store.get_run("run-1")).revision == revision
    assert (await store.get_run("run-1")).value == planning
    await store.update_run(run(), revision)


async def test_of_concurrent_updates_one_wins(store):
    await store.create_run(run())
    first = await store.get_run("run-1")
    results = await asyncio.gather(
        *(store.update_run(dataclasses.replace(first.value, attempt=n), first.revision) for n in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 19


async def test_runs_are_listed_newest_first_and_progress_is_no_run(store):
    assert list(await store.list_runs()) == []
    for id_ in ("20260101-b", "20260102-a", "20251231-c"):
        await store.create_run(run(id_))
        await store.update_progress(id_, b"{}", 0)
    assert list(await store.list_runs()) == ["20260102-a", "20260101-b", "20251231-c"]


async def test_progress_starts_empty_and_is_guarded_by_its_revision(store):
    empty = await store.get_progress("run-1")
    assert (empty.value, empty.revision) == (b"", 0)
    revision = await store.update_progress("run-1", b"\x00one", 0)
    with pytest.raises(Conflict):
        await store.update_progress("run-1", b"two", 0)
    assert await store.update_progress("run-1", b"two", revision) > revision
    assert (await store.get_progress("run-1")).value == b"two"


async def test_control_is_watched_from_what_stands(store):
    await store.set_control("run-1", "run")
    await store.set_control("run-1", "cancel")
    await store.set_control("run-2", "run")
    watching = asyncio.create_task(take(store.watch_control(), 3))
    await asyncio.sleep(0.1)
    await store.set_control("run-2", "cancel")
    assert await watching == [("run-1", "cancel"), ("run-2", "run"), ("run-2", "cancel")]


async def test_pools_are_kept_and_watched(store):
    pool = Pool(id="pool-1", model=MODEL)
    with pytest.raises(NotFound, match="pool-1"):
        await store.get_pool("pool-1")
    watching = asyncio.create_task(take(store.watch_pools(), 2))
    await asyncio.sleep(0.05)
    await store.put_pool(pool)
    await store.put_pool(Pool(id="pool-2", model=MODEL))
    assert [found.id for found in await watching] == ["pool-1", "pool-2"]
    assert await store.get_pool("pool-1") == pool


async def test_a_corrupt_record_is_named(store, nats_connection):
    await nats_connection.client.jetstream().publish("$KV.runs.run-1", b'{"id": 5}')
    with pytest.raises(InternalError, match="runs/run-1"):
        await store.get_run("run-1")


@pytest.mark.parametrize("bad", ["", "a.b", "a b", "*", ">", "../x"])
async def test_names_that_could_break_a_key_are_refused(store, bad):
    with pytest.raises(InvalidInput):
        await store.get_run(bad)
    with pytest.raises(InvalidInput):
        await store.set_control(bad, "run")
    with pytest.raises(InvalidInput):
        await store.get_pool(bad)


async def test_records_and_watches_survive_a_killed_server(store, nats_server):
    await store.create_run(run())
    revision = (await store.get_run("run-1")).revision
    watching = asyncio.create_task(take(distinct(store.watch_control()), 2))
    await store.set_control("run-1", "run")
    await asyncio.sleep(0.1)
    await asyncio.to_thread(kill, nats_server)
    writing = asyncio.create_task(store.update_run(run(attempt=1), revision))
    await asyncio.sleep(0.2)
    await asyncio.to_thread(nats_server.start)
    async with asyncio.timeout(10):
        assert await writing > revision
    assert (await store.get_run("run-1")).value.attempt == 1
    await store.set_control("run-1", "cancel")
    assert await watching == [("run-1", "run"), ("run-1", "cancel")]


async def test_counting_through_kills_of_the_server_counts_each_once(store, nats_server):
    await store.create_run(run())

    async def add(times):
        for _ in range(times):
            while True:
                found = await store.get_run("run-1")
                try:
                    await store.update_run(
                        dataclasses.replace(found.value, attempt=found.value.attempt + 1), found.revision
                    )
                except Conflict:
                    continue
                break

    adding = asyncio.create_task(add(1500))
    while not adding.done():
        await asyncio.sleep(0.15)
        await asyncio.to_thread(kill, nats_server)
        await asyncio.to_thread(nats_server.start)
    await adding
    assert (await store.get_run("run-1")).value.attempt == 1500


async def test_a_server_that_stays_away_is_unavailable(nats_server):
    connection = await connect(nats_server.url, "test")
    store = await open_run_store(connection)
    nats_server.stop()
    reading = asyncio.create_task(store.get_run("run-1"))
    await asyncio.sleep(0.05)
    await connection.close()
    with pytest.raises(Unavailable):
        await reading
