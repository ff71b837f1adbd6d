"""The gateway over real gRPC and a real bus: runs are made once, followed and ended; calls to others pass through."""

import asyncio
import json
from dataclasses import replace

import grpc
import grpc.aio
import pytest
from tests.kit.hosting import hosted
from tests.kit.model_servers import any_server
from tests.kit.services import write_questions
from tests.kit.simulator import simulator

from evalmesh.adapters.datasets import LocalDatasets
from evalmesh.adapters.environment import SystemClock
from evalmesh.adapters.openai.endpoint import open_openai_endpoint
from evalmesh.dataset_loader import service as dataset_loader
from evalmesh.dataset_loader.settings import DatasetLoaderSettings
from evalmesh.domain.errors import FailedPrecondition, InvalidInput, NotFound, OutOfRange, Unavailable
from evalmesh.domain.events import Event
from evalmesh.domain.needs import Capabilities
from evalmesh.domain.run import RUN_FORMAT, BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.domain.work import Queue, Task
from evalmesh.gateway.peers import Peers, lazy_channel
from evalmesh.gateway.service import GatewayPorts, build
from evalmesh.model_runner.servicer import ModelServicer
from evalmesh.results.finding import Datasets
from evalmesh.runtime.service import Service
from evalmesh.sdk import AsyncClient
from evalmesh.v1 import benchmarks_pb2, benchmarks_pb2_grpc, models_pb2, models_pb2_grpc, runs_pb2, runs_pb2_grpc
from evalmesh.wire.errors import from_rpc_error
from evalmesh.wire.runs.media_files import MediaFiles
from evalmesh.wire.runs.specs import spec_to_proto

PLAN, REPORT = Queue.PLAN, Queue.REDUCE
LOADER, RUNNER = "evalmesh.v1.BenchmarkService", "evalmesh.v1.ModelService"
NOWHERE = "127.0.0.1:1"


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return write_questions(tmp_path_factory.mktemp("questions") / "questions.jsonl", 20)


@pytest.fixture(scope="module")
def model(questions):
    arguments = json.dumps({"general_mcq": {"local_path": str(questions)}})
    with simulator("--benchmarks", "general_mcq", "--dataset-args", arguments) as running:
        yield running


@pytest.fixture
def spec(model, questions):
    return RunSpec(ModelSpec("simulated", url=model.url), (BenchmarkSpec("general_mcq", local_path=str(questions)),))


@pytest.fixture
async def peers(opened):
    """Loader and runner that answer questions and take no work: runs stay where the gateway put them."""
    loader = dataset_loader.build(
        settings=DatasetLoaderSettings(),
        runs=opened.runs,
        bus=opened.bus,
        objects=opened.objects,
        datasets=Datasets(LocalDatasets()),
        clock=SystemClock(),
    )

    def mount(server):
        media = MediaFiles(opened.objects)
        servicer = ModelServicer(lambda pool: open_openai_endpoint(pool, any_server(), media=media), media)
        models_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)

    runner = Service("model_runner", (RUNNER,), mount)
    async with hosted(replace(loader, loops=()), runner) as address:
        yield address


def build_gateway(opened, loader, runner):
    routes = {LOADER: lazy_channel(lambda: loader), RUNNER: lazy_channel(lambda: runner)}
    ports = GatewayPorts(opened.runs, opened.load_tests, opened.bus, opened.objects, SystemClock())
    return build(ports, Peers(routes[LOADER], routes[RUNNER], lazy_channel(lambda: NOWHERE), 10.0, "own"), routes)


@pytest.fixture
async def address(opened, peers):
    async with hosted(build_gateway(opened, peers, peers)) as address:
        yield address


@pytest.fixture
async def client(address):
    async with AsyncClient(address, timeout_s=10) as client:
        yield client


# Creating


async def test_same_request_gives_the_same_run(client, opened, spec):
    first = await client.create_run(spec, request_id="mine")
    again = await client.create_run(spec, request_id="mine")
    other = await client.create_run(spec, request_id="another")
    assert first.id == again.id != other.id
    assert sorted(await opened.runs.list_ids()) == sorted([first.id, other.id])
    assert await opened.bus.backlog(PLAN) == 2


async def test_same_request_through_two_gateways_at_once_gives_one_run(opened, peers, spec):
    """A client whose connection broke asks again, and may reach the other gateway while the first still works."""
    async with (
        hosted(build_gateway(opened, peers, peers)) as one,
        hosted(build_gateway(opened, peers, peers)) as two,
        AsyncClient(one) as here,
        AsyncClient(two) as there,
    ):
        asked = [client.create_run(spec, request_id="mine") for client in (here, there) * 4]
        runs = {run.id for run in await asyncio.gather(*asked)}
        assert len(runs) == 1
        assert list(await opened.runs.list_ids()) == list(runs)
        assert await opened.bus.backlog(PLAN) == 1
        # And both follow it.
        async for now in there.watch_run(runs.copy().pop()):
            assert now.state is RunState.QUEUED
            break


