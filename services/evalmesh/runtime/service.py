"""The one shape every service has."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import grpc.aio


@dataclass(frozen=True, slots=True)
class Service:
    """What `serve` runs: gRPC services to mount and loops to keep alive."""

    name: str
    """The room's name: `model_runner`."""
    grpc_services: tuple[str, ...] = ()
    """Full names (`evalmesh.v1.RunService`), for health and reflection."""
    mount: Callable[[grpc.aio.Server], None] | None = None
    loops: Sequence[Callable[[], Awaitable[None]]] = field(default_factory=tuple)
    """Each runs until cancelled; on drain it is cancelled and may finish what it holds."""
    close: Callable[[], Awaitable[None]] | None = None
    """Frees what `build` opened."""
    ready: Callable[[], bool] | None = None
    """Whether what it depends on is there; asked often, so it only looks. Health tells it."""
