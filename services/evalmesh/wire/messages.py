"""What travels on NATS: domain to protobuf and back.

Trace context is not part of a body; it travels as message headers, where every tool looks for it.
"""

from collections.abc import Mapping
from typing import get_args

from google.protobuf.message import DecodeError

from evalmesh.domain.errors import InternalError
from evalmesh.domain.events import Activity, Event, EventKind
from evalmesh.domain.load_work import LoadItem
from evalmesh.domain.work import Item, Queue, Shard, Task, WorkItem
from evalmesh.internal.v1 import messages_pb2 as pb

MAX_ERROR_BYTES = 2048
"""An error text in a message is cut here, so that a message stays under 4 KiB."""

_TRACE_HEADERS = ("traceparent", "tracestate")
_EVENT_KINDS: Mapping[str, EventKind] = {kind: kind for kind in get_args(EventKind)}


def encode_item(item: Item) -> bytes:
    """The body of a work message."""
    return _item_message(item).SerializeToString()


def decode_item(body: bytes, headers: Mapping[str, str] | None = None) -> WorkItem | LoadItem:
    """An item from a message's body and headers. Raises `InternalError` for a body that is none."""
    try:
        return _item(pb.Item.FromString(body), headers)
    except (DecodeError, ValueError) as error:
        raise InternalError(f"A message of the work queue is not a work item: {error}.") from error


def encode_dead(item: Item, error: str) -> bytes:
    """The body of a dead-letter message."""
    return pb.DeadItem(item=_item_message(item), error=cut_error(error)).SerializeToString()


def encode_event(event: Event) -> bytes:
    """The body of an event message."""
    message = pb.Event(run=event.run, kind=event.kind, source=event.source, time=event.time, load=event.load)
    for benchmark, activity in event.activity.items():
        message.activity[benchmark].in_flight = activity.in_flight
        message.activity[benchmark].generated = activity.generated
        message.activity[benchmark].errored = activity.errored
    return message.SerializeToString()


def decode_event(body: bytes) -> Event:
    """An event from a message's body. Raises `InternalError` for a body that is none."""
    try:
        message = pb.Event.FromString(body)
        kind = _EVENT_KINDS[message.kind]
    except (DecodeError, KeyError) as error:
        raise InternalError(f"A message of the event stream is not an event: {error!r}.") from error
    activity = {
        benchmark: Activity(in_flight=entry.in_flight, generated=entry.generated, errored=entry.errored)
        for benchmark, entry in message.activity.items()
    }
    return Event(
        run=message.run, kind=kind, source=message.source, time=message.time, activity=activity, load=message.load
    )


def trace_headers(item: Item) -> dict[str, str]:
    """The item's trace context as headers; anything but W3C's two fields is dropped."""
    return {name: item.trace[name] for name in _TRACE_HEADERS if item.trace.get(name)}


def cut_error(error: str) -> str:
    """The error, at most `MAX_ERROR_BYTES` long in UTF-8; a cut one ends in an ellipsis."""
    data = error.encode("utf-8", "replace")
    if len(data) <= MAX_ERROR_BYTES:
        return data.decode()
    return data[: MAX_ERROR_BYTES - 3].decode("utf-8", "ignore") + "…"


def _item_message(item: Item) -> pb.Item:
    if isinstance(item, WorkItem):
        return pb.Item(work=_work_message(item))
    if isinstance(item, LoadItem):
        return pb.Item(load=_load_message(item))
    raise InternalError(f"A {type(item).__name__} is no work item.")


def _work_message(item: WorkItem) -> pb.WorkItem:
    message = pb.WorkItem(
        run=item.run,
        task=item.task,
        benchmark=item.benchmark,
        stage=item.stage,
        kind=item.kind,
        block=item.block,
        pool=item.pool,
        attempt=item.attempt,
        error=cut_error(item.error),
        handovers=item.handovers,
    )
    if (shard := item.shard) is not None:
        message.shard.CopyFrom(
            pb.Shard(
                index=shard.index,
                subset=shard.subset,
                start=shard.start,
                samples=shard.samples,
                requests=shard.requests,
            )
        )
    return message


def _load_message(item: LoadItem) -> pb.LoadItem:
    return pb.LoadItem(
        load_test=item.load_test,
        queue=item.queue,
        seat=item.seat,
        attempt=item.attempt,
        ends=item.ends,
        cancel=item.cancel,
        handovers=item.handovers,
    )


def _item(message: pb.Item, headers: Mapping[str, str] | None) -> WorkItem | LoadItem:
    trace = {name: headers[name] for name in _TRACE_HEADERS if name in headers} if headers else {}
    if message.HasField("load"):
        load = message.load
        return LoadItem(
            load_test=load.load_test,
            queue=Queue(load.queue),
            seat=load.seat,
            attempt=load.attempt,
            ends=load.ends,
            cancel=load.cancel,
            handovers=load.handovers,
            trace=trace,
        )
    work = message.work
    shard = work.shard
    return WorkItem(
        run=work.run,
        task=Task(work.task),
        benchmark=work.benchmark,
        stage=work.stage,
        kind=work.kind,
        shard=Shard(shard.index, shard.subset, shard.start, shard.samples, shard.requests)
        if work.HasField("shard")
        else None,
        block=work.block,
        pool=work.pool,
        attempt=work.attempt,
        error=work.error,
        handovers=work.handovers,
        trace=trace,
    )