async def test_gateway_that_died_before_the_plan_was_queued_is_made_up_for(client, opened, spec):
    await opened.runs.claim_request("mine", "20aborted")
    await opened.runs.create(Run("20aborted", spec, RunState.QUEUED, 1.0, request_id="mine"))
    assert await opened.bus.backlog(PLAN) == 0
    assert (await client.create_run(spec, request_id="mine")).id == "20aborted"
    assert await opened.bus.backlog(PLAN) == 1


async def test_gateway_that_died_before_the_run_was_written_is_made_up_for(client, opened, spec):
    await opened.runs.claim_request("mine", "20claimed")
    assert (await client.create_run(spec, request_id="mine")).id == "20claimed"
    assert await opened.bus.backlog(PLAN) == 1


async def test_validation_alone_leaves_nothing_behind(client, opened, spec):
    run = await client.create_run(spec, validate_only=True)
    assert (run.id, run.state) == ("", RunState.QUEUED)
    assert list(await opened.runs.list_ids()) == []
    assert await opened.bus.backlog(PLAN) == 0


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"benchmarks": (BenchmarkSpec("general_mcq", local_path="/no/such/file.jsonl"),)}, NotFound, "/no/such/file"),
        ({"benchmarks": (BenchmarkSpec("gsmk8"),)}, NotFound, "gsmk8"),
        ({"model": ModelSpec("simulated", url=f"http://{NOWHERE}/v1")}, Unavailable, NOWHERE),
        ({"model": ModelSpec("another", url="")}, InvalidInput, "url"),
        ({"reuse_runs": ("nosuchrun",)}, NotFound, "nosuchrun"),
    ],
)
async def test_run_that_cannot_work_is_refused_before_anything_is_spent(client, opened, spec, change, error, named):
    with pytest.raises((error, InvalidInput)) as refused:
        await client.create_run(replace(spec, **change))
    assert named in refused.value.message
    assert list(await opened.runs.list_ids()) == []


class Limited:
    """An endpoint that is there, and can do little."""

    def __init__(self, capabilities):
        self.capabilities = capabilities

    async def check(self, kind=None, config=None):
        return ()

    async def close(self):
        pass


@pytest.mark.parametrize(
    ("capabilities", "named"),
    [
        (Capabilities(frozenset({"embedding"})), ["general_mcq", "chat requests", "serves embedding", "request_kind"]),
        (Capabilities(frozenset({"chat"}), max_context_tokens=64), ["general_mcq", "64 tokens in all", "leave"]),
    ],
)
async def test_run_that_needs_more_than_the_endpoint_can_do_is_refused(opened, peers, spec, capabilities, named):
    def mount(server):
        models_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelServicer(lambda _: Limited(capabilities), MediaFiles(opened.objects)), server
        )

    async with (
        hosted(Service("model_runner", (RUNNER,), mount)) as runner,
        hosted(build_gateway(opened, peers, runner)) as gateway,
        AsyncClient(gateway, timeout_s=10) as client,
    ):
        with pytest.raises(InvalidInput) as refused:
            await client.create_run(spec)
        assert all(word in refused.value.message for word in named), refused.value.message
    assert list(await opened.runs.list_ids()) == []


# Listing


async def test_pages_of_large_specs_end_before_a_message_is_full(client, address, opened, spec):
    large = replace(spec, benchmarks=tuple(replace(spec.benchmarks[0], prompt_template="x" * 900_000) for _ in "ab"))
    ids = [f"10run{number:02d}" for number in range(40)]
    for run in ids:
        await opened.runs.create(Run(run, large, RunState.SUCCEEDED, 1.0))
    assert [run.id async for run in client.list_runs(page_size=1000)] == ids[::-1]


async def test_pages_are_newest_first_and_complete(client, address, opened, spec):
    ids = [f"10run{number:02d}" for number in range(7)]
    for run in ids:
        await opened.runs.create(Run(run, spec, RunState.SUCCEEDED, 1.0))
    assert [run.id async for run in client.list_runs(page_size=3)] == ids[::-1]
    async with grpc.aio.insecure_channel(address) as channel:
        stub = runs_pb2_grpc.RunServiceStub(channel)
        first = await stub.ListRuns(runs_pb2.ListRunsRequest(page_size=3))
        # A run that comes in between pages neither hides nor doubles another.
        await opened.runs.create(Run("11newer", spec, RunState.QUEUED, 2.0))
        second = await stub.ListRuns(runs_pb2.ListRunsRequest(page_size=3, page_token=first.next_page_token))
        assert [run.name for run in second.runs] == [f"runs/{run}" for run in ids[::-1][3:6]]
        for request in (runs_pb2.ListRunsRequest(page_size=-1), runs_pb2.ListRunsRequest(page_token="nonsense")):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.ListRuns(request)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


