"""Each service as its pod runs it: a process alone, with a real bus and a folder, told all by its environment."""

import asyncio
import json
import os
import signal
import time
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from opentelemetry import context, trace
from tests.kit.nats import running_server
from tests.kit.services import ROOMS, ServiceChild, all_services, plan_run, service, write_questions
from tests.kit.simulator import simulator

from evalmesh.adapters.connections import open_connections
from evalmesh.domain.completion import Completion
from evalmesh.domain.load_test import LoadLevel, LoadTarget, LoadTestSpec, PromptSpec
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec, RunState
from evalmesh.domain.state import State
from evalmesh.domain.work import Queue, Shard, Task, WorkItem
from evalmesh.sdk import AsyncClient
from evalmesh.v1 import benchmarks_pb2, models_pb2, reports_pb2, runs_pb2, scoring_pb2
from evalmesh.v1 import benchmarks_pb2_grpc as benchmarks_grpc
from evalmesh.v1 import models_pb2_grpc as models_grpc
from evalmesh.v1 import reports_pb2_grpc as reports_grpc
from evalmesh.v1 import runs_pb2_grpc as runs_grpc
from evalmesh.v1 import scoring_pb2_grpc as scoring_grpc

HEALTH = "grpc.health.v1.Health"
OWN = {
    "gateway": "evalmesh.v1.RunService",
    "dataset_loader": "evalmesh.v1.BenchmarkService",
    "model_runner": "evalmesh.v1.ModelService",
    "scorer": "evalmesh.v1.ScoringService",
    "load_generator": "evalmesh.v1.LoadService",
    "report_aggregator": "evalmesh.v1.ReportService",
}
LONG_ACK_WAIT_S = 60.0
"""Whatever comes back sooner was given back."""
ALL_ROOMS = pytest.mark.parametrize("room", ROOMS)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Environment of a bus and a store that every service of this module may use."""
    folder = tmp_path_factory.mktemp("alone")
    with running_server(folder / "nats") as nats:
        yield {
            "EVALMESH_BUS_URL": nats.url,
            "EVALMESH_OBJECTS_URL": (folder / "objects").as_uri(),
            "EVALMESH_ACK_WAIT_S": str(LONG_ACK_WAIT_S),
            "EVALMESH_DRAIN_S": "1",
        }


@pytest.fixture(scope="module")
def platform(base):
    with all_services(base) as children:
        yield children


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return write_questions(tmp_path_factory.mktemp("questions") / "questions.jsonl", 40)


@pytest.fixture(scope="module")
def model(questions):
    arguments = json.dumps({"general_mcq": {"local_path": str(questions)}})
    with simulator("--benchmarks", "general_mcq", "--dataset-args", arguments) as running:
        yield running


def spec_of(url, questions, benchmark="general_mcq", **more):
    return RunSpec(ModelSpec("simulated", url=url), (BenchmarkSpec(benchmark, local_path=str(questions)),), **more)


# What each serves


@ALL_ROOMS
def test_is_healthy_and_lists_its_services(platform, room):
    with grpc.insecure_channel(platform[room].address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", OWN[room]):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as refused:
            health.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=5)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        listed = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert {OWN[room], HEALTH} <= set(listed)


def test_gateway_answers(platform):
    with grpc.insecure_channel(platform["gateway"].address) as channel:
        assert runs_grpc.RunServiceStub(channel).ListRuns(runs_pb2.ListRunsRequest(), timeout=5) is not None


def test_dataset_loader_answers(platform):
    with grpc.insecure_channel(platform["dataset_loader"].address) as channel:
        stub = benchmarks_grpc.BenchmarkServiceStub(channel)
        found = stub.GetBenchmark(benchmarks_pb2.GetBenchmarkRequest(name="benchmarks/gsm8k"), timeout=5)
        assert found.title == "GSM8K"


def test_model_runner_answers(platform, model):
    with grpc.insecure_channel(platform["model_runner"].address) as channel:
        spec = models_pb2.ModelSpec(model="simulated", engine="openai", url=model.url)
        asked = models_pb2.DescribeModelRequest(model=spec)
        assert models_grpc.ModelServiceStub(channel).DescribeModel(asked, timeout=10).model == "simulated"


def test_scorer_answers(platform):
    with grpc.insecure_channel(platform["scorer"].address) as channel:
        assert scoring_grpc.ScoringServiceStub(channel).ListScorers(scoring_pb2.ListScorersRequest(), timeout=5).scorers


def test_report_aggregator_answers(platform):
    with grpc.insecure_channel(platform["report_aggregator"].address) as channel:
        stub = reports_grpc.ReportServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.GetReport(reports_pb2.GetReportRequest(name="runs/nosuchrun/report"), timeout=5)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


# One trace


async def test_one_trace_goes_through_every_service(platform, questions, model):
    """From the client's metadata over NATS headers to the log lines, which name run, benchmark and shard."""
    sent = trace.SpanContext(
        0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, is_remote=True, trace_flags=trace.TraceFlags(1)
    )
    async with AsyncClient(platform["gateway"].address) as client:
        token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(sent)))
        try:
            run = await client.create_run(spec_of(model.url, questions, shard_size=20))
        finally:
            context.detach(token)
        ended = await asyncio.wait_for(client.wait_run(run), 60)
    assert ended.state is RunState.SUCCEEDED
    for room, child in platform.items():
        if room == "load_generator":
            continue  # Has no part in a run; see below.
        lines = await lines_about(child, run.id)
        assert lines, f"{room} has logged nothing about the run"
        assert {line.get("trace_id") for line in lines} == {"0af7651916cd43dd8448eb211c80319c"}
        assert {line["service"] for line in lines} == {room}
    for room in ("model_runner", "scorer", "report_aggregator"):
        places = {(line["benchmark"], line["shard"]) for line in await lines_about(platform[room], run.id)}
        assert {("general_mcq", 0), ("general_mcq", 1)} <= places


