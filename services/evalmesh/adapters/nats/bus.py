"""The bus on JetStream: work queues, dead letters, events.

- WORK keeps an item until it is acknowledged; every queue is one durable pull consumer that all its workers share.
- The server never gives up on an item (`max_deliver` -1): the worker sets it aside once `Delivery.delivered` exceeds
  its limit, so that an item which kills its worker is set aside as well.
- Publishing repeats what was not confirmed after a broken connection; the server drops what it has by message id.
- nats-server writes to the page cache before it confirms and syncs every two minutes: a killed server process loses
  nothing that was confirmed; a power failure may. Clusters get their durability from replicas.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import nats.errors
from nats.aio.msg import Msg

from evalmesh.adapters.nats.connection import ApiError, LostAnswer, NatsConnection, decode_answer
from evalmesh.adapters.nats.delivery import ANSWER_S, NatsDelivery
from evalmesh.adapters.nats.pull import Puller, follow, stream_sequence
from evalmesh.adapters.nats.streams import ensure_consumer, ensure_stream, nanoseconds
from evalmesh.domain.errors import FailedPrecondition, InternalError, OutOfRange, Unavailable
from evalmesh.domain.events import Event, SequencedEvent
from evalmesh.domain.work import Item, Queue, Task, WorkItem
from evalmesh.wire import messages, subjects

_log = logging.getLogger(__name__)

_PUBLISH_WINDOW = 512
"""Items on their way at once: about 200 KiB."""
_DAY_S = 86_400.0
_NO_CONSUMER = 10014
_NO_MESSAGE = 10037


@dataclass(frozen=True, slots=True)
class BusSettings:
    """How the streams are made and how long calls keep trying."""

    ack_wait_s: float = 10.0
    duplicate_window_s: float = 120.0
    max_ack_pending: int = 10_000
    """Unsettled deliveries per queue; beyond it the queue pauses."""
    max_waiting: int = 4_096
    """Workers that may wait on one queue at once."""
    events_max_age_s: float = _DAY_S
    events_max_bytes: int = 256 << 20
    dead_max_age_s: float = 30 * _DAY_S
    idle_consumer_s: float = 3600.0
    """A consumer of one run that nobody pulls from for so long is gone."""
    replicas: int = 1
    """Only for streams that do not exist yet."""
    call_timeout_s: float = 10.0
    """How long publishing and settling outlast a server that is away."""


class NatsConsumer:
    """One worker's share of a queue."""

    def __init__(self, bus: "NatsBus", queue: Queue, pool: str, run: str) -> None:
        self._bus = bus
        self._queue = queue
        self._pool = pool
        self._run = run
        self._puller = Puller(bus.connection, subjects.WORK_STREAM, self.ensure, acked=True)
        self._turn = asyncio.Lock()

    async def ensure(self) -> str:
        """Creates the durable consumer when it is missing; returns its name."""
        settings = self._bus.settings
        name = subjects.consumer_name(self._queue, self._pool, self._run)
        config = {
            "name": name,
            "durable_name": name,
            "filter_subject": subjects.work_filter(self._queue, self._pool, self._run),
            "deliver_policy": "all",
            "replay_policy": "instant",
            "ack_policy": "explicit",
            "ack_wait": nanoseconds(settings.ack_wait_s),
            "max_deliver": -1,
            "max_ack_pending": settings.max_ack_pending,
            "max_waiting": settings.max_waiting,
        }
        if self._run:
            # Runs come and go: what nobody pulls from any more takes itself away, and is made again when asked for.
            config["inactive_threshold"] = nanoseconds(settings.idle_consumer_s)
        try:
            await ensure_consumer(self._bus.connection, subjects.WORK_STREAM, config)
        except FailedPrecondition:
            # Before runs had consumers of their own there was one for the whole pool, whose filter overlaps.
            await self._bus.retire(self._pool, "")
            await ensure_consumer(self._bus.connection, subjects.WORK_STREAM, config)
        return name

    async def fetch(self, max_items: int, wait_s: float) -> Sequence[NatsDelivery]:
        """See the port. A fetch that is cancelled loses nothing: at worst its items come back after the ack wait."""
        async with self._turn:
            batch = await self._puller.pull(max_items, wait_s)
        deliveries = []
        for msg in batch:
            try:
                item = messages.decode_item(msg.data, msg.headers)
            except InternalError as error:
                await self._bus.bury_unreadable(msg, error)
                continue
            deliveries.append(NatsDelivery(self._bus.connection, msg, item, self._bus.settings.call_timeout_s))
        return deliveries

    async def close(self) -> None:
        self._bus.consumers.discard(self)
        await self._puller.close()


