"""Load tests at the gateway, over real gRPC and a real bus: made once, followed, ended, exported."""

import asyncio
import time
from dataclasses import replace
from functools import partial

import grpc
import grpc.aio
import pytest
from tests.kit.engine import RawServer
from tests.kit.hosting import hosted
from tests.kit.load_trouble import refusing
from tests.kit.model_servers import any_server
from tests.kit.simulator import simulator

from evalmesh.adapters.environment import SystemClock
from evalmesh.adapters.load_http.probe import HttpProbe
from evalmesh.adapters.server_metrics import open_server_metrics
from evalmesh.domain import layout
from evalmesh.domain.errors import FailedPrecondition, InvalidInput, NotFound, OutOfRange, Unavailable
from evalmesh.domain.events import Event
from evalmesh.domain.load_test import (
    ArrivalSpec,
    LevelStatus,
    LoadLevel,
    LoadTarget,
    LoadTest,
    LoadTestSpec,
    PromptSpec,
    SloTerm,
)
from evalmesh.domain.load_work import LoadItem
from evalmesh.domain.state import State
from evalmesh.domain.work import Queue
from evalmesh.gateway.peers import LOAD, Peers, lazy_channel
from evalmesh.gateway.service import GatewayPorts, build
from evalmesh.load.measure.histogram import Histogram
from evalmesh.load.measure.ticks import Sketches, Tick, encode_seat_tick
from evalmesh.load_generator import service as load_generator
from evalmesh.load_generator.settings import LoadGeneratorSettings
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.submission import RecordBook, is_over
from evalmesh.sdk import AsyncClient
from evalmesh.v1 import load_tests_pb2, load_tests_pb2_grpc
from evalmesh.wire.errors import from_rpc_error

CONDUCT, LOAD_QUEUE = Queue.CONDUCT, Queue.LOAD
NOWHERE = "127.0.0.1:1"
SPEC = LoadTestSpec(
    LoadTarget(f"http://{NOWHERE}/v1/chat/completions", "simulated"),
    prompts=PromptSpec(prompt="Hello?"),
    check_endpoint=False,
)


@pytest.fixture(scope="module")
def model():
    with simulator("--ttft", "1ms") as running:
        yield running


@pytest.fixture
async def generator(opened, tmp_path):
    """A load generator that answers questions and takes no work: load tests stay where the gateway put them."""
    ports = load_generator.LoadGeneratorPorts(
        runs=opened.runs,
        load_tests=opened.load_tests,
        bus=opened.bus,
        signals=opened.signals,
        objects=opened.objects,
        clock=SystemClock(),
        servers=any_server(),
        probe=HttpProbe(any_server()),
        open_server_metrics=partial(open_server_metrics, servers=any_server()),
    )
    service = load_generator.build(LoadGeneratorSettings(scratch_dir=str(tmp_path / "scratch")), ports)
    async with hosted(replace(service, loops=())) as address:
        yield address


def build_gateway(opened, generator):
    nowhere, there = lazy_channel(lambda: NOWHERE), lazy_channel(lambda: generator)
    ports = GatewayPorts(opened.runs, opened.load_tests, opened.bus, opened.objects, SystemClock())
    return build(ports, Peers(nowhere, nowhere, there, 10.0), {LOAD: there})


@pytest.fixture
async def address(opened, generator):
    async with hosted(build_gateway(opened, generator)) as address:
        yield address


@pytest.fixture
async def client(address):
    async with AsyncClient(address, timeout_s=10) as client:
        yield client


def load_test(id_="t1", state=State.RUNNING, **more):
    return LoadTest(id_, SPEC, state, 1.0, **more)


# Creating


async def test_same_request_gives_the_same_load_test(client, opened):
    first = await client.create_load_test(SPEC, request_id="mine")
    again = await client.create_load_test(SPEC, request_id="mine")
    other = await client.create_load_test(SPEC, request_id="another")
    assert first.id == again.id != other.id
    assert (first.state, first.spec) == (State.QUEUED, SPEC)
    assert sorted(await opened.load_tests.list_ids()) == sorted([first.id, other.id])
    assert await opened.bus.backlog(CONDUCT) == 2
    consumer = await opened.bus.consume(CONDUCT)
    deliveries = await consumer.fetch(10, 2)
    assert {(d.item.load_test, d.item.ends, d.item.attempt) for d in deliveries} == {
        (first.id, False, 0),
        (other.id, False, 0),
    }


async def test_what_was_noticed_before_stays_with_the_load_test(client):
    with RawServer(refusing("429 Too Many Requests", "later")) as server:
        spec = replace(SPEC, target=LoadTarget(server.url, "m"), check_endpoint=True)
        test = await client.create_load_test(spec)
        told = [note for note in test.notes if "busy already" in note]
        assert len(told) == 1
        assert "429 (later)" in told[0]
        assert (await client.get_load_test(test)).notes == test.notes
        assert (await client.create_load_test(spec, validate_only=True)).notes == test.notes


