"""How full the queues are, for whoever reads the gateway's metrics."""

import asyncio
import logging
from collections.abc import Mapping

from evalmesh.domain.errors import EvalmeshError
from evalmesh.domain.work import Queue
from evalmesh.ports.bus import Bus
from evalmesh.runtime.telemetry.instruments import Labels, measuring
from evalmesh.runtime.telemetry.metrics import QUEUE_AGE, QUEUE_DEPTH

_LOG = logging.getLogger(__name__)
_EVERY_S = 5.0


class QueueWatch:
    """Looks at every queue now and then."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._depth: Mapping[Labels, float] = {}
        self._age_s: Mapping[Labels, float] = {}

    async def run(self) -> None:
        """Never ends. Where nobody measures, it does not look."""
        ends = (QUEUE_DEPTH.watch(lambda: self._depth), QUEUE_AGE.watch(lambda: self._age_s))
        try:
            while True:
                if measuring():
                    await self._look()
                await asyncio.sleep(_EVERY_S)
        finally:
            for end in ends:
                end()

    async def _look(self) -> None:
        try:
            self._depth = {(queue.value,): float(await self._bus.backlog(queue)) for queue in Queue}
            self._age_s = {(queue.value,): await self._bus.oldest_s(queue) for queue in Queue}
        except EvalmeshError as error:
            # What was true a while ago is worse than nothing.
            self._depth = self._age_s = {}
            _LOG.debug("the queues cannot be looked at now: %s", error.message)
