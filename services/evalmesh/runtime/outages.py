"""Waiting out a dependency that is away for a while, with the work in hand."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from evalmesh.domain.errors import Conflict, ResourceExhausted, Unavailable

_LOG = logging.getLogger(__name__)
_OUTAGE = (Unavailable, ResourceExhausted, Conflict)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How an outage is waited out."""

    total_s: float = 600.0
    """After this the error is raised."""
    first_s: float = 0.5
    """First wait; doubles, up to `cap_s`."""
    cap_s: float = 10.0

    def delay_s(self, tries: int) -> float:
        """Wait before try `tries + 1`: exponential, with jitter over its upper half."""
        full: float = min(self.cap_s, self.first_s * 2.0 ** min(tries - 1, 20))
        return full * (0.5 + random.random() / 2)  # noqa: S311  (spreads retries; no secret)


async def wait_out(
    call: Callable[[], Awaitable[T]], patience: Patience, give_up: Callable[[], bool] = lambda: False
) -> T:
    """Calls until it works; raises what it raised once patience ends or `give_up` says so, and other errors at once."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience.total_s
    tries = 0
    while True:
        try:
            return await call()
        except _OUTAGE as error:
            tries += 1
            if loop.time() > deadline or give_up():
                raise
            _LOG.warning("waiting: %s", error.message)
            await asyncio.sleep(patience.delay_s(tries))
