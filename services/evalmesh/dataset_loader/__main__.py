"""`python -m evalmesh.dataset_loader`: the data set loader alone; settings come from the environment."""

from evalmesh.adapters.connections import open_connections
from evalmesh.adapters.datasets import LocalDatasets
from evalmesh.adapters.environment import SystemClock
from evalmesh.adapters.hubs.opening import open_hubs
from evalmesh.adapters.model_servers import open_servers
from evalmesh.adapters.roots import Roots, folders_of
from evalmesh.dataset_loader.service import build
from evalmesh.dataset_loader.settings import DatasetLoaderSettings
from evalmesh.results.finding import Datasets
from evalmesh.runtime.serve import run_service, serve


async def _main() -> None:
    settings = DatasetLoaderSettings()
    roots = Roots([*folders_of(settings.roots), settings.dataset_dir], "EVALMESH_DATASET_LOADER_ROOTS")
    servers = open_servers(
        file=settings.connections_file,
        inline=settings.connections,
        restricted=settings.egress == "restricted",
        keys_fd=settings.keys_fd,
    )
    async with open_connections(settings.bus_url, settings.objects_url, settings.room, settings.ack_wait_s) as opened:
        hubs = open_hubs(
            store=opened.objects,
            take_lease=opened.runs.take_lease,
            key_of=servers.key_for,
            restricted=settings.egress == "restricted",
        )
        service = build(
            settings=settings,
            runs=opened.runs,
            bus=opened.bus,
            objects=opened.objects,
            datasets=Datasets(LocalDatasets(roots), hubs),
            clock=SystemClock(),
        )
        await serve([service], settings)


if __name__ == "__main__":
    run_service(_main, DatasetLoaderSettings)