async def test_one_trace_goes_through_a_load_test(platform, model):
    sent = trace.SpanContext(
        0x1AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, is_remote=True, trace_flags=trace.TraceFlags(1)
    )
    target = LoadTarget(f"{model.url}/chat/completions", "simulated")
    spec = LoadTestSpec(target, PromptSpec("random", prompt="Hello"), levels=(LoadLevel(parallel=1, number=3),))
    async with AsyncClient(platform["gateway"].address) as client:
        token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(sent)))
        try:
            test = await client.create_load_test(spec)
        finally:
            context.detach(token)
        ended = await asyncio.wait_for(client.wait_load_test(test), 60)
    assert ended.state is State.SUCCEEDED
    for room in ("gateway", "load_generator", "report_aggregator"):
        lines = await lines_about(platform[room], test.id)
        assert {line.get("trace_id") for line in lines} == {"1af7651916cd43dd8448eb211c80319c"}, room


async def lines_about(child, run):
    """A step's last line may come a moment after the step's effect."""
    await asyncio.sleep(0.2)
    return [line for line in child.logs() if line.get("run") == run]


# How each ends


def test_all_end_with_their_parent_when_told_so(base):
    with all_services({**base, "EVALMESH_END_WITH_STDIN": "true"}) as children:
        for child in children.values():
            child.process.stdin.close()
        assert {room: child.wait(10) for room, child in children.items()} == dict.fromkeys(ROOMS, 0)


def test_outlives_a_closed_input_otherwise(base):
    with service("scorer", base) as child:
        child.process.stdin.close()
        with pytest.raises(Exception, match="timed out"):
            child.process.wait(0.5)
        child.signal(signal.SIGTERM)
        assert child.wait(10) == 0


async def test_gateway_ends_in_order_while_somebody_watches(base, questions):
    with service("gateway", base) as child:
        async with (
            connections(base) as opened,
            grpc.aio.insecure_channel(child.address) as channel,
        ):
            run = "watched"
            await plan_run(opened, run, spec_of("http://127.0.0.1:9/v1", questions))
            watch = runs_grpc.RunServiceStub(channel).WatchRun(runs_pb2.WatchRunRequest(name=f"runs/{run}"))
            assert (await watch.read()).run.state == runs_pb2.Run.RUNNING
            child.signal(signal.SIGINT)
            assert await asyncio.to_thread(child.wait) == 0
            await opened.bus.purge(run)


@asynccontextmanager
async def connections(base):
    async with open_connections(
        base["EVALMESH_BUS_URL"], base["EVALMESH_OBJECTS_URL"], "test", LONG_ACK_WAIT_S
    ) as opened:
        yield opened


@pytest.fixture
def own_base(tmp_path):
    """As `base`, for tests that look at what is left in a queue."""
    with running_server(tmp_path / "nats") as nats:
        yield {
            "EVALMESH_BUS_URL": nats.url,
            "EVALMESH_OBJECTS_URL": (tmp_path / "objects").as_uri(),
            "EVALMESH_ACK_WAIT_S": str(LONG_ACK_WAIT_S),
            "EVALMESH_DRAIN_S": "1",
        }


async def next_of(opened, *queue, wait_s=2.0):
    consumer = await opened.bus.consume(*queue)
    try:
        (delivery,) = await consumer.fetch(1, wait_s)
        return delivery
    finally:
        await consumer.close()


async def until(condition, within_s=20.0):
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  (what is awaited happens in other processes)
            await asyncio.sleep(0.02)


@pytest.mark.alone
async def test_runner_gives_back_a_shard_it_cannot_finish(own_base, questions):
    """What was answered is kept, what was in flight is given up, and the shard is there for another at once."""
    arguments = json.dumps({"general_mcq": {"local_path": str(questions)}})
    with simulator("--benchmarks", "general_mcq", "--dataset-args", arguments, "--ttft", "60s") as slow:
        async with connections(own_base) as opened:
            plan = await plan_run(opened, "slow", spec_of(slow.url, questions))
            with service("model_runner", own_base) as child:
                await until(lambda: slow.stats()["in_flight"] > 0)
                start = time.monotonic()
                child.signal(signal.SIGTERM)
                assert await asyncio.to_thread(child.wait) == 0
                assert time.monotonic() - start < 5
            again = await next_of(opened, Queue.GENERATE, plan.pool, plan.run)
            assert (again.item.shard_index, again.item.handovers, again.delivered) == (0, 1, 1)


