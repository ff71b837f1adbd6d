"""`python -m evalmesh.gateway`: the gateway alone; settings come from the environment."""

from evalmesh.adapters.connections import open_connections
from evalmesh.adapters.environment import SystemClock
from evalmesh.gateway.peers import BENCHMARKS, LOAD, MODELS, Peers, peer_token, routes_to
from evalmesh.gateway.service import GatewayPorts, build
from evalmesh.gateway.settings import GatewaySettings
from evalmesh.runtime.serve import run_service, serve


async def _main() -> None:
    settings = GatewaySettings()
    async with open_connections(settings.bus_url, settings.objects_url, settings.room, settings.ack_wait_s) as opened:
        routes = routes_to(settings)
        ports = GatewayPorts(opened.runs, opened.load_tests, opened.bus, opened.objects, SystemClock())
        peers = Peers(routes[BENCHMARKS], routes[MODELS], routes[LOAD], settings.check_timeout_s, peer_token(settings))
        service = build(ports, peers, routes, host=settings.host)
        await serve([service], settings)


if __name__ == "__main__":
    run_service(_main, GatewaySettings)
