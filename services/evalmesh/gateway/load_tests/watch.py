"""Following a load test: its record, with what its seats saw in the last seconds."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from evalmesh.domain.events import Event
from evalmesh.domain.load_test import LoadSnapshot, LoadTest, LoadTestSpec
from evalmesh.gateway.following import Following
from evalmesh.gateway.load_tests.lifecycle import LoadTests
from evalmesh.load.measure.live import LiveLevel
from evalmesh.load.measure.ticks import decode_seat_tick
from evalmesh.ports.environment import Clock

_LOG = logging.getLogger(__name__)
_OF_SINGLE_REQUESTS = frozenset({"ttft", "itl", "tpot", "e2e"})

Update = tuple[LoadTest, LoadSnapshot | None]


class _Seconds:
    """Takes the seconds of all seats out of the events."""

    def __init__(self, spec: LoadTestSpec, clock: Clock) -> None:
        self._clock = clock
        self._level = LiveLevel(
            open_loop=spec.arrival.kind != "closed",
            has_objective=any(term.metric in _OF_SINGLE_REQUESTS for term in spec.slo),
        )

    def take(self, event: Event) -> None:
        if event.kind != "load":
            return
        try:
            self._level.add(decode_seat_tick(event.load), event.time, self._clock.now())
        except ValueError as error:
            _LOG.warning("a second of load test %s is skipped: %s", event.run, error)

    def snapshot(self) -> LoadSnapshot | None:
        return self._level.snapshot(self._clock.now())


async def watch_load_test(
    load_tests: LoadTests, id_: str, start_sequence: int, min_interval_s: float
) -> AsyncGenerator[tuple[int, Update], None]:
    """The load test and its place in the event stream; see `Following.changes`. Ends after a terminal state.

    Events are taken in from the first one on, wherever the caller goes on: counts are those since a level's start.
    """
    book = load_tests.book
    seconds = _Seconds((await book.get(id_)).spec, book.clock)
    await book.bus.check_kept(start_sequence)

    async def read() -> Update:
        load_test = await book.get(id_)
        return load_test, None if load_test.state.terminal else seconds.snapshot()

    following = Following(read, lambda now: now[0].state.terminal, seconds.take, 0, start_sequence, min_interval_s)
    async with aclosing(following.changes(book.bus, id_)) as updates:
        async for update in updates:
            yield update
