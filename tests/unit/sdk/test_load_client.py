"""Both clients' load tests against a gateway written for the tests: a fake at the edge, over real gRPC."""

import asyncio
import json
import threading
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import grpc.aio
import pytest

from evalmesh.domain.errors import FailedPrecondition, InvalidInput, NotFound, OutOfRange, Unavailable
from evalmesh.domain.load_test import LoadSnapshot, LoadTarget, LoadTest, LoadTestSpec
from evalmesh.domain.state import State
from evalmesh.sdk import AsyncClient, Client
from evalmesh.v1 import load_generators_pb2, load_generators_pb2_grpc, load_tests_pb2, load_tests_pb2_grpc
from evalmesh.wire.errors import ErrorInterceptor
from evalmesh.wire.load_tests.specs import load_spec_from_proto, load_test_to_proto
from evalmesh.wire.load_tests.views import PreviewedRequest, snapshot_to_proto
from evalmesh.wire.paging import decode_offset, encode_token

SPEC = LoadTestSpec(LoadTarget("http://h/v1/chat/completions", "m"))
RUNNING = LoadTest("t1", SPEC, State.RUNNING, 1.75e9)
DONE = replace(RUNNING, state=State.SUCCEEDED)
SEEN = LoadSnapshot(0, 3.0, 3.0, sent=7, errors={"reset": 1})


class FakeGateway(load_tests_pb2_grpc.LoadTestServiceServicer, load_generators_pb2_grpc.LoadServiceServicer):
    def __init__(self):
        self.request_ids = []
        self.watches = []
        self.script = [[(1, RUNNING, None), (2, RUNNING, SEEN), (3, DONE, None)]]
        self.uploaded = b""
        self.watch_ended = asyncio.Event()

    async def CreateLoadTest(self, request, context):  # noqa: N802
        self.request_ids.append(request.request_id)
        id_ = "" if request.validate_only else "t1"
        return load_test_to_proto(replace(RUNNING, spec=load_spec_from_proto(request.spec), id=id_))

    async def GetLoadTest(self, request, context):  # noqa: N802
        if request.name != "loadTests/t1":
            raise NotFound(f"There is no {request.name}.")
        return load_test_to_proto(RUNNING)

    async def ListLoadTests(self, request, context):  # noqa: N802
        start = decode_offset(request.page_token)
        found = [load_test_to_proto(replace(RUNNING, id=f"t{i}")) for i in range(start, min(start + 2, 5))]
        token = encode_token(start + 2) if start + 2 < 5 else ""
        return load_tests_pb2.ListLoadTestsResponse(load_tests=found, next_page_token=token)

    async def CancelLoadTest(self, request, context):  # noqa: N802
        raise FailedPrecondition(f"{request.name} has ended already.")

    async def WatchLoadTest(self, request, context):  # noqa: N802
        self.watches.append((request.start_sequence, request.min_interval.ToMilliseconds()))
        try:
            for step in self.script.pop(0):
                if isinstance(step, Exception):
                    raise step
                if step == "hang":
                    await asyncio.sleep(60)
                sequence, load_test, snapshot = step
                yield load_tests_pb2.LoadTestEvent(
                    sequence=sequence,
                    load_test=load_test_to_proto(load_test),
                    snapshot=snapshot_to_proto(snapshot) if snapshot else None,
                )
        finally:
            self.watch_ended.set()

    async def ExportLoadTest(self, request, context):  # noqa: N802
        assert request.name == "loadTests/t1"
        yield load_tests_pb2.ExportLoadTestResponse(data=b'{"schema')
        if request.file == "perf_report.html":
            raise Unavailable("The store went away.")
        yield load_tests_pb2.ExportLoadTestResponse(data=b'": 1}')

    async def ImportLoadFile(self, request_iterator, context):  # noqa: N802
        async for part in request_iterator:
            assert len(part.data) <= 1 << 20
            self.uploaded += part.data
        return load_generators_pb2.ImportLoadFileResponse(digest="d" * 64, size_bytes=len(self.uploaded))

    async def ValidateLoadTest(self, request, context):  # noqa: N802
        return load_generators_pb2.ValidateLoadTestResponse(notes=["tokens are counted by the server"])

    async def PreviewLoadTest(self, request, context):  # noqa: N802
        one = load_generators_pb2.PreviewedRequest(body="{}", prepared_tokens=512)
        return load_generators_pb2.PreviewLoadTestResponse(requests=[one] * request.request_count)

    async def ListLoadDatasets(self, request, context):  # noqa: N802
        if not request.page_token:
            return load_generators_pb2.ListLoadDatasetsResponse(datasets=["openqa", "random"], next_page_token="x")
        return load_generators_pb2.ListLoadDatasetsResponse(datasets=["trace"])


