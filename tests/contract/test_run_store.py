"""What every run store must do; run on JetStream, the only one there is."""

import asyncio
import dataclasses

import pytest
from tests.kit.nats import kill

from evalmesh.adapters.nats.connection import connect
from evalmesh.adapters.nats.run_store import open_run_store
from evalmesh.domain.errors import AlreadyExists, Conflict, InternalError, InvalidInput, NotFound, Unavailable
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.domain.work import Pool, PoolNote, PoolWish
from evalmesh.wire import codec

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
async def store(nats_connection, objects):
    return await open_run_store(nats_connection, objects)


async def test_what_was_asked_for_does_not_grow_the_record(store, nats_connection, objects):
    """Ten thousand subsets: the record is written at each change of state, the spec once."""
    subsets = tuple(f"subset-number-{number}" for number in range(10_000))
    spec = RunSpec(model=MODEL, benchmarks=(BenchmarkSpec("gsm8k", subsets=subsets),))
    await store.create(Run("large", spec, RunState.QUEUED, 1.0))
    await store.create(
        Run("small", dataclasses.replace(spec, benchmarks=(BenchmarkSpec("gsm8k"),)), RunState.QUEUED, 1.0)
    )
    stream = nats_connection.client.jetstream()
    large, small = [await stream.get_last_msg("KV_runs", f"$KV.runs.{name}") for name in ("large", "small")]
    assert len(large.data) == len(small.data)
    elsewhere = await open_run_store(nats_connection, objects)
    known = await elsewhere.get("large")
    assert known.value.spec == spec
    await elsewhere.update(dataclasses.replace(known.value, state=RunState.RUNNING), known.revision)
    found = (await store.get("large")).value
    assert (found.spec, found.state) == (spec, RunState.RUNNING)


async def test_a_record_that_holds_its_spec_is_still_read(store, nats_connection):
    await nats_connection.client.jetstream().publish("$KV.runs.old", codec.encode_run(run("old")))
    assert (await store.get("old")).value == run("old")


async def test_a_run_comes_back_as_it_was(store):
    await store.create(run())
    found = await store.get("run-1")
    assert found.value == run()
    assert isinstance(found.value.spec.benchmarks[0].limit, int)
    assert isinstance(found.value.spec.benchmarks[1].limit, float)


async def test_a_run_is_created_once(store):
    await store.create(run())
    with pytest.raises(AlreadyExists, match="run-1"):
        await store.create(run(error="other"))
    assert (await store.get("run-1")).value == run()


async def test_an_unknown_run_is_not_found(store):
    with pytest.raises(NotFound, match="run-9"):
        await store.get("run-9")


async def test_an_update_needs_the_newest_revision(store):
    await store.create(run())
    first = await store.get("run-1")
    planning = dataclasses.replace(first.value, state=RunState.PLANNING)
    revision = await store.update(planning, first.revision)
    with pytest.raises(Conflict):
        await store.update(dataclasses.replace(first.value, state=RunState.FAILED), first.revision)
    assert (await store.get("run-1")).revision == revision
    assert (await store.get("run-1")).value == planning
    await store.update(run(), revision)


