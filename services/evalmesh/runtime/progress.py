"""Changing progress records by compare-and-set."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from evalmesh.domain.errors import Conflict
from evalmesh.domain.progress import BenchmarkRecord, RunRecord
from evalmesh.ports.run_store import ProgressStore
from evalmesh.wire.codec import decode_json, encode_json

T = TypeVar("T")
_PAUSE_S = 0.005


async def read_progress(store: ProgressStore, run: str, benchmark: str) -> BenchmarkRecord:
    """How far a benchmark has come; an empty record when nothing is known of it."""
    known = await store.get_progress(run, benchmark)
    return decode_json(BenchmarkRecord, known.value) if known.value else BenchmarkRecord()


async def change_progress(
    store: ProgressStore, run: str, benchmark: str, change: Callable[[BenchmarkRecord], bool]
) -> BenchmarkRecord:
    """Applies `change` to the newest record, which it may alter; it says whether it did."""
    return await _change(store, (run, benchmark), BenchmarkRecord, change)


async def change_run_progress(store: ProgressStore, run: str, change: Callable[[RunRecord], bool]) -> RunRecord:
    """The same for the record of the run itself."""
    return await _change(store, (run, ""), RunRecord, change)


async def _change(store: ProgressStore, key: tuple[str, str], kind: type[T], change: Callable[[T], bool]) -> T:
    while True:
        known = await store.get_progress(*key)
        record = decode_json(kind, known.value, "/".join(key)) if known.value else kind()
        if not change(record):
            return record
        try:
            await store.update_progress(*key, encode_json(record), known.revision)
        except Conflict:
            await asyncio.sleep(_PAUSE_S)
            continue
        return record
