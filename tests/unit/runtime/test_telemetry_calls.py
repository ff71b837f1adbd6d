"""What is told of gRPC calls, by a real server."""

import asyncio

import grpc
import grpc.aio
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode

from evalmesh.domain.errors import NotFound
from evalmesh.runtime.interceptors import TelemetryInterceptor
from evalmesh.runtime.telemetry.instruments import heard_by
from evalmesh.runtime.telemetry.ledger import Ledger
from evalmesh.runtime.telemetry.otlp import Sender
from evalmesh.runtime.telemetry.settings import Export
from evalmesh.runtime.telemetry.traces import send_spans_to
from evalmesh.v1 import runs_pb2, runs_pb2_grpc
from evalmesh.wire.errors import ErrorInterceptor

SERVICE = "evalmesh.v1.RunService"


class Ended(SpanExporter):
    """Spans, as they end on the loop."""

    def __init__(self):
        self.queue = asyncio.Queue()

    def export(self, spans):
        for one in spans:
            self.queue.put_nowait(one)
        return SpanExportResult.SUCCESS

    async def next(self):
        return await asyncio.wait_for(self.queue.get(), 10)


class RunsServicer(runs_pb2_grpc.RunServiceServicer):
    async def GetRun(self, request, context):  # noqa: N802  (as in the proto)
        if request.name == "runs/broken":
            raise ValueError("a secret")
        if request.name == "runs/none":
            raise NotFound("There is no such run.")
        return runs_pb2.Run(name=request.name)

    async def WatchRun(self, request, context):  # noqa: N802  (likewise)
        yield runs_pb2.RunEvent()
        if request.name == "runs/endless":
            await asyncio.Event().wait()
        yield runs_pb2.RunEvent()


@pytest.fixture
async def told():
    """A stub, the spans that ended, and what was counted."""
    kept, ledger = Ended(), Ledger()
    sender = Sender(Export({"traces": ""}), alone=False)
    sender._spans = SimpleSpanProcessor(kept)
    send_spans_to(sender.tracer)
    server = grpc.aio.server(interceptors=(TelemetryInterceptor({SERVICE: "gateway"}), ErrorInterceptor()))
    runs_pb2_grpc.add_RunServiceServicer_to_server(RunsServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        with heard_by(ledger):
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield channel, kept, ledger
    finally:
        send_spans_to(None)
        await server.stop(0)


@pytest.mark.parametrize(
    ("name", "status", "failed"), [("ok", "OK", False), ("none", "NOT_FOUND", False), ("broken", "INTERNAL", True)]
)
async def test_a_call_is_told_with_its_status(told, name, status, failed):
    channel, spans, ledger = told
    call = runs_pb2_grpc.RunServiceStub(channel).GetRun(runs_pb2.GetRunRequest(name=f"runs/{name}"))
    assert (await call.code()).name == status
    span = await spans.next()
    assert (span.name, span.kind) == (f"{SERVICE}/GetRun", SpanKind.SERVER)
    assert span.resource.attributes["service.name"] == "evalmesh-gateway"
    assert span.attributes["rpc.response.status_code"] == status
    assert (span.status.status_code is StatusCode.ERROR) is failed
    assert "secret" not in str(dict(span.attributes)) + str(span.status.description)
    series = [(room, labels) for (one, room, labels) in ledger._values if one.name == "rpc.server.call.duration"]
    assert series == [("gateway", ("grpc", f"{SERVICE}/GetRun", status))]


async def test_a_stream_is_one_call(told):
    channel, spans, _ = told
    stub = runs_pb2_grpc.RunServiceStub(channel)
    assert len([one async for one in stub.WatchRun(runs_pb2.WatchRunRequest(name="runs/ok"))]) == 2
    span = await spans.next()
    assert (span.name, span.attributes["rpc.response.status_code"]) == (f"{SERVICE}/WatchRun", "OK")


async def test_a_call_that_is_left_is_no_failure(told):
    channel, spans, ledger = told
    stream = runs_pb2_grpc.RunServiceStub(channel).WatchRun(runs_pb2.WatchRunRequest(name="runs/endless"))
    await stream.read()
    stream.cancel()
    span = await spans.next()
    assert span.status.status_code is StatusCode.UNSET
    assert {labels[2] for _, _, labels in ledger._values} == {"CANCELLED"}
