"""How far this machine's monotonic clock is from the conductor's."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_EXCHANGES = 12
_PAUSE_S = 0.005


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """Add `offset_s` to our monotonic time to get theirs; the truth is within `error_s` of that."""

    offset_s: float
    error_s: float


@cache
def boot_id() -> str:
    """Of the running kernel; processes that share it share a monotonic clock. Empty where there is none to read."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


async def measure_offset(ask_time: Callable[[], Awaitable[float]], exchanges: int = _EXCHANGES) -> ClockOffset:
    """Asks for the time again and again and believes the quickest answer, as NTP does.

    Whatever part of the round trip was the way there, their clock was read within it; so the offset is off by at most
    half the round trip.
    """
    best = ClockOffset(0.0, float("inf"))
    for number in range(exchanges):
        if number:
            await asyncio.sleep(_PAUSE_S)
        sent_s = time.monotonic()
        theirs_s = await ask_time()
        heard_s = time.monotonic()
        error_s = (heard_s - sent_s) / 2
        if error_s < best.error_s:
            best = ClockOffset(theirs_s - (sent_s + heard_s) / 2, error_s)
    return best
