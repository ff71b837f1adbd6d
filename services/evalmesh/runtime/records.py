"""Changing a record by compare-and-set: read, change, write, again if somebody else was quicker."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from evalmesh.domain.errors import Conflict
from evalmesh.ports.records import Versioned

T = TypeVar("T")
_PAUSE_S = 0.01


async def change_record(
    get: Callable[[], Awaitable[Versioned[T]]],
    update: Callable[[T, int], Awaitable[int]],
    change: Callable[[T], T],
    tell: Callable[[], Awaitable[None]],
) -> T:
    """The record as it is now. A change that returns an equal record writes nothing and tells nobody."""
    while True:
        known = await get()
        changed = change(known.value)
        if changed == known.value:
            return known.value
        try:
            await update(changed, known.revision)
        except Conflict:
            await asyncio.sleep(_PAUSE_S)
            continue
        await tell()
        return changed
