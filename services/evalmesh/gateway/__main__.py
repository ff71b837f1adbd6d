"""`python -m evalmesh.gateway`: the gateway alone; settings come from the environment."""

from evalmesh.adapters.connections import open_connections
from evalmesh.adapters.environment import SystemClock
from evalmesh.gateway.service import build, routes_to
from evalmesh.gateway.settings import GatewaySettings
from evalmesh.runtime.serve import run_service, serve


async def _main() -> None:
    settings = GatewaySettings()
    async with open_connections(settings.bus_url, settings.objects_url, settings.room, settings.ack_wait_s) as opened:
        routes = routes_to(settings)
        service = build(
            runs=opened.runs,
            bus=opened.bus,
            objects=opened.objects,
            clock=SystemClock(),
            loader=routes["evalmesh.v1.BenchmarkService"],
            runner=routes["evalmesh.v1.ModelService"],
            routes=routes,
            check_timeout_s=settings.check_timeout_s,
        )
        await serve([service], settings)


if __name__ == "__main__":
    run_service(_main, GatewaySettings)