class NatsBus:
    """See `ports.bus.Bus`; made by `open_bus`."""

    def __init__(self, connection: NatsConnection, settings: BusSettings) -> None:
        self.connection = connection
        self.settings = settings
        self.consumers: set[NatsConsumer] = set()

    @property
    def ack_wait_s(self) -> float:
        return self.settings.ack_wait_s

    @property
    def connected(self) -> bool:
        return self.connection.connected

    async def ensure_streams(self) -> None:
        """Creates what is missing. Raises `Unavailable`, `FailedPrecondition`, `ResourceExhausted`."""
        await asyncio.gather(*(ensure_stream(self.connection, config) for config in _stream_configs(self.settings)))

    async def publish(self, items: Sequence[Item]) -> None:
        ready = [_message(item) for item in items]
        for start in range(0, len(ready), _PUBLISH_WINDOW):
            await self._publish_window(ready[start : start + _PUBLISH_WINDOW])

    async def _publish_window(self, window: Sequence["_Message"]) -> None:
        """Confirms every message of the window; what was lost is sent again in order, the rest is known by its id."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.settings.call_timeout_s
        while window:
            await self.connection.wait_connected(deadline - clock())
            futures = [
                await self.connection.start(message.subject, message.body, message.headers) for message in window
            ]
            # For the window as a whole: a server that hangs, hangs for all of it.
            give_up = clock() + min(ANSWER_S, self.settings.call_timeout_s)
            lost: LostAnswer | None = None
            again: list[_Message] = []
            try:
                for message, future in zip(window, futures, strict=True):
                    try:
                        decode_answer((await self.connection.settle(future, max(give_up - clock(), 0.0))).data)
                    except LostAnswer as error:
                        lost = error
                        again.append(message)
            except ApiError as error:
                raise error.as_domain() from error
            finally:
                for future in futures:
                    future.cancel()
            if lost is not None:
                await self.connection.recover(lost, deadline)
            window = again

    async def consume(self, queue: Queue, pool: str = "", run: str = "") -> NatsConsumer:
        consumer = NatsConsumer(self, queue, pool, run)
        await consumer.ensure()
        self.consumers.add(consumer)
        return consumer

    async def purge(self, owner: str) -> int:
        try:
            answers = [
                await self.connection.api(f"STREAM.PURGE.{subjects.WORK_STREAM}", {"filter": purge_filter})
                for purge_filter in subjects.work_purge_filters(owner)
            ]
        except ApiError as error:
            raise error.as_domain() from error
        return sum(int(answer["purged"]) for answer in answers)

    async def backlog(self, queue: Queue, pool: str = "") -> int:
        return await self._count(subjects.queue_filter(queue, pool))

    async def oldest_s(self, queue: Queue, pool: str = "") -> float:
        wanted = {"seq": 1, "next_by_subj": subjects.queue_filter(queue, pool)}
        try:
            answer = await self.connection.api(f"STREAM.MSG.GET.{subjects.WORK_STREAM}", wanted)
        except ApiError as error:
            if error.err_code == _NO_MESSAGE:
                return 0.0
            raise error.as_domain() from error
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(answer["message"]["time"])).total_seconds())

    async def pending(self, owner: str) -> int:
        return sum([await self._count(one) for one in subjects.work_purge_filters(owner)])

    async def _count(self, subjects_filter: str) -> int:
        # A work queue keeps exactly what is waiting or unsettled, so no consumer needs to exist.
        try:
            info = await self.connection.api(
                f"STREAM.INFO.{subjects.WORK_STREAM}", {"subjects_filter": subjects_filter}
            )
        except ApiError as error:
            raise error.as_domain() from error
        return sum((info["state"].get("subjects") or {}).values())

    async def retire(self, pool: str, run: str) -> None:
        name = subjects.consumer_name(Queue.GENERATE, pool, run)
        try:
            await self.connection.api(f"CONSUMER.DELETE.{subjects.WORK_STREAM}.{name}")
        except ApiError as error:
            if error.err_code != _NO_CONSUMER:
                raise error.as_domain() from error

    async def bury(self, item: Item, error: str) -> None:
        message = _Message(
            subjects.dead_subject(item.queue, item.owner),
            messages.encode_dead(item, error),
            {"Nats-Msg-Id": f"dead:{item.id}", **messages.trace_headers(item)},
        )
        await self._publish_window([message])

    async def bury_unreadable(self, msg: Msg, error: InternalError) -> None:
        """Sets aside a message that no worker can read, by what its subject tells."""
        _log.error("message %d of the work queue is set aside: %s", stream_sequence(msg), error)
        _, queue, *_, run = msg.subject.split(".")
        dead = _Message(
            f"{subjects.DEAD_SUBJECTS[0].partition('.')[0]}.{queue}.{run}",
            messages.encode_dead(WorkItem(run=run, task=Task.PLAN), error.message),
            {"Nats-Msg-Id": f"dead:unreadable/{stream_sequence(msg)}"},
        )
        await self._publish_window([dead])
        await self.connection.request(msg.reply, b"+ACK", within_s=self.settings.call_timeout_s)

    async def emit(self, event: Event) -> None:
        live = event.kind == "activity"
        subject = subjects.live_subject(event.run) if live else subjects.event_subject(event.run, event.kind)
        try:
            await self.connection.publish(subject, messages.encode_event(event))
        except Unavailable as error:
            _log.debug("event of %s dropped: %s", event.run, error)

    async def watch(self, run: str, start_sequence: int = 0) -> AsyncIterator[SequencedEvent]:
        await self.check_kept(start_sequence)
        queue: asyncio.Queue[SequencedEvent | BaseException] = asyncio.Queue()
        kept = asyncio.create_task(self._follow_kept(run, start_sequence, queue))
        live = await self.connection.client.subscribe(subjects.live_subject(run), cb=partial(_take_live, queue))
        try:
            while True:
                entry = await queue.get()
                if isinstance(entry, BaseException):
                    raise entry
                yield entry
        finally:
            kept.cancel()
            with contextlib.suppress(nats.errors.Error):
                await live.unsubscribe()

    async def _follow_kept(
        self, run: str, start_sequence: int, queue: "asyncio.Queue[SequencedEvent | BaseException]"
    ) -> None:
        def start(seen: int) -> dict[str, object]:
            first = max(seen + 1, start_sequence)
            return {"deliver_policy": "by_start_sequence", "opt_start_seq": first} if first > 1 else {}

        try:
            async for msg in follow(self.connection, subjects.EVENTS_STREAM, subjects.event_filter(run), start):
                try:
                    event = messages.decode_event(msg.data)
                except InternalError as error:
                    _log.warning("event %d skipped: %s", stream_sequence(msg), error)
                    continue
                queue.put_nowait(SequencedEvent(sequence=stream_sequence(msg), event=event))
        except Exception as error:  # noqa: BLE001  (raised where the events are asked for)
            queue.put_nowait(error)

    async def check_kept(self, start_sequence: int) -> None:
        if start_sequence <= 0:
            return
        try:
            state = (await self.connection.api(f"STREAM.INFO.{subjects.EVENTS_STREAM}"))["state"]
        except ApiError as error:
            raise error.as_domain() from error
        # The place after the last one is fine: that is where a watch resumes. Beyond it the stream must have been
        # made anew, and waiting for that place would miss everything until then.
        if not state["first_seq"] <= start_sequence <= state["last_seq"] + 1:
            raise OutOfRange(
                f"Event {start_sequence} is not kept (there are {state['first_seq']} to {state['last_seq']}); "
                "get the run, then watch from 0."
            )

    async def close(self) -> None:
        for consumer in tuple(self.consumers):
            await consumer.close()
        await self.connection.close()


@dataclass(frozen=True, slots=True)
class _Message:
    subject: str
    body: bytes
    headers: dict[str, str]


async def _take_live(queue: "asyncio.Queue[SequencedEvent | BaseException]", msg: Msg) -> None:
    with contextlib.suppress(InternalError):
        queue.put_nowait(SequencedEvent(sequence=0, event=messages.decode_event(msg.data)))


def _message(item: Item) -> _Message:
    return _Message(
        subjects.work_subject(item.queue, item.owner, item.pool),
        messages.encode_item(item),
        {"Nats-Msg-Id": item.id, **messages.trace_headers(item)},
    )


def _stream_configs(settings: BusSettings) -> Sequence[dict[str, object]]:
    common: dict[str, object] = {"storage": "file", "num_replicas": settings.replicas}
    return (
        {
            "name": subjects.WORK_STREAM,
            "subjects": subjects.WORK_SUBJECTS,
            "retention": "workqueue",
            "discard": "new",
            "duplicate_window": nanoseconds(settings.duplicate_window_s),
            **common,
        },
        {
            "name": subjects.EVENTS_STREAM,
            "subjects": subjects.EVENTS_SUBJECTS,
            "max_age": nanoseconds(settings.events_max_age_s),
            "max_bytes": settings.events_max_bytes,
            **common,
        },
        {
            "name": subjects.DEAD_STREAM,
            "subjects": subjects.DEAD_SUBJECTS,
            "max_age": nanoseconds(settings.dead_max_age_s),
            "duplicate_window": nanoseconds(settings.duplicate_window_s),
            **common,
        },
    )


async def open_bus(connection: NatsConnection, settings: BusSettings | None = None) -> NatsBus:
    """The bus on this connection; its streams exist afterwards. Raises `Unavailable`, `FailedPrecondition`."""
    bus = NatsBus(connection, settings or BusSettings())
    await bus.ensure_streams()
    connection.restorers.append(bus.ensure_streams)
    return bus
