"""RunService over gRPC: decode, call, encode."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from google.protobuf import duration_pb2
from google.protobuf.message import Message

from evalmesh.gateway.runs.lifecycle import RunLifecycle
from evalmesh.gateway.runs.watch import watch_run
from evalmesh.v1 import runs_pb2 as pb
from evalmesh.v1 import runs_pb2_grpc
from evalmesh.wire.names import parse_name
from evalmesh.wire.paging import PAGE_BYTES, decode_token, encode_token, page_size
from evalmesh.wire.runs.specs import run_to_proto, spec_from_proto
from evalmesh.wire.values import duration_from_proto

M = TypeVar("M", bound=Message)

_MIN_INTERVAL_S = 0.1


def newest_first(ids: Sequence[str], size: int, token: str) -> tuple[Sequence[str], str]:
    """Ids of one page, and the token of the next one; empty on the last page.

    Ids sort by time; a page goes on below the last id of the one before.
    """
    size = page_size(size, 50, 1000)
    after = decode_token(token)
    wanted = [id_ for id_ in ids if after is None or id_ < str(after)]
    return wanted[:size], encode_token(wanted[size - 1]) if len(wanted) > size else ""


async def cut_page(ids: Sequence[str], token: str, get: Callable[[str], Awaitable[M]]) -> tuple[list[M], str]:
    """The messages of a page as far as one answer holds them, and the token of what follows them."""
    found: list[M] = []
    size_bytes = 0
    for id_ in ids:
        message = await get(id_)
        size_bytes += message.ByteSize()
        if found and size_bytes > PAGE_BYTES:
            return found, encode_token(ids[len(found) - 1])
        found.append(message)
    return found, token


def watch_interval_s(asked: duration_pb2.Duration) -> float:
    """Shortest time between two events of a watch."""
    return max(_MIN_INTERVAL_S, duration_from_proto(asked))


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
        ids, token = newest_first(await self._lifecycle.list_ids(), request.page_size, request.page_token)

        async def get(run: str) -> pb.Run:
            return run_to_proto(await self._lifecycle.get(run))

        runs, token = await cut_page(ids, token, get)
        return pb.ListRunsResponse(runs=runs, next_page_token=token)

    async def CancelRun(self, request: pb.CancelRunRequest, context: Any) -> pb.Run:
        return run_to_proto(await self._lifecycle.cancel(parse_name("runs", request.name)))

    async def ResumeRun(self, request: pb.ResumeRunRequest, context: Any) -> pb.Run:
        name = parse_name("runs", request.name)
        return run_to_proto(await self._lifecycle.resume(name, takeover=request.takeover, rescore=request.rescore))

    async def WatchRun(self, request: pb.WatchRunRequest, context: Any) -> AsyncIterator[pb.RunEvent]:
        name = parse_name("runs", request.name)
        updates = watch_run(self._lifecycle, name, request.start_sequence, watch_interval_s(request.min_interval))
        async with aclosing(updates):
            async for sequence, run in updates:
                yield pb.RunEvent(sequence=sequence, run=run_to_proto(run))
