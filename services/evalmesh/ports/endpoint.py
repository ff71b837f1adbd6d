"""Where completions come from: a server over HTTP, or an engine in this process."""

from dataclasses import dataclass
from typing import Protocol

from evalmesh.domain.completion import Completion
from evalmesh.domain.needs import Capabilities
from evalmesh.domain.request import GenerationConfig, Request
from evalmesh.domain.work import Pool


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How busy an endpoint is."""

    in_flight: int
    limit: int
    """How many it takes at the moment; adaptive endpoints move it."""


class Endpoint(Protocol):
    """One model behind one address, shared by all shards of a pool.

    HTTP engines answer each request by itself; in-process engines gather what is in flight into batches of their own.
    """

    @property
    def capabilities(self) -> Capabilities:
        """Known without asking the server."""
        ...

    @property
    def load(self) -> Occupancy:
        """Now."""
        ...

    async def check(self) -> None:
        """Fails fast when nothing can work: `Unavailable` (down), `Unauthenticated` (wrong key), `NotFound` (model)."""
        ...

    def renew(self, wish: str) -> None:
        """Called before the requests of a wish (a run's attempt): what was refused for good may be mended since."""
        ...

    async def generate(self, request: Request, config: GenerationConfig) -> Completion:
        """Waits for a free slot, asks, retries what may pass, and returns a completion: errors are inside it.

        Raises only `asyncio.CancelledError`.
        """
        ...

    async def close(self) -> None:
        """Frees connections or the engine's memory."""
        ...


class EndpointOpener(Protocol):
    """Opens the endpoint of a pool."""

    def __call__(self, pool: Pool) -> Endpoint:
        """Raises `InvalidInput` for an engine or option this runner does not have."""
        ...