async def test_runner_finishes_what_takes_a_moment(own_base, questions):
    arguments = json.dumps({"general_mcq": {"local_path": str(questions)}})
    with simulator("--benchmarks", "general_mcq", "--dataset-args", arguments, "--ttft", "600ms") as soon:
        async with connections(own_base) as opened:
            plan = await plan_run(opened, "soon", spec_of(soon.url, questions))
            with service("model_runner", own_base) as child:
                await until(lambda: soon.stats()["in_flight"] > 1)  # more than the look before them
                child.signal(signal.SIGTERM)
                assert await asyncio.to_thread(child.wait) == 0
            assert await opened.bus.backlog(Queue.GENERATE, plan.pool) == 0
            assert (await next_of(opened, Queue.SCORE)).item.shard_index == 0
            assert len(await plan.of("general_mcq").of("generate").read_completions(0)) == 40


async def test_scorer_gives_back_a_shard_in_the_middle_of_scoring(own_base, tmp_path):
    problems = tmp_path / "problems.jsonl"
    problems.write_text(json.dumps({"question": "Half of x?", "answer": "x/2"}) + "\n")
    async with connections(own_base) as opened:
        plan = await plan_run(opened, "maths", spec_of("http://127.0.0.1:9/v1", problems, "starter_math"))
        files = plan.of("starter_math")
        _, rows = await files.read_requests(0)
        (request,) = rows[0].requests()
        # Needs symbols, so that it is scored in a process of its own, which is stopped here.
        answer = Completion(request.sample_id, 0, request.digest, text="\\boxed{\\frac{x+0}{2}}")
        await files.of("generate").write(0, [answer])
        with service("scorer", {**own_base, "EVALMESH_SCORER_SAMPLE_DEADLINE_S": "60"}) as child:
            await opened.bus.publish(
                [WorkItem("maths", Task.STAGE, "starter_math", "score", "score", Shard(0, "default", 0, 1, 1))]
            )
            await until(lambda: scoring_processes(child.process.pid))
            (child_pid,) = scoring_processes(child.process.pid)
            os.kill(child_pid, signal.SIGSTOP)
            child.signal(signal.SIGTERM)
            assert await asyncio.to_thread(child.wait) == 0
        again = await next_of(opened, Queue.SCORE)
        assert (again.item.run, again.item.shard_index, again.item.handovers) == ("maths", 0, 1)
        with pytest.raises(ProcessLookupError):
            os.kill(child_pid, 0)  # it went with its service
        assert plan.requests == 1


def scoring_processes(pid):
    """Children that have become what they shall be; stopped earlier, one would keep its parent waiting."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in children if "worker_main" in Path(f"/proc/{one}/cmdline").read_text()]


# What each says when it cannot start


def ended(room, environment):
    child = ServiceChild(room, environment)
    try:
        return child.wait(20), child.stderr
    finally:
        child.stop()


@pytest.mark.parametrize(
    ("room", "name", "value"),
    [
        ("gateway", "EVALMESH_GATEWAY_CHECK_TIMEOUT_S", "soon"),
        ("dataset_loader", "EVALMESH_MAX_DELIVERIES", "0"),
        ("model_runner", "EVALMESH_MODEL_RUNNER_CHECKPOINT_S", "-1"),
        ("scorer", "EVALMESH_SCORER_PROCESSES", "0"),
        ("scorer", "EVALMESH_LOG_LEVEL", "loud"),
        ("report_aggregator", "EVALMESH_OBJECTS_URL", "ftp://somewhere"),
        ("report_aggregator", "EVALMESH_BUS_URL", "nats://s3cret@host:port"),
    ],
)
def test_wrong_setting_is_named(base, room, name, value):
    code, said = ended(room, {**base, name: value})
    assert code == 2
    assert name in said or name.removeprefix("EVALMESH_").lower() in said
    assert "s3cret" not in said
    assert "Traceback" not in said


@pytest.mark.alone
def test_unreachable_bus_is_named_and_its_token_is_not(base):
    start = time.monotonic()
    code, said = ended("scorer", {**base, "EVALMESH_BUS_URL": "nats://s3cret@127.0.0.1:1"})
    assert code == 5
    assert "127.0.0.1:1" in said
    assert "s3cret" not in said
    assert time.monotonic() - start < 10


def test_address_that_is_taken_is_named(base, platform):
    taken = platform["gateway"].address
    code, said = ended("scorer", {**base, "EVALMESH_ADDRESS": taken})
    assert code == 2
    assert taken in said