async def test_same_request_through_two_gateways_at_once_gives_one(opened, generator):
    async with (
        hosted(build_gateway(opened, generator)) as one,
        hosted(build_gateway(opened, generator)) as two,
        AsyncClient(one) as here,
        AsyncClient(two) as there,
    ):
        asked = [client.create_load_test(SPEC, request_id="mine") for client in (here, there) * 4]
        assert len({found.id for found in await asyncio.gather(*asked)}) == 1
        assert await opened.bus.backlog(CONDUCT) == 1


async def test_gateway_that_died_before_the_item_was_queued_is_made_up_for(client, opened):
    await opened.load_tests.claim_request("mine", "20aborted")
    await opened.load_tests.create(load_test("20aborted", State.QUEUED, request_id="mine"))
    assert await opened.bus.backlog(CONDUCT) == 0
    assert (await client.create_load_test(SPEC, request_id="mine")).id == "20aborted"
    assert await opened.bus.backlog(CONDUCT) == 1


async def test_gateway_that_died_before_the_record_was_written_is_made_up_for(client, opened):
    await opened.load_tests.claim_request("mine", "20claimed")
    assert (await client.create_load_test(SPEC, request_id="mine")).id == "20claimed"
    assert await opened.bus.backlog(CONDUCT) == 1


