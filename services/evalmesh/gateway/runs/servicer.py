"""RunService over gRPC: decode, call, encode."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from evalmesh.domain.run import Run
from evalmesh.gateway.following import watch_interval_s
from evalmesh.gateway.runs.deletion import RunDeletion
from evalmesh.gateway.runs.lifecycle import Resume, RunLifecycle
from evalmesh.gateway.runs.listing import RunListing
from evalmesh.gateway.runs.watch import watch_run
from evalmesh.v1 import runs_pb2 as pb
from evalmesh.v1 import runs_pb2_grpc
from evalmesh.wire.names import parse_name
from evalmesh.wire.paging import cut_page
from evalmesh.wire.runs.filters import filter_from_proto
from evalmesh.wire.runs.specs import run_to_proto, spec_from_proto


class RunServicer(runs_pb2_grpc.RunServiceServicer):
    """Errors are raised as domain errors; the error interceptor turns them into statuses."""

    def __init__(self, lifecycle: RunLifecycle, deletion: RunDeletion) -> None:
        self._lifecycle = lifecycle
        self._deletion = deletion
        self._listing = RunListing(lifecycle.control, lifecycle.get)

    async def CreateRun(self, request: pb.CreateRunRequest, context: Any) -> pb.Run:
        run = await self._lifecycle.create(
            spec_from_proto(request.spec), request.request_id, validate_only=request.validate_only
        )
        return run_to_proto(run)

    async def GetRun(self, request: pb.GetRunRequest, context: Any) -> pb.Run:
        return await self._shown(await self._lifecycle.get(parse_name("runs", request.name)), request)

    async def ListRuns(self, request: pb.ListRunsRequest, context: Any) -> pb.ListRunsResponse:
        page = await self._listing.page(filter_from_proto(request), request.page_size, request.page_token)
        found = {run.id: run for run in page.runs}

        async def show(id_: str) -> pb.Run:
            return await self._shown(found[id_], request)

        runs, token = await cut_page([*found], page.token, show, page.query)
        return pb.ListRunsResponse(runs=runs, next_page_token=token, total_size=page.total)

    async def _shown(self, run: Run, asked: pb.GetRunRequest | pb.ListRunsRequest) -> pb.Run:
        looked = await self._lifecycle.stored.look(run, size=asked.show_size, answered=asked.show_answered)
        return run_to_proto(looked)

    async def DeleteRun(self, request: pb.DeleteRunRequest, context: Any) -> pb.DeleteRunResponse:
        freed = await self._deletion.delete(
            parse_name("runs", request.name), takeover=request.takeover, validate_only=request.validate_only
        )
        return pb.DeleteRunResponse(freed_bytes=freed)

    async def CancelRun(self, request: pb.CancelRunRequest, context: Any) -> pb.Run:
        return run_to_proto(await self._lifecycle.cancel(parse_name("runs", request.name)))

    async def ResumeRun(self, request: pb.ResumeRunRequest, context: Any) -> pb.Run:
        name = parse_name("runs", request.name)
        wish = Resume(
            takeover=request.takeover,
            rescore=request.rescore,
            url=request.url,
            key_ref=request.key_ref if request.HasField("key_ref") else None,
        )
        return run_to_proto(await self._lifecycle.resume(name, wish))

    async def WatchRun(self, request: pb.WatchRunRequest, context: Any) -> AsyncIterator[pb.RunEvent]:
        name = parse_name("runs", request.name)
        updates = watch_run(self._lifecycle, name, request.start_sequence, watch_interval_s(request.min_interval))
        async with aclosing(updates):
            async for sequence, run in updates:
                yield pb.RunEvent(sequence=sequence, run=run_to_proto(run))
