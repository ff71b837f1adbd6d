"""What is kept of each level: the order, the slices of its seats, and the document computed from them."""

import asyncio
from collections.abc import Sequence
from typing import Any

from evalmesh.domain import layout
from evalmesh.domain.errors import NotFound
from evalmesh.domain.load_test import LoadTest, LoadTestSpec
from evalmesh.load.server.readings import Reading
from evalmesh.load_generator.conductor.level_run import LevelOrder, LevelRun
from evalmesh.load_generator.conductor.programme import Document
from evalmesh.load_generator.seat.slices import SeatData, Slice, SliceFiles
from evalmesh.ports.object_store import ObjectStore
from evalmesh.wire.codec import decode_json, encode_json


class LevelFiles:
    """Reads and writes them."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._slices = SliceFiles(objects)

    async def document(self, load_test: str, number: int) -> Document | None:
        """The level's document; `None` while it has none."""
        found: Document | None = await self._read(dict[str, Any], layout.level_key(load_test, number))
        return found

    async def order(self, load_test: str, number: int) -> LevelOrder | None:
        """Who performs the level; `None` when that was never decided."""
        found: LevelOrder | None = await self._read(LevelOrder, layout.level_order_key(load_test, number))
        return found

    async def write_order(self, load_test: str, order: LevelOrder) -> None:
        """Before the level begins."""
        await self._objects.put(layout.level_order_key(load_test, order.number), encode_json(order))

    async def slice(self, load_test: str, number: int, seat: int) -> Slice | None:
        """How the level ended at the seat; `None` while it has not."""
        return await self._slices.read(load_test, number, seat)

    async def _read(self, kind: Any, key: str) -> Any:
        try:
            return decode_json(kind, await self._objects.get(key), key)
        except NotFound:
            return None

    async def prompts_used(self, load_test: str, levels: int) -> int:
        """Prompts that the first `levels` levels used, so that the next one goes on after them."""
        if not levels:
            return 0
        order = await self.order(load_test, levels - 1)
        if order is None:
            return 0
        slices = [await self.slice(load_test, levels - 1, seat) for seat in order.seats]
        fed = [one.fed.prompts for one in slices if one is not None and one.fed is not None]
        known = order.planned.level.number + order.warmup
        return order.first_prompt + max([known, *fed])

    async def conclude(
        self, test: LoadTest, run: LevelRun, readings: Sequence[Reading], notes: Sequence[str]
    ) -> Document:
        """Computes the level's document from what its seats left, and writes it."""
        seats = await asyncio.gather(*(self._seat_data(test.id, run, seat) for seat in run.order.seats))
        document = await asyncio.to_thread(_build, test.spec, run, seats, readings, notes)
        await self._objects.put(layout.level_key(test.id, run.order.number), encode_json(document))
        return document

    async def _seat_data(self, load_test: str, run: LevelRun, seat: int) -> SeatData:
        place = (load_test, run.order.number, seat)
        one = await self._slices.read(*place)
        if one is None:
            return SeatData(seat, run.order.seats[seat], None, b"", [])
        return SeatData(seat, one.generator, one, await self._slices.records(*place), await self._slices.ticks(*place))


def _build(
    spec: LoadTestSpec, run: LevelRun, seats: Sequence[SeatData], readings: Sequence[Reading], notes: Sequence[str]
) -> Document:
    """Loads what figures are computed with (numpy) when the first level is over: a load test begins sooner so."""
    from evalmesh.load_generator.conductor.level_inputs import build_document  # noqa: PLC0415

    return build_document(spec, run, seats, readings, notes)
