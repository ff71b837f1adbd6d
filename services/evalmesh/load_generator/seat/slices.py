"""What a seat leaves behind of one level: its records, its seconds, and how it ended. The last is written last."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from evalmesh.domain import layout
from evalmesh.domain.errors import NotFound
from evalmesh.load_generator.protocol import Done, Fed, Tick
from evalmesh.ports.object_store import ObjectStore
from evalmesh.wire.codec import decode_json, encode_json

_PIECE_BYTES = 1 << 20
_ticks_encoder = msgspec.msgpack.Encoder()
_ticks_decoder = msgspec.msgpack.Decoder(list[Tick])


class Slice(msgspec.Struct, frozen=True):
    """How one level ended at one seat."""

    seat: int
    generator: str
    host: str
    number: int
    position: int
    of: int
    clock_offset_s: float
    clock_error_s: float
    same_clock: bool
    start_time: float
    """Unix seconds, by the seat's own wall clock."""
    done: Done | None
    """`None`: the engine died; the records it had written are there all the same."""
    fed: Fed | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class SeatData:
    """What one seat left of a level."""

    seat: int
    generator: str
    slice: Slice | None
    """`None`: it was lost before it could leave one."""
    records: bytes
    ticks: Sequence[Tick]


class SliceFiles:
    """Writes and reads slices."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def write(self, load_test: str, one: Slice, ticks: Sequence[Tick], records: Path) -> None:
        """Stores all three. Writing the same slice again changes nothing."""
        place = (load_test, one.number, one.seat)
        if await asyncio.to_thread(records.is_file):
            await self._objects.put_stream(layout.level_records_key(*place), pieces_of(records))
        await self._objects.put(layout.level_ticks_key(*place), _ticks_encoder.encode(list(ticks)))
        await self._objects.put(layout.level_slice_key(*place), encode_json(one))

    async def read(self, load_test: str, number: int, seat: int) -> Slice | None:
        """How the level ended at the seat; `None` while it has not."""
        key = layout.level_slice_key(load_test, number, seat)
        try:
            return decode_json(Slice, await self._objects.get(key), key)
        except NotFound:
            return None

    async def records(self, load_test: str, number: int, seat: int) -> bytes:
        """The records file; empty when the seat never wrote one."""
        try:
            return await self._objects.get(layout.level_records_key(load_test, number, seat))
        except NotFound:
            return b""

    async def ticks(self, load_test: str, number: int, seat: int) -> list[Tick]:
        """The seat's seconds, in order."""
        try:
            return _ticks_decoder.decode(await self._objects.get(layout.level_ticks_key(load_test, number, seat)))
        except NotFound:
            return []


async def pieces_of(path: Path) -> AsyncIterator[bytes]:
    """A file in pieces of a MiB."""
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
