"""All services of a platform in this process, behind one port. Slow to load: gRPC, NATS and the services themselves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from evalmesh.adapters.connections import open_connections
from evalmesh.adapters.environment import EnvSecrets
from evalmesh.adapters.load_http.probe import HttpProbe
from evalmesh.load_generator.seat.pairs import PairPool
from evalmesh.local.rooms import Opened, build_services, load
from evalmesh.local.settings import LocalSettings, peer_address
from evalmesh.runtime.serve import ServiceHost

__all__ = ["hosted", "load"]


@asynccontextmanager
async def hosted(settings: LocalSettings, bus_url: str, pairs: PairPool) -> AsyncIterator[str]:
    """The address where they are. Raises `InvalidInput` for one that is taken."""
    hosts: list[ServiceHost] = []
    async with open_connections(bus_url, settings.store_url, "local", settings.ack_wait_s) as opened:
        there = Opened(opened, HttpProbe(EnvSecrets()), lambda: peer_address(settings.address, hosts[0].port), pairs)
        host = ServiceHost(build_services(settings, there), settings.address)
        hosts.append(host)
        try:
            await host.start()
            yield peer_address(settings.address, host.port)
        finally:
            await host.stop()
