"""The progress record of each benchmark: many shards, few writes."""

import asyncio
from dataclasses import dataclass, field

from evalmesh.domain.events import Event
from evalmesh.domain.progress import BenchmarkRecord, ShardCounts
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.run_store import ProgressStore
from evalmesh.runtime.progress import change_progress

_TELL_S = 0.25
"""Progress of a run is told at most this often; what comes in between is told with the next."""


@dataclass(slots=True)
class _Waiting:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    counts: list[ShardCounts] = field(default_factory=list)


class ProgressKeeper:
    """Adds shards to the record of their benchmark. Those that arrive while a write is under way share the next one."""

    def __init__(self, store: ProgressStore, bus: Bus, clock: Clock) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._telling: dict[str, asyncio.Task[None]] = {}

    async def take_in(self, run: str, benchmark: str, counts: ShardCounts) -> BenchmarkRecord:
        """Returns the record once it holds the shard."""
        key = (run, benchmark)
        waiting = self._waiting.setdefault(key, _Waiting())
        waiting.users += 1
        waiting.counts.append(counts)
        try:
            async with waiting.lock:
                batch, waiting.counts = waiting.counts, []
                try:
                    record = await change_progress(self._store, run, benchmark, lambda one: one.take_in_all(batch))
                except BaseException:
                    waiting.counts = batch + waiting.counts
                    raise
            if run not in self._telling:
                self._telling[run] = asyncio.create_task(self._tell(run))
            return record
        finally:
            waiting.users -= 1
            if not waiting.users:
                # What a failed write has left comes again with the items it came from.
                del self._waiting[key]

    async def _tell(self, run: str) -> None:
        try:
            await self._bus.emit(Event(run, "progress", "report_aggregator", self._clock.now()))
            await asyncio.sleep(_TELL_S)
        finally:
            del self._telling[run]
