"""The progress record of each run: many shards, few writes."""

import asyncio
from dataclasses import dataclass, field

from evalmesh.domain.errors import Conflict
from evalmesh.domain.events import Event
from evalmesh.domain.progress import ProgressRecord, ShardCounts, new_record
from evalmesh.domain.work import RunPlan
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.run_store import RunStore
from evalmesh.wire.codec import decode_json, encode_json


@dataclass(slots=True)
class _Waiting:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    counts: list[ShardCounts] = field(default_factory=list)


class ProgressKeeper:
    """Adds shards to the record of their run. Shards that arrive while a write is under way share the next one."""

    def __init__(self, store: RunStore, bus: Bus, clock: Clock) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}

    async def take_in(self, plan: RunPlan, counts: ShardCounts) -> bool:
        """Returns once the record holds the shard; the result says whether every shard of the run is in."""
        waiting = self._waiting.setdefault(plan.run, _Waiting())
        waiting.users += 1
        waiting.counts.append(counts)
        try:
            async with waiting.lock:
                batch, waiting.counts = waiting.counts, []
                try:
                    return await self._write(plan, batch)
                except BaseException:
                    waiting.counts = batch + waiting.counts
                    raise
        finally:
            waiting.users -= 1
            if not waiting.users:
                # What a failed write has left comes again with the items it came from.
                del self._waiting[plan.run]

    async def _write(self, plan: RunPlan, batch: list[ShardCounts]) -> bool:
        while True:
            known = await self._store.get_progress(plan.run)
            record = decode_json(ProgressRecord, known.value) if known.value else new_record(plan)
            changed = [record.take_in(counts) for counts in batch]
            if not any(changed):
                return record.complete
            try:
                await self._store.update_progress(plan.run, encode_json(record), known.revision)
            except Conflict:
                continue
            await self._bus.emit(Event(plan.run, "progress", "report_aggregator", self._clock.now()))
            return record.complete
