"""Where completions come from: a server over HTTP, or an engine in this process."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from evalmesh.domain.completion import Completion, CompletionError
from evalmesh.domain.needs import Capabilities
from evalmesh.domain.request import GenerationConfig, Request, RequestKind
from evalmesh.domain.work import Pool

AskAgain = Callable[[CompletionError, float], Awaitable[None]]
"""Awaited before a request that has failed twice is tried once more; raises when that would lead nowhere."""

TRACED_CALL = "evalmesh.traced_call"
"""Key of the OpenTelemetry context, set where a request has a span: who sends it on may hand the trace on."""


class EndpointGone(Exception):
    """It has answered nobody for as long as it may; its requests are not answered, and nothing is wrong with them."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


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

    @property
    def trouble(self) -> str:
        """What its requests wait for, in a sentence; empty when all is well."""
        ...

    async def check(self, kind: RequestKind | None = None, config: GenerationConfig | None = None) -> Sequence[str]:
        """Asks one small question of the kind and with the options that are meant to be used.

        Returns:
            What the user should know although it was answered.

        Raises:
            Unavailable: Nobody answers, or not now.
            Unauthenticated, PermissionDenied: The key is refused.
            NotFound: There is nothing at the address, or no such model.
            InvalidInput: It does not understand the question, or is no such server.
        """
        ...

    def renew(self, wish: str) -> None:
        """Called before the requests of a wish (a run's attempt): what was refused for good may be mended since."""
        ...

    async def generate(
        self, request: Request, config: GenerationConfig, ask_again: AskAgain | None = None
    ) -> Completion:
        """Waits for a free slot, asks, retries what may pass, and returns a completion: errors are inside it.

        Raises only `EndpointGone`, `asyncio.CancelledError` and what `ask_again` raises.
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
