"""`python -m evalmesh.model_runner`: a model runner alone; settings come from the environment."""

from functools import partial

from evalmesh.adapters.connections import open_connections
from evalmesh.adapters.environment import SystemClock
from evalmesh.adapters.model_servers import open_servers
from evalmesh.adapters.openai.endpoint import open_openai_endpoint
from evalmesh.adapters.openai.neighbours import Neighbours
from evalmesh.adapters.roots import Roots, folders_of
from evalmesh.model_runner.service import build
from evalmesh.model_runner.settings import ModelRunnerSettings
from evalmesh.runtime.serve import run_service, serve
from evalmesh.wire.runs.media_files import MediaFiles


async def _main() -> None:
    settings = ModelRunnerSettings()
    servers = open_servers(
        file=settings.connections_file,
        inline=settings.connections,
        restricted=settings.egress == "restricted",
        keys_fd=settings.keys_fd,
        roots=Roots(folders_of(settings.roots), "EVALMESH_MODEL_RUNNER_ROOTS"),
    )
    async with open_connections(settings.bus_url, settings.objects_url, settings.room, settings.ack_wait_s) as opened:
        service = build(
            settings=settings,
            runs=opened.runs,
            bus=opened.bus,
            signals=opened.signals,
            objects=opened.objects,
            open_endpoint=partial(
                open_openai_endpoint,
                servers=servers,
                media=MediaFiles(opened.objects, settings.media_cache_bytes),
                neighbours=Neighbours(),
            ),
            clock=SystemClock(),
        )
        await serve([service], settings)


if __name__ == "__main__":
    run_service(_main, ModelRunnerSettings)
