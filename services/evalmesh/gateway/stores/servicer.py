"""StoreService over gRPC: decode, call, encode."""

from typing import Any

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.garbage import DEFAULT_MIN_AGE_S
from evalmesh.gateway.stores.collection import GarbageCollector
from evalmesh.v1 import stores_pb2 as pb
from evalmesh.v1 import stores_pb2_grpc
from evalmesh.wire.garbage import group_to_proto


class StoreServicer(stores_pb2_grpc.StoreServiceServicer):
    """Errors are raised as domain errors; the error interceptor turns them into statuses."""

    def __init__(self, collector: GarbageCollector) -> None:
        self._collector = collector

    async def CollectGarbage(self, request: pb.CollectGarbageRequest, context: Any) -> pb.CollectGarbageResponse:
        given = request.HasField("min_age")
        min_age_s = request.min_age.ToTimedelta().total_seconds() if given else DEFAULT_MIN_AGE_S
        if min_age_s < 0:
            raise InvalidInput("min_age must not be negative.", {"field": "min_age"})
        groups = await self._collector.collect(min_age_s, validate_only=request.validate_only)
        return pb.CollectGarbageResponse(groups=map(group_to_proto, groups))