async def start(gateway):
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    load_tests_pb2_grpc.add_LoadTestServiceServicer_to_server(gateway, server)
    load_generators_pb2_grpc.add_LoadServiceServicer_to_server(gateway, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


@asynccontextmanager
async def connected(gateway):
    server, address = await start(gateway)
    async with AsyncClient(address) as client:
        yield client
    await server.stop(None)


@contextmanager
def in_another_thread(gateway):
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


async def test_create_makes_one_per_request():
    gateway = FakeGateway()
    async with connected(gateway) as client:
        assert await client.create_load_test(SPEC) == RUNNING
        assert await client.create_load_test(SPEC, request_id="mine") == RUNNING
        assert (await client.create_load_test(SPEC, validate_only=True)).id == ""
    assert gateway.request_ids[1] == "mine"
    assert len({*gateway.request_ids}) == 3


async def test_a_bad_spec_never_leaves_the_client():
    gateway = FakeGateway()
    wrong = replace(SPEC, repeats=0)
    async with connected(gateway) as client:
        for call in (client.create_load_test, client.validate_load_test, client.preview_load_test):
            with pytest.raises(InvalidInput, match="repeats"):
                await call(wrong)
    assert gateway.request_ids == []


async def test_a_load_test_is_named_by_record_id_or_name():
    async with connected(FakeGateway()) as client:
        for named in (RUNNING, "t1", "loadTests/t1"):
            assert await client.get_load_test(named) == RUNNING
        with pytest.raises(NotFound):
            await client.get_load_test("nope")
        with pytest.raises(InvalidInput, match="name"):
            await client.get_load_test("../t1")
        with pytest.raises(FailedPrecondition, match="ended already"):
            await client.cancel_load_test(RUNNING)


async def test_pages_are_one_iterator():
    async with connected(FakeGateway()) as client:
        assert [one.id async for one in client.list_load_tests()] == ["t0", "t1", "t2", "t3", "t4"]
        assert [name async for name in client.list_load_datasets()] == ["openqa", "random", "trace"]


async def test_a_watch_tells_what_the_generators_saw():
    gateway = FakeGateway()
    async with connected(gateway) as client:
        seen = [update async for update in client.watch_load_test("t1", min_interval_s=0.25)]
    assert seen == [(RUNNING, None), (RUNNING, SEEN), (DONE, None)]
    assert gateway.watches == [(0, 250)]


async def test_a_watch_goes_on_where_it_broke_and_ends_with_the_load_test():
    gateway = FakeGateway()
    gateway.script = [
        [(4, RUNNING, SEEN), Unavailable("restarting")],
        [(5, RUNNING, None)],  # ends without an end of the load test
        [OutOfRange("too old")],
        [(90, DONE, None)],
    ]
    async with connected(gateway) as client:
        assert await client.wait_load_test("t1") == DONE
    assert [sequence for sequence, _ in gateway.watches] == [0, 5, 6, 0]


async def test_a_watch_gives_up_when_nothing_is_heard():
    gateway = FakeGateway()
    gateway.script = [[Unavailable("gone")] for _ in range(50)]
    async with connected(gateway) as client:
        with pytest.raises(Unavailable, match="gone"):
            [update async for update in client.watch_load_test("t1", reconnect_s=0.3)]


async def test_leaving_a_watch_ends_it_on_the_server():
    gateway = FakeGateway()
    gateway.script = [[(1, RUNNING, None), "hang"]]
    async with connected(gateway) as client:
        watch = client.watch_load_test("t1")
        assert (await anext(watch))[0] == RUNNING
        await watch.aclose()
        await asyncio.wait_for(gateway.watch_ended.wait(), 5)


async def test_an_export_appears_whole_or_not_at_all(tmp_path):
    async with connected(FakeGateway()) as client:
        path = await client.export_load_test("t1", "perf.json", tmp_path / "deep" / "perf.json")
        assert json.loads(path.read_bytes()) == {"schema": 1}
        assert await client.perf_report("t1") == {"schema": 1}
        with pytest.raises(Unavailable):
            await client.export_load_test("t1", "perf_report.html", tmp_path / "deep" / "perf_report.html")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["perf.json"]


async def test_a_file_is_uploaded_in_pieces(tmp_path):
    gateway = FakeGateway()
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"prompt": "x"}\n' * 200_000)
    async with connected(gateway) as client:
        assert await client.import_load_file(file) == "d" * 64
    assert gateway.uploaded == file.read_bytes()


async def test_what_is_sent_can_be_seen_before():
    async with connected(FakeGateway()) as client:
        assert await client.preview_load_test(SPEC, 2) == [PreviewedRequest("{}", 512)] * 2
        assert await client.validate_load_test(SPEC) == ("tokens are counted by the server",)


def test_the_blocking_client_does_the_same(tmp_path):
    gateway = FakeGateway()
    gateway.script = [[(1, RUNNING, SEEN), Unavailable("restarting")], [(2, DONE, None)], [(3, DONE, None)]]
    with in_another_thread(gateway) as address, Client(address) as client:
        assert client.create_load_test(SPEC) == client.get_load_test("t1") == RUNNING
        assert [one.id for one in client.list_load_tests()] == ["t0", "t1", "t2", "t3", "t4"]
        assert list(client.watch_load_test("t1")) == [(RUNNING, SEEN), (DONE, None)]
        assert client.wait_load_test("t1") == DONE
        assert client.export_load_test("t1", "perf.json", tmp_path / "p.json").read_bytes() == b'{"schema": 1}'
        assert client.perf_report("t1") == {"schema": 1}
        assert client.import_load_file(tmp_path / "p.json") == "d" * 64
        assert client.preview_load_test(SPEC) == [PreviewedRequest("{}", 512)]
        assert len(client.validate_load_test(SPEC)) == 1
        assert list(client.list_load_datasets()) == ["openqa", "random", "trace"]
        with pytest.raises(FailedPrecondition):
            client.cancel_load_test("t1")
