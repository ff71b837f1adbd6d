"""LoadTestService over gRPC: decode, call, encode."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from evalmesh.domain import layout
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.gateway.following import watch_interval_s
from evalmesh.gateway.load_tests.lifecycle import LoadTests
from evalmesh.gateway.load_tests.watch import watch_load_test
from evalmesh.ports.object_store import ObjectStore
from evalmesh.v1 import load_tests_pb2 as pb
from evalmesh.v1 import load_tests_pb2_grpc
from evalmesh.wire.load_tests.specs import LOAD_TESTS, load_spec_from_proto, load_test_to_proto
from evalmesh.wire.load_tests.views import snapshot_to_proto
from evalmesh.wire.names import parse_name

_FILES = {
    "perf.json": layout.perf_json_key,
    "perf_report.html": layout.perf_html_key,
    "requests.parquet": layout.load_requests_key,
}


class LoadTestServicer(load_tests_pb2_grpc.LoadTestServiceServicer):
    """Errors are raised as domain errors; the error interceptor turns them into statuses."""

    def __init__(self, load_tests: LoadTests, objects: ObjectStore) -> None:
        self._load_tests = load_tests
        self._objects = objects

    async def CreateLoadTest(self, request: pb.CreateLoadTestRequest, context: Any) -> pb.LoadTest:
        load_test = await self._load_tests.create(
            load_spec_from_proto(request.spec), request.request_id, validate_only=request.validate_only
        )
        return load_test_to_proto(load_test)

    async def GetLoadTest(self, request: pb.GetLoadTestRequest, context: Any) -> pb.LoadTest:
        return load_test_to_proto(await self._load_tests.get(parse_name(LOAD_TESTS, request.name)))

    async def ListLoadTests(self, request: pb.ListLoadTestsRequest, context: Any) -> pb.ListLoadTestsResponse:
        load_tests, token = await self._load_tests.page(request.page_size, request.page_token, load_test_to_proto)
        return pb.ListLoadTestsResponse(load_tests=load_tests, next_page_token=token)

    async def CancelLoadTest(self, request: pb.CancelLoadTestRequest, context: Any) -> pb.LoadTest:
        return load_test_to_proto(await self._load_tests.cancel(parse_name(LOAD_TESTS, request.name)))

    async def WatchLoadTest(self, request: pb.WatchLoadTestRequest, context: Any) -> AsyncIterator[pb.LoadTestEvent]:
        id_ = parse_name(LOAD_TESTS, request.name)
        updates = watch_load_test(self._load_tests, id_, request.start_sequence, watch_interval_s(request.min_interval))
        async with aclosing(updates):
            async for sequence, (load_test, snapshot) in updates:
                seen = snapshot_to_proto(snapshot) if snapshot is not None else None
                yield pb.LoadTestEvent(sequence=sequence, load_test=load_test_to_proto(load_test), snapshot=seen)

    async def ExportLoadTest(
        self, request: pb.ExportLoadTestRequest, context: Any
    ) -> AsyncIterator[pb.ExportLoadTestResponse]:
        id_ = parse_name(LOAD_TESTS, request.name)
        key_of = _FILES.get(request.file)
        if key_of is None:
            names = ", ".join(f"`{name}`" for name in _FILES)
            raise InvalidInput(
                f"file: {request.file[:100]!r} is no file of a load test; use {names}.", {"field": "file"}
            )
        try:
            async for piece in self._objects.stream(key_of(id_)):
                yield pb.ExportLoadTestResponse(data=piece)
        except NotFound:
            state = (await self._load_tests.get(id_)).state
            raise NotFound(
                f"Load test {id_} has no {request.file} yet; it is {state}. Wait until it has ended."
            ) from None
