"""Following a run: its record and progress, with what the runners say they are doing right now."""

from collections.abc import AsyncGenerator
from dataclasses import replace

from evalmesh.domain.events import Activity, Event
from evalmesh.domain.run import BenchmarkProgress, Run
from evalmesh.gateway.following import Following
from evalmesh.gateway.runs.lifecycle import RunLifecycle

_ACTIVITY_STALE_S = 5.0


class _Activities:
    """The newest activity of each runner."""

    def __init__(self) -> None:
        self._by_source: dict[str, Event] = {}

    def take(self, event: Event) -> None:
        if event.kind == "activity":
            self._by_source[event.source] = event

    def mixed_into(self, run: Run, now: float) -> Run:
        if run.state.terminal:
            return run
        fresh = [event for event in self._by_source.values() if now - event.time < _ACTIVITY_STALE_S]
        return replace(run, benchmarks=tuple(_add(row, fresh) for row in run.benchmarks))


def _add(row: BenchmarkProgress, events: list[Event]) -> BenchmarkProgress:
    doing = [event.activity.get(row.name, Activity()) for event in events]
    generated = row.done + sum(activity.generated for activity in doing)
    return replace(
        row,
        in_flight=sum(activity.in_flight for activity in doing),
        generated=min(generated, row.total) if row.total else generated,
    )


def watch_run(
    lifecycle: RunLifecycle, run_id: str, start_sequence: int, min_interval_s: float
) -> AsyncGenerator[tuple[int, Run], None]:
    """The run and its place in the event stream; see `Following.changes`. Ends after a terminal state."""
    activities = _Activities()

    async def read() -> Run:
        return activities.mixed_into(await lifecycle.get(run_id), lifecycle.book.clock.now())

    at = start_sequence
    following = Following(read, lambda run: run.state.terminal, activities.take, at, at, min_interval_s)
    return following.changes(lifecycle.book.bus, run_id)
