"""Both clients against a gateway written for the tests: a fake at the edge, over real gRPC."""

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import grpc.aio
import pytest
from opentelemetry import trace

from evalmesh.domain.errors import LOADING, InvalidInput, NotFound, OutOfRange, Unavailable
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.sdk import AsyncClient, Client
from evalmesh.v1 import (
    reports_pb2,
    reports_pb2_grpc,
    runs_pb2,
    runs_pb2_grpc,
    scoring_pb2,
    scoring_pb2_grpc,
)
from evalmesh.wire.errors import ErrorInterceptor
from evalmesh.wire.paging import decode_token, encode_token
from evalmesh.wire.runs.specs import run_to_proto, spec_from_proto

SPEC = RunSpec(model=ModelSpec(name="m", url="http://h/v1"), benchmarks=(BenchmarkSpec(name="gsm8k"),))
RUN = Run(id="r1", spec=SPEC, state=RunState.RUNNING, create_time=1.75e9)
DONE = replace(RUN, state=RunState.SUCCEEDED)


class FakeGateway(
    runs_pb2_grpc.RunServiceServicer, reports_pb2_grpc.ReportServiceServicer, scoring_pb2_grpc.ScoringServiceServicer
):
    def __init__(self):
        self.metadata = []
        self.request_ids = []
        self.get_failures = 0
        self.still_loading = 0
        self.watches = []
        self.script = [[(1, RUN), (2, DONE)]]
        self.uploaded = b""
        self.watch_ended = asyncio.Event()

    async def CreateRun(self, request, context):  # noqa: N802
        self.metadata.append(dict(context.invocation_metadata()))
        self.request_ids.append(request.request_id)
        if self.still_loading:
            self.still_loading -= 1
            raise Unavailable("The model m is being loaded.", {"field": "model.model", LOADING: "true"})
        spec = spec_from_proto(request.spec)
        return run_to_proto(replace(RUN, spec=spec, id="" if request.validate_only else "r1"))

    async def GetRun(self, request, context):  # noqa: N802
        if self.get_failures:
            self.get_failures -= 1
            raise Unavailable("The store is away.")
        if request.name != "runs/r1":
            raise NotFound(f"There is no {request.name}.", {"run": request.name})
        return run_to_proto(RUN)

    async def ListRuns(self, request, context):  # noqa: N802
        start = int(decode_token(request.page_token) or 0)
        runs = [run_to_proto(replace(RUN, id=f"r{i}")) for i in range(start, min(start + 2, 5))]
        return runs_pb2.ListRunsResponse(runs=runs, next_page_token=encode_token(start + 2) if start + 2 < 5 else "")

    async def WatchRun(self, request, context):  # noqa: N802
        self.watches.append(request.start_sequence)
        try:
            for step in self.script.pop(0):
                if isinstance(step, Exception):
                    raise step
                if step == "hang":
                    await asyncio.sleep(60)
                yield runs_pb2.RunEvent(sequence=step[0], run=run_to_proto(step[1]))
        finally:
            self.watch_ended.set()

    async def QueryResults(self, request, context):  # noqa: N802
        assert (request.parent, request.benchmark, request.score_state) == ("runs/r1", "gsm8k", "errored")
        page = int(decode_token(request.page_token) or 0)
        return reports_pb2.QueryResultsResponse(
            results=[f'{{"page": {page}}}'], next_page_token=encode_token(page + 1) if page < 2 else ""
        )

    async def GetReport(self, request, context):  # noqa: N802
        return reports_pb2.Report(name=request.name, json='{"schema": 1}')

    async def ExportReport(self, request, context):  # noqa: N802
        yield reports_pb2.ExportReportResponse(data=b"abc")
        if request.file == "report.html":
            raise Unavailable("The store went away.")
        yield reports_pb2.ExportReportResponse(data=b"def")

    async def ImportCompletions(self, request_iterator, context):  # noqa: N802
        async for part in request_iterator:
            assert len(part.data) <= 1 << 20
            self.uploaded += part.data
        return scoring_pb2.ImportCompletionsResponse(digest="d" * 64, row_count=self.uploaded.count(b"\n"))


