"""What was collected of the object store, of the public API."""

from evalmesh.domain.garbage import CollectedGroup
from evalmesh.v1 import stores_pb2 as pb


def group_to_proto(group: CollectedGroup) -> pb.CollectedGroup:
    """Every field."""
    return pb.CollectedGroup(
        kind=group.kind,
        object_count=group.objects,
        size_bytes=group.size_bytes,
        kept_count=group.kept,
        kept_bytes=group.kept_bytes,
        note=group.note,
    )


def group_from_proto(proto: pb.CollectedGroup) -> CollectedGroup:
    """Every field."""
    return CollectedGroup(
        proto.kind, proto.object_count, proto.size_bytes, proto.kept_count, proto.kept_bytes, proto.note
    )