async def test_of_concurrent_updates_one_wins(store):
    await store.create(run())
    first = await store.get("run-1")
    results = await asyncio.gather(
        *(store.update(dataclasses.replace(first.value, attempt=n), first.revision) for n in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 19


async def test_runs_are_listed_newest_first_and_progress_is_no_run(store):
    assert list(await store.list_ids()) == []
    for id_ in ("20260101-b", "20260102-a", "20251231-c"):
        await store.create(run(id_))
        await store.update_progress(id_, "gsm8k", b"{}", 0)
    assert list(await store.list_ids()) == ["20260102-a", "20260101-b", "20251231-c"]


async def test_progress_starts_empty_and_is_guarded_by_its_revision(store):
    empty = await store.get_progress("run-1", "gsm8k")
    assert (empty.value, empty.revision) == (b"", 0)
    revision = await store.update_progress("run-1", "gsm8k", b"\x00one", 0)
    with pytest.raises(Conflict):
        await store.update_progress("run-1", "gsm8k", b"two", 0)
    assert await store.update_progress("run-1", "gsm8k", b"two", revision) > revision
    assert (await store.get_progress("run-1", "gsm8k")).value == b"two"


async def test_control_is_watched_from_what_stands(store):
    await store.set_control("run-1", "run")
    await store.set_control("run-1", "cancel")
    await store.set_control("run-2", "run")
    watching = asyncio.create_task(take(store.watch_control(), 3))
    await asyncio.sleep(0.1)
    await store.set_control("run-2", "cancel")
    assert await watching == [("run-1", "cancel"), ("run-2", "run"), ("run-2", "cancel")]


async def test_records_of_progress_do_not_mix(store):
    for benchmark, data in (("", b"run"), ("gsm8k", b"one"), ("arc", b"two")):
        await store.update_progress("run-1", benchmark, data, 0)
    found = [(await store.get_progress("run-1", benchmark)).value for benchmark in ("", "gsm8k", "arc")]
    assert found == [b"run", b"one", b"two"]


async def test_wishes_for_pools_are_kept_and_watched_until_they_are_withdrawn(store):
    wishes = [PoolWish(Pool(id=f"pool-{number}", model=MODEL), f"run-{number % 2}") for number in range(3)]
    watching = asyncio.create_task(take(store.watch_pools(), 5))
    await asyncio.sleep(0.05)
    for wish in wishes:
        await store.wish_pool(wish)
    assert sorted(await store.list_pools("run-0"), key=lambda wish: wish.pool.id) == [wishes[0], wishes[2]]
    await store.withdraw_pools("run-0")
    assert await store.list_pools("run-0") == []
    assert await store.list_pools("run-1") == [wishes[1]]
    seen = await watching
    assert [(pool, run, wish is not None) for pool, run, wish in seen[:3]] == [
        ("pool-0", "run-0", True),
        ("pool-1", "run-1", True),
        ("pool-2", "run-0", True),
    ]
    assert sorted((pool, run, wish) for pool, run, wish in seen[3:]) == [
        ("pool-0", "run-0", None),
        ("pool-2", "run-0", None),
    ]


async def test_what_runners_say_of_a_pool_is_one_note_each(store):
    for number, serves in ((1, False), (2, True), (1, True)):
        await store.note_pool(PoolNote("pool-1", f"runner-{number}", serves, time=float(number)))
    notes = await store.pool_notes("pool-1")
    assert {(note.runner, note.serves) for note in notes} == {("runner-1", True), ("runner-2", True)}
    assert await store.pool_notes("pool-2") == []


async def test_runs_that_go_on_are_found(store):
    for id_ in ("run-1", "run-2"):
        await store.set_active(id_, active=True)
    assert sorted(await store.list_active()) == ["run-1", "run-2"]
    await store.set_active("run-1", active=False)
    await store.set_active("run-3", active=False)
    assert await store.list_active() == ["run-2"]


async def test_a_lease_is_one_holder_s_until_it_runs_out(store):
    assert await store.take_lease("reconciler", "a", 100.0, 10)
    assert not await store.take_lease("reconciler", "b", 105.0, 10)
    assert await store.take_lease("reconciler", "a", 108.0, 10)
    assert not await store.take_lease("reconciler", "b", 117.0, 10)
    assert await store.take_lease("reconciler", "b", 118.5, 10)
    assert not await store.take_lease("reconciler", "a", 119.0, 10)
    taken = await asyncio.gather(*(store.take_lease("other", str(number), 1.0, 5) for number in range(8)))
    assert sum(taken) == 1


async def test_a_corrupt_record_is_named(store, nats_connection):
    await nats_connection.client.jetstream().publish("$KV.runs.run-1", b'{"id": 5}')
    with pytest.raises(InternalError, match="runs/run-1"):
        await store.get("run-1")


@pytest.mark.parametrize("bad", ["", "a.b", "a b", "*", ">", "../x"])
async def test_names_that_could_break_a_key_are_refused(store, bad):
    with pytest.raises(InvalidInput):
        await store.get(bad)
    with pytest.raises(InvalidInput):
        await store.set_control(bad, "run")
    with pytest.raises(InvalidInput):
        await store.pool_notes(bad)


async def test_records_and_watches_survive_a_killed_server(store, nats_server):
    await store.create(run())
    revision = (await store.get("run-1")).revision
    watching = asyncio.create_task(take(distinct(store.watch_control()), 2))
    await store.set_control("run-1", "run")
    await asyncio.sleep(0.1)
    await asyncio.to_thread(kill, nats_server)
    writing = asyncio.create_task(store.update(run(attempt=1), revision))
    await asyncio.sleep(0.2)
    await asyncio.to_thread(nats_server.start)
    async with asyncio.timeout(10):
        assert await writing > revision
    assert (await store.get("run-1")).value.attempt == 1
    await store.set_control("run-1", "cancel")
    assert await watching == [("run-1", "run"), ("run-1", "cancel")]


async def test_counting_through_kills_of_the_server_counts_each_once(store, nats_server):
    await store.create(run())

    async def add(times):
        for _ in range(times):
            while True:
                found = await store.get("run-1")
                try:
                    await store.update(
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
    assert (await store.get("run-1")).value.attempt == 1500


async def test_a_server_that_stays_away_is_unavailable(nats_server, objects):
    connection = await connect(nats_server.url, "test")
    store = await open_run_store(connection, objects)
    nats_server.stop()
    reading = asyncio.create_task(store.get("run-1"))
    await asyncio.sleep(0.05)
    await connection.close()
    with pytest.raises(Unavailable):
        await reading
