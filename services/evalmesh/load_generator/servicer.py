"""LoadService over gRPC: decode, call, encode."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from evalmesh.domain import layout
from evalmesh.domain.errors import InvalidInput, ResourceExhausted
from evalmesh.domain.load_test import LoadTestSpec
from evalmesh.load_generator.probes.probing import check_endpoint
from evalmesh.load_generator.prompts import inspection
from evalmesh.load_generator.prompts.datasets import registry as datasets
from evalmesh.load_generator.scratch import Scratch
from evalmesh.load_generator.seat.local_copies import LocalCopies
from evalmesh.load_generator.seat.slices import pieces_of
from evalmesh.ports.load_tests.probe import LoadProbe
from evalmesh.ports.object_store import ObjectStore
from evalmesh.v1 import load_generators_pb2 as pb
from evalmesh.v1 import load_generators_pb2_grpc
from evalmesh.wire.load_tests.specs import load_spec_from_proto
from evalmesh.wire.paging import decode_offset, encode_token, page_size

_MOST_BYTES = 16 << 30
_MOST_PREVIEWED = 20


class LoadServicer(load_generators_pb2_grpc.LoadServiceServicer):
    """Errors are raised as domain errors; the error interceptor turns them into statuses."""

    def __init__(self, objects: ObjectStore, local: LocalCopies, probe: LoadProbe, scratch: Scratch) -> None:
        self._objects = objects
        self._local = local
        self._probe = probe
        self._scratch = scratch

    async def ImportLoadFile(
        self, request_iterator: AsyncIterator[pb.ImportLoadFileRequest], context: Any
    ) -> pb.ImportLoadFileResponse:
        found = hashlib.sha256()
        size_bytes = 0
        with TemporaryDirectory(prefix="evalmesh-import-", dir=self._scratch.folder) as folder:
            path = Path(folder) / "file"
            with path.open("wb") as file:
                async for piece in request_iterator:
                    size_bytes += len(piece.data)
                    if size_bytes > _MOST_BYTES:
                        raise ResourceExhausted(f"The file is larger than {_MOST_BYTES >> 30} GiB; use a part of it.")
                    found.update(piece.data)
                    file.write(piece.data)
            if not size_bytes:
                raise InvalidInput("The file is empty; give one with rows.", {"field": "dataset_path"})
            key = layout.load_file_key(found.hexdigest())
            if not await self._objects.exists(key):
                await self._objects.put_stream(key, pieces_of(path))
        return pb.ImportLoadFileResponse(digest=found.hexdigest(), size_bytes=size_bytes)

    async def ValidateLoadTest(self, request: pb.ValidateLoadTestRequest, context: Any) -> pb.ValidateLoadTestResponse:
        spec = load_spec_from_proto(request.spec)
        notes = await asyncio.to_thread(inspection.check, spec, *await self._paths(spec))
        if spec.check_endpoint:
            notes = [*notes, *await check_endpoint(spec, self._probe)]
        return pb.ValidateLoadTestResponse(notes=notes)

    async def PreviewLoadTest(self, request: pb.PreviewLoadTestRequest, context: Any) -> pb.PreviewLoadTestResponse:
        spec = load_spec_from_proto(request.spec)
        count = min(max(request.request_count, 1), _MOST_PREVIEWED)
        bodies = await asyncio.to_thread(inspection.preview, spec, *await self._paths(spec), count)
        return pb.PreviewLoadTestResponse(
            requests=[
                pb.PreviewedRequest(body=body.decode("utf-8", "replace"), prepared_tokens=tokens)
                for body, tokens in bodies
            ]
        )

    async def ListLoadDatasets(self, request: pb.ListLoadDatasetsRequest, context: Any) -> pb.ListLoadDatasetsResponse:
        size = page_size(request.page_size, 100, 1000)
        start = decode_offset(request.page_token)
        known = list(datasets.names())
        token = encode_token(start + size) if start + size < len(known) else ""
        return pb.ListLoadDatasetsResponse(datasets=known[start : start + size], next_page_token=token)

    async def _paths(self, spec: LoadTestSpec) -> tuple[str, str]:
        return await self._local.data_set(spec.prompts), await self._local.tokenizer(spec.prompts)
