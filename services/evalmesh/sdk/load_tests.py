"""Load tests of the asynchronous client."""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from evalmesh.domain.load_test import LoadSnapshot, LoadTest, LoadTestSpec
from evalmesh.sdk.calls import RECONNECT_S, Calls
from evalmesh.sdk.channel import OnLost, Patience
from evalmesh.v1 import load_generators_pb2, load_generators_pb2_grpc, load_tests_pb2, load_tests_pb2_grpc
from evalmesh.wire.load_tests.checks import check_load_spec
from evalmesh.wire.load_tests.specs import LOAD_TESTS, load_spec_to_proto, load_test_from_proto
from evalmesh.wire.load_tests.views import PreviewedRequest, previewed_from_proto, snapshot_from_proto
from evalmesh.wire.names import make_name, parse_name

LoadUpdate = tuple[LoadTest, LoadSnapshot | None]


def load_test_name(load_test: LoadTest | str) -> str:
    """The resource name of a load test given as a record, an id or a resource name. Raises `InvalidInput`."""
    name = load_test.id if isinstance(load_test, LoadTest) else load_test
    prefix = make_name(LOAD_TESTS, "")
    return make_name(LOAD_TESTS, parse_name(LOAD_TESTS, name if name.startswith(prefix) else prefix + name))


class LoadTestCalls(Calls):
    """The part of `AsyncClient` that is about load tests."""

    @property
    def _load_tests(self) -> Any:
        return self._channel.stub(load_tests_pb2_grpc.LoadTestServiceStub)

    @property
    def _load(self) -> Any:
        return self._channel.stub(load_generators_pb2_grpc.LoadServiceStub)

    async def create_load_test(
        self, spec: LoadTestSpec, *, request_id: str | None = None, validate_only: bool = False
    ) -> LoadTest:
        """Starts a load test, or with `validate_only` just checks it (what is returned has no id then).

        Safe to repeat: the same `request_id` gives the same load test. Without one, each call makes its own.
        """
        check_load_spec(spec)
        request = load_tests_pb2.CreateLoadTestRequest(
            spec=load_spec_to_proto(spec), request_id=request_id or str(uuid.uuid4()), validate_only=validate_only
        )
        return load_test_from_proto(await self._channel.call(self._load_tests.CreateLoadTest, request, idempotent=True))

    async def get_load_test(self, load_test: LoadTest | str) -> LoadTest:
        """The record as it is now. Raises `NotFound`."""
        request = load_tests_pb2.GetLoadTestRequest(name=load_test_name(load_test))
        return load_test_from_proto(await self._channel.call(self._load_tests.GetLoadTest, request, idempotent=True))

    async def list_load_tests(self, page_size: int = 0) -> AsyncIterator[LoadTest]:
        """All load tests, newest first; pages are fetched as the iterator goes."""
        request = load_tests_pb2.ListLoadTestsRequest(page_size=page_size)
        async for page in self._pages(self._load_tests.ListLoadTests, request):
            for proto in page.load_tests:
                yield load_test_from_proto(proto)

    async def watch_load_test(
        self,
        load_test: LoadTest | str,
        *,
        min_interval_s: float = 0.1,
        reconnect_s: float = RECONNECT_S,
        on_lost: OnLost | None = None,
    ) -> AsyncIterator[LoadUpdate]:
        """The load test now, and after each change, until it has ended; at most one per `min_interval_s`.

        Beside it, while load is sent, what the generators saw in the last seconds. A broken connection is taken up
        again where it broke, `on_lost` is told as by `watch_run`; `Unavailable` only after `reconnect_s` of silence.
        """
        request = load_tests_pb2.WatchLoadTestRequest(name=load_test_name(load_test))
        patience = Patience(reconnect_s, on_lost)
        updates = self._follow(self._load_tests.WatchLoadTest, request, min_interval_s, patience, _update)
        async with aclosing(updates):
            async for update in updates:
                yield update
                if update[0].state.terminal:
                    return

    async def wait_load_test(self, load_test: LoadTest | str) -> LoadTest:
        """The load test once it has ended."""
        update: LoadUpdate | None = None
        async for update in self.watch_load_test(load_test, min_interval_s=0.5):  # noqa: B007  (the last one counts)
            pass
        return update[0] if update is not None else await self.get_load_test(load_test)

    async def cancel_load_test(self, load_test: LoadTest | str) -> LoadTest:
        """Ends the load; what was measured is reported. Raises `FailedPrecondition` when it has ended already."""
        request = load_tests_pb2.CancelLoadTestRequest(name=load_test_name(load_test))
        answer = await self._channel.call(self._load_tests.CancelLoadTest, request, idempotent=False)
        return load_test_from_proto(answer)

    async def export_load_test(self, load_test: LoadTest | str, file: str, path: Path) -> Path:
        """Downloads `perf.json`, `perf_report.html` or `requests.parquet`; the file appears when complete."""
        request = load_tests_pb2.ExportLoadTestRequest(name=load_test_name(load_test), file=file)
        return await self._download(self._load_tests.ExportLoadTest, request, path)

    async def perf_report(self, load_test: LoadTest | str) -> dict[str, Any]:
        """The document `perf.json` (docs/perf-schema.md). Raises `NotFound` until it is written."""
        request = load_tests_pb2.ExportLoadTestRequest(name=load_test_name(load_test), file="perf.json")
        pieces = [piece.data async for piece in self._channel.stream(self._load_tests.ExportLoadTest, request)]
        report: dict[str, Any] = json.loads(b"".join(pieces))
        return report

    # Before any load

    async def import_load_file(self, path: Path) -> str:
        """Uploads a data set or tokenizer; returns the digest for `PromptSpec`."""
        answer = await self._upload(
            self._load.ImportLoadFile, path, lambda data: load_generators_pb2.ImportLoadFileRequest(data=data)
        )
        digest: str = answer.digest
        return digest

    async def validate_load_test(self, spec: LoadTestSpec) -> tuple[str, ...]:
        """What the user should know although nothing is wrong. Raises what is wrong with data set or endpoint."""
        check_load_spec(spec)
        request = load_generators_pb2.ValidateLoadTestRequest(spec=load_spec_to_proto(spec))
        answer = await self._channel.call(self._load.ValidateLoadTest, request, idempotent=False)
        return tuple(answer.notes)

    async def preview_load_test(self, spec: LoadTestSpec, request_count: int = 1) -> list[PreviewedRequest]:
        """The first request bodies, as they would be sent; at most 20."""
        check_load_spec(spec)
        request = load_generators_pb2.PreviewLoadTestRequest(spec=load_spec_to_proto(spec), request_count=request_count)
        answer = await self._channel.call(self._load.PreviewLoadTest, request, idempotent=True)
        return [previewed_from_proto(proto) for proto in answer.requests]

    async def list_load_datasets(self) -> AsyncIterator[str]:
        """Names for `PromptSpec.dataset`."""
        async for page in self._pages(self._load.ListLoadDatasets, load_generators_pb2.ListLoadDatasetsRequest()):
            for name in page.datasets:
                yield name


def _update(event: load_tests_pb2.LoadTestEvent) -> LoadUpdate:
    snapshot = snapshot_from_proto(event.snapshot) if event.HasField("snapshot") else None
    return load_test_from_proto(event.load_test), snapshot
