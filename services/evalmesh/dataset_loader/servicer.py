"""BenchmarkService over gRPC: decode, call, encode."""

import asyncio
from dataclasses import replace
from threading import Event
from typing import Any

from evalmesh.benchmarks import registry
from evalmesh.dataset_loader.worker import PlanWorker
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.limit import MOST_PREVIEWED
from evalmesh.domain.run import ModelSpec, RunSpec
from evalmesh.results.dataset import preview_rows
from evalmesh.v1 import benchmarks_pb2 as pb
from evalmesh.v1 import benchmarks_pb2_grpc
from evalmesh.wire.names import parse_name
from evalmesh.wire.paging import decode_offset, encode_token, page_size
from evalmesh.wire.runs.benchmarks import benchmark_info, benchmark_to_proto, estimate_to_proto, preview_to_proto
from evalmesh.wire.runs.needs import needs_to_proto
from evalmesh.wire.runs.specs import benchmark_spec_from_proto, hub_choice, spec_from_proto


class BenchmarkServicer(benchmarks_pb2_grpc.BenchmarkServiceServicer):
    """Errors are raised as domain errors; the error interceptor turns them into statuses."""

    def __init__(self, worker: PlanWorker) -> None:
        self._worker = worker

    async def ListBenchmarks(self, request: pb.ListBenchmarksRequest, context: Any) -> pb.ListBenchmarksResponse:
        size = page_size(request.page_size, 100, 1000)
        start = decode_offset(request.page_token)
        known = registry.all_benchmarks()
        page = [benchmark_to_proto(benchmark_info(one)) for one in known[start : start + size]]
        token = encode_token(start + size) if start + size < len(known) else ""
        return pb.ListBenchmarksResponse(benchmarks=page, next_page_token=token)

    async def GetBenchmark(self, request: pb.GetBenchmarkRequest, context: Any) -> pb.Benchmark:
        name = parse_name("benchmarks", request.name)
        try:
            benchmark = registry.get(name)
        except InvalidInput as error:
            # In a spec an unknown name is a wrong field; here it is the resource that is not there.
            raise NotFound(error.message, error.details) from error
        return benchmark_to_proto(benchmark_info(benchmark))

    async def PreviewBenchmark(self, request: pb.PreviewBenchmarkRequest, context: Any) -> pb.PreviewBenchmarkResponse:
        count = request.sample_count or 1
        if not 0 < count <= MOST_PREVIEWED:
            raise InvalidInput(f"sample_count = {count} must be from 1 to {MOST_PREVIEWED}.", {"field": "sample_count"})
        one = benchmark_spec_from_proto(request.spec)
        run = RunSpec(ModelSpec("preview"), (one,), dataset_dir=request.dataset_dir)
        if request.HasField("seed"):
            run = replace(run, seed=request.seed)
        if request.dataset_hub:
            run = replace(run, dataset_hub=hub_choice(request.dataset_hub))
        dataset = await self._worker.open_dataset(one, run)
        await dataset.bring()
        found = await asyncio.to_thread(preview_rows, dataset, count)
        return pb.PreviewBenchmarkResponse(
            samples=map(preview_to_proto, found), malformed_rows=found.malformed_rows, notes=found.notes
        )

    async def ValidateBenchmarks(
        self, request: pb.ValidateBenchmarksRequest, context: Any
    ) -> pb.ValidateBenchmarksResponse:
        needs = await self._worker.check(spec_from_proto(request.spec))
        return pb.ValidateBenchmarksResponse(needs=[needs_to_proto(one) for one in needs])

    async def EstimateRun(self, request: pb.EstimateRunRequest, context: Any) -> pb.EstimateRunResponse:
        gone = Event()
        try:
            found = await self._worker.estimate(spec_from_proto(request.spec), gone)
        finally:
            gone.set()  # where the caller has left, the thread is still reading
        return pb.EstimateRunResponse(benchmarks=[estimate_to_proto(one) for one in found])
