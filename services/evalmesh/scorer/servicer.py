"""ScoringService over gRPC: decode, call, encode."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any

from evalmesh.benchmarks import registry
from evalmesh.domain import layout
from evalmesh.domain.errors import InvalidInput, ResourceExhausted
from evalmesh.ports.object_store import ObjectStore
from evalmesh.results.local_files import pieces
from evalmesh.results.recorded import MOST_BYTES, RecordedCompletions
from evalmesh.scorer.judgement import Judgement
from evalmesh.v1 import scoring_pb2 as pb
from evalmesh.v1 import scoring_pb2_grpc
from evalmesh.wire.paging import decode_offset, encode_token, page_size
from evalmesh.wire.runs.scoring import items_from_proto, score_to_proto


class ScoringServicer(scoring_pb2_grpc.ScoringServiceServicer):
    """Errors are raised as domain errors; the error interceptor turns them into statuses."""

    def __init__(self, objects: ObjectStore, judgement: Judgement) -> None:
        self._objects = objects
        self._judgement = judgement

    async def ImportCompletions(
        self, request_iterator: AsyncIterator[pb.ImportCompletionsRequest], context: Any
    ) -> pb.ImportCompletionsResponse:
        with tempfile.NamedTemporaryFile(prefix="evalmesh-") as file:
            digest = await _spool(request_iterator, file)
            rows = await asyncio.to_thread(lambda: len(RecordedCompletions(file.file)))
            if not rows:
                raise InvalidInput("The completions file is empty.", {"field": "completions"})
            key = layout.imported_completions_key(digest)
            if not await self._objects.exists(key):
                await self._objects.put_stream(key, pieces(Path(file.name)))
        return pb.ImportCompletionsResponse(digest=digest, row_count=rows)

    async def ScoreCompletions(self, request: pb.ScoreCompletionsRequest, context: Any) -> pb.ScoreCompletionsResponse:
        benchmark = registry.get(request.benchmark)
        pairs = items_from_proto(request)
        for index, (sample, _) in enumerate(pairs):
            if benchmark.needs_target and not sample.target:
                field = f"items[{index}].target"
                raise InvalidInput(
                    f"{field}: empty; {benchmark.name} compares with an accepted answer, and a reference is none.",
                    {"field": field},
                )
        scores = await self._judgement.score_all(benchmark, pairs)
        return pb.ScoreCompletionsResponse(scores=[score_to_proto(score) for score in scores])

    async def ListScorers(self, request: pb.ListScorersRequest, context: Any) -> pb.ListScorersResponse:
        size = page_size(request.page_size, 100, 1000)
        start = decode_offset(request.page_token)
        known = sorted({benchmark.shape.name for benchmark in registry.all_benchmarks()})
        token = encode_token(start + size) if start + size < len(known) else ""
        return pb.ListScorersResponse(scorers=known[start : start + size], next_page_token=token)


async def _spool(requests: AsyncIterator[pb.ImportCompletionsRequest], file: IO[bytes]) -> str:
    """Writes what is uploaded into the file; its sha256."""
    digest = hashlib.sha256()
    size_bytes = 0
    async for request in requests:
        size_bytes += len(request.data)
        if size_bytes > MOST_BYTES:
            raise ResourceExhausted(f"The completions are larger than {MOST_BYTES >> 20} MiB; score them in parts.")
        digest.update(request.data)
        await asyncio.to_thread(file.write, request.data)
    file.flush()
    return digest.hexdigest()
