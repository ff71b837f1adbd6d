"""What pools of one model server share in a process: its connections, and what is known of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from evalmesh.adapters.openai.limiter import ServerLimit
from evalmesh.adapters.openai.target import Target
from evalmesh.domain.request import RequestKind

_Way = tuple[str, str | None, int | None]


@dataclass(slots=True)
class SharedServer:
    """One server. Its idle connections serve whichever pool asks next: some servers take only a handful."""

    limit: ServerLimit = field(default_factory=ServerLimit)
    proven: dict[str, float] = field(default_factory=dict)
    """Pools that it has answered, and when (monotonic)."""
    ways: dict[tuple[str, RequestKind], int] = field(default_factory=dict)
    """By pool and kind, which of several ways of asking was found to work."""
    users: int = 0
    _connectors: dict[object, aiohttp.TCPConnector] = field(default_factory=dict)

    def connector(self, settings: object, make: Callable[[], aiohttp.TCPConnector]) -> aiohttp.TCPConnector:
        """The one for connections of these settings (certificates, addresses that may be asked)."""
        if settings not in self._connectors or self._connectors[settings].closed:
            self._connectors[settings] = make()
        return self._connectors[settings]

    def has_answered(self, pool: str) -> None:
        """A request of the pool's kind, with its key."""
        self.proven[pool] = time.monotonic()

    def answered_since(self, pool: str, moment: float) -> bool:
        """Whether it has."""
        return self.proven.get(pool, float("-inf")) >= moment

    async def close(self) -> None:
        """Closes all connections."""
        connectors, self._connectors = self._connectors, {}
        for connector in connectors.values():
            await connector.close()


class Neighbours:
    """The servers that this process talks to, by scheme, host and port. Only for the loop it is used in."""

    def __init__(self) -> None:
        self._servers: dict[_Way, SharedServer] = {}

    def join(self, target: Target) -> SharedServer:
        """The server of the target, for one more user."""
        server = self._servers.setdefault(_way(target), SharedServer())
        server.users += 1
        return server

    async def leave(self, server: SharedServer) -> None:
        """One user less; with the last one its connections go."""
        server.users -= 1
        if not server.users:
            # What it has answered is remembered for the pool that opens next.
            await server.close()


def _way(target: Target) -> _Way:
    url = URL(target.address.base)
    return url.scheme, url.host, url.port
