"""What the server under load says about itself."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from evalmesh.load.server.readings import Reading


class ServerMetrics(Protocol):
    """Reads its sources about once a second, from when it is opened until it is closed, each source by itself."""

    async def take(self) -> list[Reading]:
        """What was read since the last call, oldest first; returns at once and never raises.

        A source that fails says so in its reading. `load.server.series.build_server` makes a level's figures of them.
        """
        ...


class OpenServerMetrics(Protocol):
    """Opens sources; their reading ends with the context."""

    def __call__(self, urls: Sequence[str], endpoint_url: str) -> AbstractAsyncContextManager[ServerMetrics]:
        """See `LoadTestSpec.server_metrics` for the addresses. Raises `InvalidInput` for what is none."""
        ...
