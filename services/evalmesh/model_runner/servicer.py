"""ModelService over gRPC: decode, call, encode."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from evalmesh.domain.completion import Completion, CompletionError
from evalmesh.domain.digest import pool_id
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.media import MAX_MEDIA_BYTES
from evalmesh.domain.work import Pool
from evalmesh.model_runner.calls import ModelCalls
from evalmesh.model_runner.turns import converse
from evalmesh.ports.endpoint import Endpoint, EndpointGone, EndpointOpener
from evalmesh.v1 import models_pb2 as pb
from evalmesh.v1 import models_pb2_grpc
from evalmesh.wire.runs.checks import check_model
from evalmesh.wire.runs.content import part_to_proto
from evalmesh.wire.runs.media_files import MediaFiles
from evalmesh.wire.runs.models import (
    completion_to_proto,
    generation_from_proto,
    model_from_proto,
    request_from_proto,
    request_kind,
)
from evalmesh.wire.runs.needs import capabilities_to_proto

_MOST_REQUESTS = 10_000


class ModelServicer(models_pb2_grpc.ModelServiceServicer):
    """Errors are raised as domain errors; the error interceptor turns them into statuses."""

    def __init__(self, open_endpoint: EndpointOpener, media: MediaFiles) -> None:
        self._open_endpoint = open_endpoint
        self._media = media

    def _endpoint(self, model: pb.ModelSpec) -> Endpoint:
        spec = model_from_proto(model)
        check_model(spec)
        return self._open_endpoint(Pool(pool_id(spec), spec))

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.Completion]:
        if len(request.requests) > _MOST_REQUESTS:
            raise InvalidInput(
                f"requests: {len(request.requests)} are too many for one call; send at most {_MOST_REQUESTS}.",
                {"field": "requests"},
            )
        config = generation_from_proto(request.config)
        asked = [request_from_proto(one, f"requests[{place}]") for place, one in enumerate(request.requests)]
        ids = [one.id for one in request.requests]
        async with _opened(self._endpoint(request.model)) as endpoint:
            calls = ModelCalls(endpoint, model_from_proto(request.model))

            async def ask(place: int) -> tuple[int, Completion]:
                try:
                    return place, await converse(calls, asked[place], config)
                except EndpointGone as gone:
                    one = asked[place]
                    error = CompletionError("connect", gone.message)
                    return place, Completion(one.sample_id, one.repeat, one.digest, tries=0, error=error)

            tasks = [asyncio.create_task(ask(place)) for place in range(len(asked))]
            try:
                for finished in asyncio.as_completed(tasks):
                    place, completion = await finished
                    yield completion_to_proto(completion, ids[place])
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def UploadMedia(
        self, request_iterator: AsyncIterator[pb.UploadMediaRequest], context: Any
    ) -> pb.UploadMediaResponse:
        data = bytearray()
        async for piece in request_iterator:
            data += piece.data
            if len(data) > MAX_MEDIA_BYTES:
                raise InvalidInput(f"The medium is larger than {MAX_MEDIA_BYTES >> 20} MiB.", {"field": "data"})
        return pb.UploadMediaResponse(part=part_to_proto(await self._media.keep(bytes(data))))

    async def DescribeModel(self, request: pb.DescribeModelRequest, context: Any) -> pb.ModelDescription:
        async with _opened(self._endpoint(request.model)) as endpoint:
            notes = await endpoint.check(
                request_kind(request.request_kind, "request_kind") if request.request_kind else None,
                generation_from_proto(request.config),
            )
            return capabilities_to_proto(request.model.model, endpoint.capabilities, notes)


@contextlib.asynccontextmanager
async def _opened(endpoint: Endpoint) -> AsyncIterator[Endpoint]:
    try:
        yield endpoint
    finally:
        await endpoint.close()