async def test_ids_are_unlike_those_of_runs_and_sort_by_time(client):
    ids = [(await client.create_load_test(SPEC)).id for _ in range(3)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 3


async def test_validation_alone_leaves_nothing_behind(client, opened):
    found = await client.create_load_test(SPEC, validate_only=True)
    assert (found.id, found.state) == ("", State.QUEUED)
    assert list(await opened.load_tests.list_ids()) == []
    assert await opened.bus.backlog(CONDUCT) == 0


async def test_spec_is_checked_against_the_endpoint_before_it_is_accepted(client, opened, model):
    spec = replace(SPEC, check_endpoint=True)
    with pytest.raises(Unavailable, match=NOWHERE):
        await client.create_load_test(spec)
    assert list(await opened.load_tests.list_ids()) == []
    url = f"{model.url}/chat/completions"
    found = await client.create_load_test(replace(spec, target=replace(spec.target, url=url)))
    assert found.state is State.QUEUED


async def test_spec_without_its_file_is_refused(client, opened):
    prompts = PromptSpec(dataset="line_by_line", file_digest="a" * 64, file_name="rows.txt")
    with pytest.raises((NotFound, InvalidInput)):
        await client.create_load_test(replace(SPEC, prompts=prompts))
    assert list(await opened.load_tests.list_ids()) == []


async def test_bad_spec_of_a_foreign_client_is_named_by_field(address):
    async with grpc.aio.insecure_channel(address) as channel:
        stub = load_tests_pb2_grpc.LoadTestServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.CreateLoadTest(load_tests_pb2.CreateLoadTestRequest())
    error = from_rpc_error(refused.value)
    assert isinstance(error, InvalidInput)
    assert error.details["field"] == "target.url"


async def test_load_generator_that_is_away_is_named(opened):
    async with hosted(build_gateway(opened, NOWHERE)) as address, AsyncClient(address) as client:
        with pytest.raises(Unavailable, match=r"cannot reach evalmesh\.v1\.LoadService"):
            await client.create_load_test(SPEC)


# Listing, passing on, exporting


async def test_pages_are_newest_first_and_complete(client, opened):
    ids = [f"10test{number:02d}" for number in range(7)]
    for id_ in ids:
        await opened.load_tests.create(load_test(id_))
    assert [one.id async for one in client.list_load_tests(page_size=3)] == ids[::-1]


async def test_calls_to_the_load_generator_pass(client, tmp_path, opened):
    assert "random" in [name async for name in client.list_load_datasets()]
    file = tmp_path / "rows.txt"
    file.write_text("one\ntwo\n")
    digest = await client.import_load_file(file)
    assert await opened.objects.get(layout.load_file_key(digest)) == b"one\ntwo\n"
    prompts = PromptSpec(dataset="line_by_line", file_digest=digest, file_name="rows.txt")
    (seen,) = await client.preview_load_test(replace(SPEC, prompts=prompts))
    assert "one" in seen.body


async def test_files_of_a_load_test_are_exported_once_they_are_written(client, opened, tmp_path):
    await opened.load_tests.create(load_test())
    with pytest.raises(NotFound, match=r"t1 has no perf\.json yet; it is RUNNING"):
        await client.perf_report("t1")
    whole = b'{"a": 1}' + b" " * (3 << 20)
    await opened.objects.put(layout.perf_json_key("t1"), whole)
    assert await client.perf_report("t1") == {"a": 1}
    assert (await client.export_load_test("t1", "perf.json", tmp_path / "p.json")).read_bytes() == whole
    with pytest.raises(InvalidInput, match=r"requests\.parquet"):
        await client.export_load_test("t1", "../other", tmp_path / "x")
    with pytest.raises(NotFound, match="nosuchtest"):
        await client.perf_report("nosuchtest")


# Watching


def tick(second, number=0, **more):
    ttft = Histogram()
    ttft.add_all([0.1] * 10)
    counts = {"sent": 10, "ok": 8, "errors": {"reset": 2}, "in_flight": 4, "queued": 1, "good": 4}
    rest = {"input_tokens": 0, "output_tokens": 640, "sketches": Sketches(ttft=ttft.encode())}
    return Tick(number=number, second=second, cpu=0.25, loop_lag_ms=0.5, **{**counts, **rest, **more})


async def tell(opened, seat, *ticks, ago_s=0.0):
    for one in ticks:
        load = encode_seat_tick(seat, one)
        await opened.bus.emit(Event("t1", "load", f"seat-{seat}", time.time() - ago_s, load=load))


async def change(opened, **more):
    book = RecordBook(opened.load_tests, opened.bus, SystemClock())
    return await book.change("t1", lambda known: replace(known, **more))


async def until(updates, wanted):
    """The first update that is wanted."""
    async with asyncio.timeout(10):
        async for update in updates:
            if wanted(*update):
                return update
    raise AssertionError("the watch ended")


async def test_watch_begins_with_what_stands_and_ends_with_the_load_test(client, opened):
    await opened.load_tests.create(load_test())
    states = []

    async def finish():
        await asyncio.sleep(0.3)
        await change(opened, levels=(LevelStatus(0, LoadLevel(parallel=1, number=1), state="done", ok=1),))
        await change(opened, state=State.SUCCEEDED)

    finishing = asyncio.create_task(finish())
    async with asyncio.timeout(10):
        async for one, snapshot in client.watch_load_test("t1"):
            assert snapshot is None
            states.append((one.state, len(one.levels)))
    await finishing
    assert states[0] == (State.RUNNING, 0)
    assert states[-1] == (State.SUCCEEDED, 1)


async def test_watch_merges_what_all_seats_saw(client, opened):
    objective = replace(SPEC, slo=(SloTerm("ttft", "p99", 200.0),), arrival=ArrivalSpec("constant"))
    await opened.load_tests.create(replace(load_test(), spec=objective))
    await tell(opened, 0, tick(0), tick(1), tick(2))
    await tell(opened, 1, tick(0), tick(1))
    updates = client.watch_load_test("t1")
    _, seen = await until(updates, lambda _, snapshot: snapshot is not None and snapshot.sent == 50)
    assert (seen.ok, seen.errors, seen.generators, seen.in_flight) == (40, {"reset": 10}, 2, 8)
    assert (seen.sent_rate, seen.ok_rate, seen.output_token_rate) == (20.0, 16.0, 1280.0)
    assert seen.offered_rate == pytest.approx(20 + 1 / 3 + 1 / 2)
    assert seen.latencies["ttft"].p99_ms == pytest.approx(100.0, rel=0.01)
    assert seen.good_share == 0.5
    # The next second comes while the watch is on.
    await tell(opened, 1, tick(2))
    await until(updates, lambda _, snapshot: snapshot.sent == 60)
    # What stands in the record and what was seen come together.
    await change(opened, state=State.SUCCEEDED)
    one, last = await until(updates, lambda one, _: one.state.terminal)
    assert (one.state, last) == (State.SUCCEEDED, None)


async def test_seconds_that_are_over_are_not_shown_as_if_they_were_now(client, opened):
    await opened.load_tests.create(load_test())
    await tell(opened, 0, tick(0), tick(1), ago_s=60.0)
    await tell(opened, 0, Tick(0, 2, 1, 1, {}, 0, 0, 0, 0, 0, Sketches(), 0.0, 0.0), ago_s=30.0)
    updates = client.watch_load_test("t1")
    assert (await anext(updates))[1] is None
    await asyncio.sleep(0.3)
    await change(opened, attempt=1)
    assert (await until(updates, lambda one, _: one.attempt == 1))[1] is None


async def test_watch_that_is_taken_up_again_still_knows_the_counts_of_the_level(address, opened):
    """A client that comes back, to this gateway or another, is not shown a level that seems to begin anew."""
    await opened.load_tests.create(load_test())
    await tell(opened, 0, *(tick(second) for second in range(5)))
    await asyncio.sleep(0.2)
    async with asyncio.timeout(10), grpc.aio.insecure_channel(address) as channel:
        request = load_tests_pb2.WatchLoadTestRequest(name="loadTests/t1", start_sequence=6)
        call = load_tests_pb2_grpc.LoadTestServiceStub(channel).WatchLoadTest(request)
        sequences = []
        async for event in call:
            sequences.append(event.sequence)
            if event.HasField("snapshot") and event.snapshot.sent_count == 50:
                break
        call.cancel()
    # The number to go on from never falls back.
    assert set(sequences) == {5}


async def test_watch_from_a_place_that_is_not_kept_says_so(address, opened):
    await opened.load_tests.create(load_test())
    async with grpc.aio.insecure_channel(address) as channel:
        request = load_tests_pb2.WatchLoadTestRequest(name="loadTests/t1", start_sequence=500)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in load_tests_pb2_grpc.LoadTestServiceStub(channel).WatchLoadTest(request):
                pass
    assert isinstance(from_rpc_error(refused.value), OutOfRange)


async def test_unreadable_second_is_skipped(client, opened):
    await opened.load_tests.create(load_test())
    await opened.bus.emit(Event("t1", "load", "seat-0", time.time(), load=b"\xff"))
    await tell(opened, 0, tick(0))
    await until(client.watch_load_test("t1"), lambda _, snapshot: snapshot is not None and snapshot.sent == 10)


async def test_watch_of_no_load_test_is_not_found(client):
    with pytest.raises(NotFound, match="nosuchtest"):
        async for _ in client.watch_load_test("nosuchtest"):
            pass


@pytest.mark.alone
async def test_nothing_is_told_more_often_than_asked_for(client, opened):
    await opened.load_tests.create(load_test())
    began = time.monotonic()

    async def follow():
        return [update async for update in client.watch_load_test("t1", min_interval_s=1.0)]

    following = asyncio.create_task(follow())
    for second in range(20):
        await tell(opened, 0, tick(second))
        await asyncio.sleep(0.05)
    await change(opened, state=State.SUCCEEDED)
    async with asyncio.timeout(10):
        updates = await following
    # The first and the last one come at once.
    assert len(updates) <= time.monotonic() - began + 2
    assert updates[-1][0].state is State.SUCCEEDED


# Cancelling


async def test_cancelled_load_test_is_told_to_everybody_and_gets_a_conductor(client, opened):
    found = await client.create_load_test(SPEC)
    await opened.bus.publish([LoadItem(found.id, Queue.LOAD, seat=seat) for seat in range(3)])
    assert (await client.cancel_load_test(found)).state is State.CANCELLING
    async for name, wish in opened.runs.watch_control():
        assert (name, wish) == (found.id, "cancel")
        break
    assert await opened.bus.backlog(LOAD_QUEUE) == 0
    consumer = await opened.bus.consume(CONDUCT)
    (delivery,) = await consumer.fetch(10, 2)
    assert (delivery.item.load_test, delivery.item.ends) == (found.id, True)
    # Nobody drops it as work of something that was cancelled; a seat that is left over is dropped.
    view = ControlView(opened.runs, is_over(opened.load_tests))
    following = asyncio.create_task(view.follow())
    async with asyncio.timeout(5):
        while not view.is_cancelled(found.id):  # noqa: ASYNC110  (nor has the view)
            await asyncio.sleep(0.01)
    assert not await view.is_unwanted(delivery.item)
    assert await view.is_unwanted(LoadItem(found.id, Queue.LOAD, seat=0))
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await delivery.ack()


async def test_cancel_reaches_past_the_item_that_a_living_conductor_holds(client, opened):
    """The one at work sees the wish; the item brings another one if it is dead."""
    found = await client.create_load_test(SPEC)
    consumer = await opened.bus.consume(CONDUCT)
    (held,) = await consumer.fetch(1, 2)
    await client.cancel_load_test(found)
    (final,) = await consumer.fetch(1, 2)
    assert final.item.ends
    assert final.item.place == held.item.place, "within one process they would work side by side"
    await held.ack()
    await final.ack()
    assert await opened.bus.backlog(CONDUCT) == 0


async def test_cancel_asked_twice_still_ends_the_load_test(client, opened):
    found = await client.create_load_test(SPEC)
    await client.cancel_load_test(found)
    assert (await client.cancel_load_test(found)).state is State.CANCELLING
    assert await opened.bus.backlog(CONDUCT) == 1


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
async def test_ended_load_test_cannot_be_cancelled(client, opened, state):
    await opened.load_tests.create(load_test(state=state))
    with pytest.raises(FailedPrecondition, match=rf"t1 has ended already \({state}\)"):
        await client.cancel_load_test("t1")
    assert await opened.bus.backlog(CONDUCT) == 0


async def test_a_run_is_no_load_test_and_the_other_way_round(client, opened):
    await opened.load_tests.create(load_test())
    with pytest.raises(NotFound):
        await client.get_run("t1")
    assert [run async for run in client.list_runs()] == []
