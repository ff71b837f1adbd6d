"""Of several platforms on one folder each performs its own load tests, whoever took the item from the shared queue."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from evalmesh.domain.errors import NotFound
from evalmesh.domain.load_test import LoadTest
from evalmesh.domain.load_work import LoadItem
from evalmesh.ports.bus import Bus
from evalmesh.ports.records import RecordStore
from evalmesh.runtime.hosts import lives

_PAUSE_S = 0.1
"""Before an item goes back, so that whoever it is for gets it and not this process again."""


@dataclass(frozen=True, slots=True)
class Belonging:
    """Gives back what is for another host."""

    bus: Bus
    tests: RecordStore[LoadTest]
    host: str
    hosts_dir: str

    def own(self, handle: Callable[[LoadItem], Awaitable[None]]) -> Callable[[LoadItem], Awaitable[None]]:
        """The handler for this host's items, and for those of hosts that are gone: somebody has to end them."""
        if not self.hosts_dir:
            return handle

        async def handle_own(item: LoadItem) -> None:
            if await self._is_own(item):
                await handle(item)
                return
            await asyncio.sleep(_PAUSE_S)
            await self.bus.publish([item.handed_over()])

        return handle_own

    async def _is_own(self, item: LoadItem) -> bool:
        try:
            host = (await self.tests.get(item.load_test)).value.host
        except NotFound:
            return True
        return host == self.host or not lives(Path(self.hosts_dir), host)
