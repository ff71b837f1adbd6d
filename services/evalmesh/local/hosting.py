"""All services of a platform in this process, behind one port. Slow to load: gRPC, NATS and the services themselves."""

import os
from collections import ChainMap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from evalmesh.adapters.connections import open_connections
from evalmesh.adapters.environment import EnvSecrets
from evalmesh.adapters.load_http.probe import HttpProbe
from evalmesh.adapters.model_servers import DeclaredServers
from evalmesh.load_generator.seat.pairs import PairPool
from evalmesh.local.rooms import Opened, build_services, load
from evalmesh.local.settings import LocalSettings, peer_address
from evalmesh.runtime.entrance import Entrance, Tokens
from evalmesh.runtime.serve import ServiceHost, metrics_shown

__all__ = ["hosted", "load"]


@asynccontextmanager
async def hosted(settings: LocalSettings, bus_url: str, token: str, pairs: PairPool) -> AsyncIterator[str]:
    """The address where they are, for who shows the token. Raises `InvalidInput` for one that is taken."""
    hosts: list[ServiceHost] = []

    def own_address() -> str:
        return peer_address(settings.address, hosts[0].port)

    async with open_connections(bus_url, settings.store_url, "local", settings.ack_wait_s) as opened:
        servers = DeclaredServers(settings.connections, EnvSecrets(ChainMap(dict(settings.keys), os.environ)))
        there = Opened(opened, servers, HttpProbe(servers), own_address, token, pairs)
        entrance = Entrance(settings.address, Tokens([token]))
        host = ServiceHost(build_services(settings, there), entrance)
        hosts.append(host)
        async with metrics_shown(settings.metrics_address, entrance):
            try:
                await host.start()
                yield peer_address(settings.address, host.port)
            finally:
                await host.stop()
