"""Services in the test's own process, on a real port."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from evalmesh.runtime.entrance import Anyone, Entrance
from evalmesh.runtime.serve import ServiceHost
from evalmesh.runtime.service import Service


@asynccontextmanager
async def hosted(*services: Service, grace_s: float = 0.1) -> AsyncIterator[str]:
    """Runs them, for whoever comes; their address."""
    host = ServiceHost(services, Entrance("127.0.0.1:0", Anyone()))
    await host.start()
    try:
        yield f"127.0.0.1:{host.port}"
    finally:
        await host.stop(grace_s)