# Watching


async def events(address, run, start=0, count=1):
    taken = []
    async with asyncio.timeout(10), grpc.aio.insecure_channel(address) as channel:
        request = runs_pb2.WatchRunRequest(name=f"runs/{run}", start_sequence=start)
        call = runs_pb2_grpc.RunServiceStub(channel).WatchRun(request)
        async for event in call:
            taken.append(event)
            if len(taken) == count:
                call.cancel()
                break
    return taken


async def test_watch_goes_on_after_the_sequence_it_is_given(address, opened, spec):
    await opened.runs.create(Run("r1", spec, RunState.RUNNING, 1.0))
    for number in range(5):
        await opened.bus.emit(Event("r1", "progress", "test", float(number)))
    await asyncio.sleep(0.2)
    (first,) = await events(address, "r1", start=6)
    assert first.run.state == runs_pb2.Run.RUNNING
    # The number to go on from never falls back: a watch that breaks right now would replay what it has seen.
    assert first.sequence == 5


async def test_watch_ends_with_the_run(client, opened, spec):
    await opened.runs.create(Run("r1", spec, RunState.RUNNING, 1.0))
    seen = []

    async def finish():
        await asyncio.sleep(0.3)
        known = await opened.runs.get("r1")
        await opened.runs.update(replace(known.value, state=RunState.SUCCEEDED), known.revision)
        await opened.bus.emit(Event("r1", "state", "test", 1.0))

    finishing = asyncio.create_task(finish())
    async with asyncio.timeout(10):
        seen += [now.state async for now in client.watch_run("r1")]
    await finishing
    assert (seen[0], seen[-1]) == (RunState.RUNNING, RunState.SUCCEEDED)


async def test_watch_from_a_place_that_is_not_kept_says_so(address, opened, spec):
    await opened.runs.create(Run("r1", spec, RunState.RUNNING, 1.0))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await events(address, "r1", start=500, count=2)
    assert refused.value.code() is grpc.StatusCode.OUT_OF_RANGE
    assert isinstance(from_rpc_error(refused.value), OutOfRange)


async def test_watch_of_no_run_is_not_found(client):
    with pytest.raises(NotFound, match="nosuchrun"):
        async for _ in client.watch_run("nosuchrun"):
            pass


# Cancelling and resuming


async def test_cancelled_run_is_told_to_everybody_and_gets_its_report(client, opened, spec):
    run = await client.create_run(spec)
    assert (await client.cancel_run(run)).state is RunState.CANCELLING
    assert await opened.bus.backlog(PLAN) == 0
    async for name, wish in opened.runs.watch_control():
        assert (name, wish) == (run.id, "cancel")
        break
    consumer = await opened.bus.consume(REPORT)
    (delivery,) = await consumer.fetch(10, 2)
    assert delivery.item.task is Task.FINISH
    await delivery.ack()


async def test_cancel_asked_twice_still_ends_the_run(client, opened, spec):
    """The second cancel removes the first one's request for a report; the one it makes must not pass for a repeat."""
    run = await client.create_run(spec)
    await client.cancel_run(run)
    assert (await client.cancel_run(run)).state is RunState.CANCELLING
    assert await opened.bus.backlog(REPORT) == 1


@pytest.mark.parametrize("state", [RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED])
async def test_ended_run_cannot_be_cancelled(client, opened, spec, state):
    await opened.runs.create(Run("r1", spec, state, 1.0))
    with pytest.raises(FailedPrecondition, match=rf"r1 has ended already \({state}\)"):
        await client.cancel_run("r1")


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.CANCELLED])
async def test_ended_run_is_resumed_as_a_new_attempt(client, opened, spec, state):
    await opened.runs.create(
        Run("r1", spec, state, 1.0, end_time=2.0, error="what was", error_reason="WHY", format=RUN_FORMAT)
    )
    run = await client.resume_run("r1")
    assert (run.state, run.attempt, run.end_time, run.error) == (RunState.QUEUED, 1, None, "")
    consumer = await opened.bus.consume(PLAN)
    (delivery,) = await consumer.fetch(10, 2)
    assert (delivery.item.run, delivery.item.attempt) == ("r1", 1)
    await delivery.ack()


