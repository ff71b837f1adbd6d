"""`python -m evalmesh.dataset_loader`: the data set loader alone; settings come from the environment."""

from evalmesh.adapters.connections import open_connections
from evalmesh.adapters.datasets import LocalDatasets
from evalmesh.adapters.environment import SystemClock
from evalmesh.adapters.roots import Roots, folders_of
from evalmesh.dataset_loader.service import build
from evalmesh.dataset_loader.settings import DatasetLoaderSettings
from evalmesh.runtime.serve import run_service, serve


async def _main() -> None:
    settings = DatasetLoaderSettings()
    roots = Roots([*folders_of(settings.roots), settings.dataset_dir], "EVALMESH_DATASET_LOADER_ROOTS")
    async with open_connections(settings.bus_url, settings.objects_url, settings.room, settings.ack_wait_s) as opened:
        service = build(
            settings=settings,
            runs=opened.runs,
            bus=opened.bus,
            objects=opened.objects,
            source=LocalDatasets(roots=roots),
            clock=SystemClock(),
        )
        await serve([service], settings)


if __name__ == "__main__":
    run_service(_main, DatasetLoaderSettings)