async def start(gateway):
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    runs_pb2_grpc.add_RunServiceServicer_to_server(gateway, server)
    reports_pb2_grpc.add_ReportServiceServicer_to_server(gateway, server)
    scoring_pb2_grpc.add_ScoringServiceServicer_to_server(gateway, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


@asynccontextmanager
async def connected(gateway, **options):
    server, address = await start(gateway)
    async with AsyncClient(address, **options) as client:
        yield client
    await server.stop(None)


@contextmanager
def in_another_thread(gateway):
    """The gateway on a loop of its own, as for a script that talks to a platform elsewhere."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server, address = asyncio.run_coroutine_threadsafe(start(gateway), loop).result()
    try:
        yield address
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def test_create_carries_trace_token_and_a_request_id():
    gateway = FakeGateway()
    span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1)))
    async with connected(gateway, token="t0ken") as client:
        with trace.use_span(span):
            assert await client.create_run(SPEC) == RUN
        assert await client.create_run(SPEC, request_id="mine") == RUN
        assert (await client.create_run(SPEC, validate_only=True)).id == ""
    assert gateway.metadata[0]["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"
    assert gateway.metadata[0]["authorization"] == "Bearer t0ken"
    assert "traceparent" not in gateway.metadata[1]
    assert gateway.request_ids[1] == "mine"
    assert len({*gateway.request_ids}) == 3


async def test_a_model_that_is_being_loaded_is_waited_for_and_that_is_said_once():
    gateway, said = FakeGateway(), []
    gateway.still_loading = 3
    async with connected(gateway, on_wait=said.append) as client:
        assert await client.create_run(SPEC) == RUN
    assert said == ["The model m is being loaded."]
    assert len(gateway.request_ids) == 4
    assert len({*gateway.request_ids}) == 1


async def test_a_bad_spec_never_leaves_the_client():
    gateway = FakeGateway()
    async with connected(gateway) as client:
        with pytest.raises(InvalidInput, match="repeats"):
            await client.create_run(replace(SPEC, repeats=0))
    assert gateway.request_ids == []


async def test_errors_are_those_of_the_service():
    async with connected(FakeGateway()) as client:
        with pytest.raises(NotFound, match="There is no runs/nope") as caught:
            await client.get_run("nope")
    assert caught.value.details == {"run": "runs/nope"}


async def test_a_read_survives_a_short_outage_and_not_a_long_one():
    gateway = FakeGateway()
    async with connected(gateway) as client:
        gateway.get_failures = 2
        assert await client.get_run("runs/r1") == RUN
        gateway.get_failures = 99
        with pytest.raises(Unavailable, match="store is away"):
            await client.get_run(RUN)


async def test_nobody_there_is_told_in_seconds():
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1.*evalmesh up"):
            await client.get_run("r1")


async def test_pages_are_one_iterator():
    async with connected(FakeGateway()) as client:
        assert [run.id async for run in client.list_runs()] == ["r0", "r1", "r2", "r3", "r4"]
        rows = [row async for row in client.results("r1", "gsm8k", state="errored")]
        assert rows == [{"page": 0}, {"page": 1}, {"page": 2}]
        with pytest.raises(InvalidInput, match="score_state"):
            [row async for row in client.results("r1", "gsm8k", state="bad")]


async def test_a_watch_goes_on_where_it_broke_and_ends_with_the_run():
    gateway = FakeGateway()
    gateway.script = [
        [(4, RUN), Unavailable("restarting")],
        [(5, RUN)],  # ends without an end of the run
        [OutOfRange("too old")],
        [(90, DONE)],
    ]
    async with connected(gateway) as client:
        states = [run.state async for run in client.watch_run("r1")]
    assert states == [RunState.RUNNING, RunState.RUNNING, RunState.SUCCEEDED]
    assert gateway.watches == [0, 5, 6, 0]


async def test_a_watch_gives_up_when_nothing_is_heard():
    gateway = FakeGateway()
    gateway.script = [[Unavailable("gone")] for _ in range(50)]
    async with connected(gateway) as client:
        with pytest.raises(Unavailable, match="gone"):
            [run async for run in client.watch_run("r1", reconnect_s=0.3)]


async def test_a_watch_tells_that_the_platform_is_away_and_that_it_is_back():
    gateway = FakeGateway()
    gone = Unavailable("The platform went away.")
    gateway.script = [[(1, RUN), gone], [gone], [gone], [(2, DONE)]]
    told = []
    async with connected(gateway) as client:
        states = [run.state async for run in client.watch_run("r1", on_lost=told.append)]
    assert states == [RunState.RUNNING, RunState.SUCCEEDED]
    assert len(told) == 2, "once lost, once back, however often it was tried"
    assert "went away" in told[0]
    assert told[1] == ""


async def test_a_watch_that_is_back_at_once_tells_nothing():
    gateway = FakeGateway()
    gateway.script = [[(1, RUN), Unavailable("A blink.")], [(2, DONE)]]
    told = []
    async with connected(gateway) as client:
        assert len([run async for run in client.watch_run("r1", on_lost=told.append)]) == 2
    assert told == []


async def test_leaving_a_watch_ends_it_on_the_server():
    gateway = FakeGateway()
    gateway.script = [[(1, RUN), "hang"]]
    async with connected(gateway) as client:
        watch = client.watch_run("r1")
        assert (await anext(watch)).state is RunState.RUNNING
        await watch.aclose()
        await asyncio.wait_for(gateway.watch_ended.wait(), 5)


async def test_an_export_appears_whole_or_not_at_all(tmp_path):
    async with connected(FakeGateway()) as client:
        path = await client.export("r1", "report.json", tmp_path / "deep" / "report.json")
        assert path.read_bytes() == b"abcdef"
        with pytest.raises(Unavailable):
            await client.export("r1", "report.html", tmp_path / "deep" / "report.html")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["report.json"]


async def test_completions_are_uploaded_in_pieces(tmp_path):
    gateway = FakeGateway()
    file = tmp_path / "c.jsonl"
    file.write_bytes(b'{"index": 0, "text": "x"}\n' * 100_000)
    async with connected(gateway) as client:
        imported = await client.import_completions(file)
    assert gateway.uploaded == file.read_bytes()
    assert imported.row_count == 100_000


def test_the_blocking_client_does_the_same(tmp_path):
    gateway = FakeGateway()
    gateway.script = [[(1, RUN), Unavailable("restarting")], [(2, DONE)], [(1, RUN), "hang"]]
    with in_another_thread(gateway) as address, Client(address) as client:
        assert client.create_run(SPEC) == RUN
        assert [run.id for run in client.list_runs()] == ["r0", "r1", "r2", "r3", "r4"]
        assert [run.state for run in client.watch_run("r1")] == [RunState.RUNNING, RunState.SUCCEEDED]
        assert next(iter(client.watch_run("r1"))).state is RunState.RUNNING
        assert client.report("r1") == {"schema": 1}
        assert len(list(client.results("r1", "gsm8k", state="errored"))) == 3
        assert client.export("r1", "report.json", tmp_path / "r.json").read_bytes() == b"abcdef"
        with pytest.raises(NotFound):
            client.get_run("nope")


async def test_the_blocking_client_works_beside_a_running_loop():
    with in_another_thread(FakeGateway()) as address, Client(address) as client:
        assert client.get_run("r1") == RUN


def test_a_closed_client_leaves_no_open_watch():
    gateway = FakeGateway()
    gateway.script = [[(1, RUN), "hang"]]
    with in_another_thread(gateway) as address:
        client = Client(address)
        watch = client.watch_run("r1")
        next(watch)
        client.close()
        client.close()
        watch.close()