async def test_what_cannot_be_resumed_says_why(client, opened, spec):
    await opened.runs.create(Run("done", spec, RunState.SUCCEEDED, 1.0, format=RUN_FORMAT))
    await opened.runs.create(Run("busy", spec, RunState.RUNNING, 1.0, format=RUN_FORMAT))
    with pytest.raises(FailedPrecondition, match="--use-cache done"):
        await client.resume_run("done")
    with pytest.raises(FailedPrecondition, match="going on"):
        await client.resume_run("busy")
    with pytest.raises(NotFound, match="nosuchrun"):
        await client.resume_run("nosuchrun")
    assert (await client.resume_run("busy", takeover=True)).attempt == 1
    assert (await client.resume_run("done", rescore=True)).state is RunState.QUEUED


async def test_run_of_the_time_before_stages_says_how_its_answers_are_kept(client, opened, spec):
    await opened.runs.create(Run("old", spec, RunState.CANCELLED, 1.0))
    with pytest.raises(FailedPrecondition, match="--use-cache old"):
        await client.resume_run("old")


# Passing on


async def test_errors_of_other_services_keep_class_message_and_details(client):
    with pytest.raises(NotFound) as refused:
        await client.get_benchmark("nosuchbenchmark")
    assert "nosuchbenchmark" in refused.value.message
    spec = BenchmarkSpec("general_mcq", local_path="/no/such/file.jsonl")
    with pytest.raises(NotFound) as refused:
        await client.preview_benchmark(spec)
    assert refused.value.details


async def test_service_that_is_away_is_named(opened, spec):
    """Not: the platform is down. It is not."""
    async with hosted(build_gateway(opened, NOWHERE, NOWHERE)) as address, AsyncClient(address) as client:
        with pytest.raises(Unavailable, match=r"cannot reach evalmesh\.v1\.BenchmarkService"):
            await client.get_benchmark("gsm8k")
        with pytest.raises(Unavailable, match=r"cannot reach evalmesh\.v1\.BenchmarkService"):
            await client.create_run(spec)


async def test_unknown_service_is_unimplemented(address):
    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/evalmesh.v1.NoService/Nothing")(b"")
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.fixture
def slow():
    with simulator("--ttft", "30s") as running:
        yield running


async def test_caller_that_hangs_up_ends_the_call_behind_the_gateway(client, address, slow):
    spec = models_pb2.ModelSpec(model="simulated", engine="openai", url=slow.url)
    message = models_pb2.Message(role="user", content="Hello?")
    asked = models_pb2.ModelRequest(id="1", messages=[message])
    async with grpc.aio.insecure_channel(address) as channel:
        call = models_pb2_grpc.ModelServiceStub(channel).Generate(
            models_pb2.GenerateRequest(model=spec, requests=[asked])
        )
        await in_flight(slow, 1)
        call.cancel()
        await in_flight(slow, 0)


async def in_flight(model, wanted):
    async with asyncio.timeout(10):
        while (await asyncio.to_thread(model.stats))["in_flight"] != wanted:  # noqa: ASYNC110  (another process)
            await asyncio.sleep(0.02)


class Peer(benchmarks_pb2_grpc.BenchmarkServiceServicer):
    """Answers at length, and tells with what it was called."""

    def __init__(self):
        self.metadata = {}

    async def ListBenchmarks(self, request, context):  # noqa: N802
        self.metadata = dict(context.invocation_metadata())
        return benchmarks_pb2.ListBenchmarksResponse(next_page_token="x" * (10 << 20))

    def mount(self, server):
        benchmarks_pb2_grpc.add_BenchmarkServiceServicer_to_server(self, server)


async def test_large_answers_pass_and_a_token_does_not(opened):
    """Larger than the 4 MiB that gRPC allows by default, as a page of long sample results is."""
    peer = Peer()
    given = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("authorization", "Bearer t")]
    async with (
        hosted(Service("peer", (LOADER,), peer.mount)) as where,
        hosted(build_gateway(opened, where, where)) as address,
        grpc.aio.insecure_channel(address, options=[("grpc.max_receive_message_length", 64 << 20)]) as channel,
    ):
        stub = benchmarks_pb2_grpc.BenchmarkServiceStub(channel)
        answer = await stub.ListBenchmarks(benchmarks_pb2.ListBenchmarksRequest(), metadata=given)
    assert len(answer.next_page_token) == 10 << 20
    assert peer.metadata["traceparent"].split("-")[1] == "0af7651916cd43dd8448eb211c80319c"
    assert peer.metadata["authorization"] == "Bearer own"


async def test_spec_without_a_model_is_named_field_by_field(address):
    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await runs_pb2_grpc.RunServiceStub(channel).CreateRun(
                runs_pb2.CreateRunRequest(spec=spec_to_proto(RunSpec(ModelSpec(""), ())))
            )
    error = from_rpc_error(refused.value)
    assert isinstance(error, InvalidInput)
    assert error.details
