"""RunService over gRPC: decode, call, encode."""

from collections.abc import AsyncIterator
from typing import Any

from evalmesh.gateway.lifecycle import RunLifecycle
from evalmesh.gateway.watch import watch_run
from evalmesh.v1 import runs_pb2 as pb
from evalmesh.v1 import runs_pb2_grpc
from evalmesh.wire.names import parse_name
from evalmesh.wire.pages import decode_token, encode_token, page_size
from evalmesh.wire.runs import run_to_proto, spec_from_proto

_MIN_INTERVAL_S = 0.1


class RunServicer(runs_pb2_grpc.RunServiceServicer):
    """Errors are raised as domain errors; the error interceptor turns them into statuses."""

    def __init__(self, lifecycle: RunLifecycle) -> None:
        self._lifecycle = lifecycle

    async def CreateRun(self, request: pb.CreateRunRequest, context: Any) -> pb.Run:
        run = await self._lifecycle.create(
            spec_from_proto(request.spec), request.request_id, validate_only=request.validate_only
        )
        return run_to_proto(run)

    async def GetRun(self, request: pb.GetRunRequest, context: Any) -> pb.Run:
        return run_to_proto(await self._lifecycle.get(parse_name("runs", request.name)))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Any) -> pb.ListRunsResponse:
        size = page_size(request.page_size, 50, 1000)
        after = decode_token(request.page_token)
        # Ids sort by time, newest first; a page goes on below the last id of the one before.
        ids = [run for run in await self._lifecycle.list_ids() if after is None or run < str(after)]
        runs = [await self._lifecycle.get(run) for run in ids[:size]]
        token = encode_token(ids[size - 1]) if len(ids) > size else ""
        return pb.ListRunsResponse(runs=[run_to_proto(run) for run in runs], next_page_token=token)

    async def CancelRun(self, request: pb.CancelRunRequest, context: Any) -> pb.Run:
        return run_to_proto(await self._lifecycle.cancel(parse_name("runs", request.name)))

    async def ResumeRun(self, request: pb.ResumeRunRequest, context: Any) -> pb.Run:
        name = parse_name("runs", request.name)
        return run_to_proto(await self._lifecycle.resume(name, takeover=request.takeover, rescore=request.rescore))

    async def WatchRun(self, request: pb.WatchRunRequest, context: Any) -> AsyncIterator[pb.RunEvent]:
        name = parse_name("runs", request.name)
        interval_s = max(_MIN_INTERVAL_S, request.min_interval.ToTimedelta().total_seconds())
        async for sequence, run in watch_run(self._lifecycle, name, request.start_sequence, interval_s):
            yield pb.RunEvent(sequence=sequence, run=run_to_proto(run))
