"""Asking models, through the platform: the gateway passes the calls on to a model runner, which holds the keys."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from evalmesh.domain.completion import Completion
from evalmesh.domain.content import ContentPart
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.media import media_part
from evalmesh.domain.request import GenerationConfig, Request, RequestKind
from evalmesh.domain.run import ModelSpec
from evalmesh.sdk.calls import Calls
from evalmesh.v1 import models_pb2 as pb
from evalmesh.v1 import models_pb2_grpc
from evalmesh.wire.runs.checks import check_generation
from evalmesh.wire.runs.content import part_from_proto
from evalmesh.wire.runs.models import (
    ModelDescription,
    completion_from_proto,
    description_from_proto,
    generation_to_proto,
    model_to_proto,
    request_to_proto,
)
from evalmesh.wire.runs.reports import pieces

_REQUESTS_PER_CALL = 1000
_BYTES_PER_CALL = 8 << 20


class ModelCalls(Calls):
    """Models."""

    @property
    def _models(self) -> Any:
        return self._channel.stub(models_pb2_grpc.ModelServiceStub)

    async def describe_model(self, model: ModelSpec, kind: RequestKind | None = None) -> ModelDescription:
        """What an endpoint can do, after asking it once: as the model says, or for requests of this kind.

        Raises `Unavailable`, `Unauthenticated`, `NotFound`, and `InvalidInput` where it does not understand.
        """
        request = pb.DescribeModelRequest(model=model_to_proto(model), request_kind=kind or "")
        return description_from_proto(await self._channel.call(self._models.DescribeModel, request, idempotent=False))

    async def generate(
        self, model: ModelSpec, requests: Iterable[Request], config: GenerationConfig | None = None
    ) -> AsyncGenerator[Completion, None]:
        """Completions as they come in, in no order; errors of the model are inside them, as in a run.

        Closing the iterator ends what is in flight. Media of the messages must have been uploaded (`upload_media`).
        Raises `InvalidInput` for requests that cannot be asked, or two with the same id.
        """
        config = config or GenerationConfig()
        check_generation(config)
        asked: dict[str, Request] = {}
        for request in requests:
            if asked.setdefault(request.id, request) is not request:
                raise InvalidInput(f"Two requests have the id {request.id}; number them by sample_id or repeat.")
        for part in _batches(map(request_to_proto, asked.values())):
            call = pb.GenerateRequest(model=model_to_proto(model), requests=part, config=generation_to_proto(config))
            async with aclosing(self._channel.stream(self._models.Generate, call)) as completions:
                async for proto in completions:
                    request = asked[proto.id]
                    completion = completion_from_proto(proto)
                    yield replace(completion, sample_id=request.sample_id, repeat=request.repeat, digest=request.digest)

    async def upload_media(self, data: bytes, mime: str = "") -> ContentPart:
        """Stores an image, a sound or a film, and returns the part that names it in `Message.content`.

        What it is, the bytes say; `mime`, where given, must agree. Raises `InvalidInput` for bytes that are no medium
        evalmesh knows, and for more than 64 MiB.
        """
        try:
            found = media_part(data).mime
        except ValueError as error:
            raise InvalidInput(f"The medium cannot be uploaded: {error}.", {"field": "data"}) from error
        if mime and mime != found:
            raise InvalidInput(f"mime is {mime!r}, but the bytes are {found}.", {"field": "mime"})

        async def parts() -> AsyncIterator[pb.UploadMediaRequest]:
            for piece in pieces(data):
                yield pb.UploadMediaRequest(data=piece)

        answer = await self._channel.upload(self._models.UploadMedia, parts())
        return part_from_proto(answer.part)


def _batches(requests: Iterable[pb.ModelRequest]) -> Iterator[list[pb.ModelRequest]]:
    """As many requests as one message may hold, and at most so many that the first answers come soon."""
    batch: list[pb.ModelRequest] = []
    size_bytes = 0
    for request in requests:
        size_bytes += request.ByteSize()
        if batch and (size_bytes > _BYTES_PER_CALL or len(batch) == _REQUESTS_PER_CALL):
            yield batch
            batch, size_bytes = [], request.ByteSize()
        batch.append(request)
    if batch:
        yield batch
