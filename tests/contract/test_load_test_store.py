"""What every store of load tests must do; run on JetStream, the only one there is."""

import asyncio
from dataclasses import replace

import pytest
from tests.kit.nats import kill

from evalmesh.adapters.nats.load_test_store import open_load_test_store
from evalmesh.adapters.nats.run_store import open_run_store
from evalmesh.domain.errors import AlreadyExists, Conflict, InternalError, InvalidInput, NotFound
from evalmesh.domain.load_test import (
    ArrivalSpec,
    ImageSpec,
    Lengths,
    LevelStatus,
    LoadLevel,
    LoadTarget,
    LoadTest,
    LoadTestSpec,
    PromptSpec,
    SearchSpec,
    SloTerm,
    Stage,
    TurnSpec,
)
from evalmesh.domain.state import State

SPEC = LoadTestSpec(
    target=LoadTarget("http://127.0.0.1:1/v1/chat/completions", "m", headers={"X-A": "b"}),
    prompts=PromptSpec(
        input_tokens=Lengths("lognormal", 1, 512, 100.0, 0.5),
        images=ImageSpec(2),
        turns=TurnSpec(2, 4, 1.5),
        body={"temperature": 0, "stop": None, "deep": {"list": [1, 2.5]}},
    ),
    arrival=ArrivalSpec("gamma", 0.5),
    levels=(LoadLevel(rate=5.0, duration_s=1.5), LoadLevel(rate=1.0, stages=(Stage(1.0, 1.0, 9.0),))),
    slo=(SloTerm("ttft", "p99", 500.0),),
    search=SearchSpec("rate"),
    labels={"team": "é"},
)


def load_test(id_="test-1", **more):
    return LoadTest(id_, SPEC, State.QUEUED, 1.0, **more)


@pytest.fixture
async def store(nats_connection):
    return await open_load_test_store(nats_connection)


async def test_a_load_test_comes_back_as_it_was(store):
    level = LevelStatus(0, SPEC.levels[0], state="done", sent=3, ok=2, errors={"reset": 1}, ttft_p99_ms=1.25)
    whole = load_test(levels=(level,), request_id="mine", end_time=2.5)
    await store.create(whole)
    assert (await store.get("test-1")).value == whole


async def test_a_load_test_is_created_once(store):
    await store.create(load_test())
    with pytest.raises(AlreadyExists, match="load test 'test-1'"):
        await store.create(load_test(error="other"))
    assert (await store.get("test-1")).value == load_test()


async def test_an_unknown_load_test_is_not_found(store):
    with pytest.raises(NotFound, match="no load test 'test-9'"):
        await store.get("test-9")


async def test_an_update_needs_the_newest_revision(store):
    await store.create(load_test())
    first = await store.get("test-1")
    running = replace(first.value, state=State.RUNNING)
    revision = await store.update(running, first.revision)
    with pytest.raises(Conflict):
        await store.update(replace(running, attempt=7), first.revision)
    assert await store.get("test-1") == type(first)(running, revision)


async def test_load_tests_are_listed_newest_first_and_are_no_runs(store, nats_connection, objects):
    runs = await open_run_store(nats_connection, objects)
    for id_ in ("20260101-b", "20260102-a", "20251231-c"):
        await store.create(load_test(id_))
    await store.claim_request("r", "20260102-a")
    assert list(await store.list_ids()) == ["20260102-a", "20260101-b", "20251231-c"]
    assert list(await runs.list_ids()) == []
    with pytest.raises(NotFound):
        await runs.get("20260101-b")


async def test_a_request_is_bound_to_the_first_that_claims_it(store):
    assert await store.find_request("any text: é") is None
    claims = await asyncio.gather(*(store.claim_request("any text: é", f"test-{n}") for n in range(5)))
    assert len(set(claims)) == 1
    assert await store.find_request("any text: é") == claims[0]


async def test_a_corrupt_record_is_named(store, nats_connection):
    await nats_connection.client.jetstream().publish("$KV.load_tests.test-1", b'{"id": 5}')
    with pytest.raises(InternalError, match="load_tests/test-1"):
        await store.get("test-1")


@pytest.mark.parametrize("bad", ["", "a.b", "a b", "*", ">", "../x"])
async def test_names_that_could_break_a_key_are_refused(store, bad):
    with pytest.raises(InvalidInput) as refused:
        await store.get(bad)
    assert refused.value.details["field"] == "load_test"


async def test_records_survive_a_killed_server(store, nats_server):
    await store.create(load_test())
    revision = (await store.get("test-1")).revision
    await asyncio.to_thread(kill, nats_server)
    writing = asyncio.create_task(store.update(load_test(attempt=1), revision))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(nats_server.start)
    async with asyncio.timeout(10):
        assert await writing > revision
    assert (await store.get("test-1")).value.attempt == 1


async def test_a_bucket_that_vanished_is_made_again(store, nats_connection):
    await nats_connection.client.jetstream().delete_stream("KV_load_tests")
    await store.create(load_test())
    assert list(await store.list_ids()) == ["test-1"]
