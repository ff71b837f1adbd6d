"""Following a run: its record and progress, with what the runners say they are doing right now."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from evalmesh.domain.events import Activity, Event
from evalmesh.domain.run import BenchmarkProgress, Run
from evalmesh.gateway.lifecycle import RunLifecycle
from evalmesh.ports.bus import Bus

_SIGN_OF_LIFE_S = 5.0
_ACTIVITY_STALE_S = 5.0


class _Follower:
    """Collects events of a run in the background; remembers the newest activity of each runner."""

    def __init__(self, start_sequence: int) -> None:
        self.sequence = max(0, start_sequence - 1)
        self.changed = asyncio.Event()
        self.state_changed = asyncio.Event()
        self.error: BaseException | None = None
        self._activity: dict[str, Event] = {}

    async def follow(self, bus: Bus, run_id: str, start_sequence: int) -> None:
        try:
            async for entry in bus.watch(run_id, start_sequence):
                self.sequence = entry.sequence
                if entry.event.kind == "activity":
                    self._activity[entry.event.source] = entry.event
                elif entry.event.kind == "state":
                    self.state_changed.set()
                self.changed.set()
        except Exception as error:  # noqa: BLE001  (handed to the watch, which raises it to its caller)
            self.error = error
            self.changed.set()

    def with_activity(self, run: Run, now: float) -> Run:
        if run.state.terminal:
            return run
        fresh = [event for event in self._activity.values() if now - event.time < _ACTIVITY_STALE_S]
        return replace(run, benchmarks=tuple(_add(row, fresh) for row in run.benchmarks))


def _add(row: BenchmarkProgress, events: list[Event]) -> BenchmarkProgress:
    doing = [event.activity.get(row.name, Activity()) for event in events]
    generated = row.done + sum(activity.generated for activity in doing)
    return replace(
        row,
        in_flight=sum(activity.in_flight for activity in doing),
        generated=min(generated, row.total) if row.total else generated,
    )


async def watch_run(
    lifecycle: RunLifecycle, run_id: str, start_sequence: int, min_interval_s: float
) -> AsyncIterator[tuple[int, Run]]:
    """A snapshot first, then the run whenever it changed, at most every `min_interval_s`; ends after a terminal state.

    Without change, the same run comes again every few seconds as a sign of life.
    """
    loop = asyncio.get_running_loop()
    follower = _Follower(start_sequence)
    task = asyncio.create_task(follower.follow(lifecycle.bus, run_id, start_sequence))
    last: Run | None = None
    last_sent = 0.0
    try:
        while True:
            follower.changed.clear()
            follower.state_changed.clear()
            run = follower.with_activity(await lifecycle.get(run_id), lifecycle.clock.now())
            if run != last or loop.time() - last_sent >= _SIGN_OF_LIFE_S:
                yield follower.sequence, run
                last, last_sent = run, loop.time()
            if run.state.terminal:
                return
            if follower.error is not None:
                raise follower.error
            # The end of a run is told at once; numbers may wait.
            await _within(follower.state_changed, min_interval_s)
            await _within(follower.changed, max(1.0, _SIGN_OF_LIFE_S - min_interval_s))
    finally:
        task.cancel()


async def _within(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)
