"""`RunFilter` as the fields of a `ListRunsRequest`."""

from evalmesh.domain.run_filter import RunFilter
from evalmesh.domain.state import State
from evalmesh.v1 import runs_pb2 as pb
from evalmesh.wire.values import timestamp_from_proto, timestamp_to_proto


def list_request(where: RunFilter, page_size: int, *, show_size: bool, show_answered: bool) -> pb.ListRunsRequest:
    """The first page of the runs that are meant."""
    request = pb.ListRunsRequest(
        page_size=page_size,
        states=[pb.Run.State.Value(state.value) for state in sorted(where.states)],
        model=where.model,
        benchmark=where.benchmark,
        labels=where.labels,
        display_name=where.display_name,
        word=where.word,
        show_size=show_size,
        show_answered=show_answered,
    )
    if where.since:
        request.min_create_time.CopyFrom(timestamp_to_proto(where.since))
    return request


def filter_from_proto(request: pb.ListRunsRequest) -> RunFilter:
    """Which runs a request means. A state this build does not know is that of no run."""
    names = {number: name for name, number in pb.Run.State.items()}
    return RunFilter(
        states=frozenset(State(name) for one in request.states if (name := names.get(one, "")) in State.__members__),
        model=request.model,
        benchmark=request.benchmark,
        labels=dict(request.labels),
        display_name=request.display_name,
        since=timestamp_from_proto(request.min_create_time) if request.HasField("min_create_time") else 0.0,
        word=request.word,
    )
