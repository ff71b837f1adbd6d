"""`python -m evalmesh.load_generator`: a load generator alone; settings come from the environment."""

from functools import partial

from evalmesh.adapters.connections import open_connections
from evalmesh.adapters.environment import SystemClock
from evalmesh.adapters.load_http.probe import HttpProbe
from evalmesh.adapters.model_servers import open_servers
from evalmesh.adapters.roots import Roots, folders_of
from evalmesh.adapters.server_metrics import open_server_metrics
from evalmesh.load_generator.service import LoadGeneratorPorts, build
from evalmesh.load_generator.settings import LoadGeneratorSettings
from evalmesh.runtime.serve import run_service, serve


async def _main() -> None:
    settings = LoadGeneratorSettings()
    servers = open_servers(
        file=settings.connections_file,
        inline=settings.connections,
        restricted=settings.egress == "restricted",
        keys_fd=settings.keys_fd,
        roots=Roots(folders_of(settings.roots), "EVALMESH_LOAD_GENERATOR_ROOTS"),
    )
    async with open_connections(settings.bus_url, settings.objects_url, settings.room, settings.ack_wait_s) as opened:
        ports = LoadGeneratorPorts(
            runs=opened.runs,
            load_tests=opened.load_tests,
            bus=opened.bus,
            signals=opened.signals,
            objects=opened.objects,
            clock=SystemClock(),
            servers=servers,
            probe=HttpProbe(servers),
            open_server_metrics=partial(open_server_metrics, servers=servers),
        )
        await serve([build(settings, ports)], settings)


if __name__ == "__main__":
    run_service(_main, LoadGeneratorSettings)
