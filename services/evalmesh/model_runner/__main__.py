"""`python -m evalmesh.model_runner`: a model runner alone; settings come from the environment."""

from dataclasses import replace
from pathlib import Path

from evalmesh.adapters.connections import open_connections
from evalmesh.adapters.endpoints import Endpoints
from evalmesh.adapters.engines.house import HouseRules
from evalmesh.adapters.environment import SystemClock
from evalmesh.adapters.hubs.hubs import HubRules
from evalmesh.adapters.model_servers import open_servers
from evalmesh.adapters.roots import Roots, folders_of
from evalmesh.model_runner.service import build
from evalmesh.model_runner.settings import ModelRunnerSettings
from evalmesh.runtime.serve import run_service, serve
from evalmesh.wire.runs.media_files import MediaFiles


async def _main() -> None:
    settings = ModelRunnerSettings()
    roots = Roots(folders_of(settings.roots), "EVALMESH_MODEL_RUNNER_ROOTS")
    logs = Path(settings.logs_dir) if settings.logs_dir else None
    servers = open_servers(
        file=settings.connections_file,
        inline=settings.connections,
        restricted=settings.egress == "restricted",
        keys_fd=settings.keys_fd,
        roots=roots,
    )
    async with open_connections(settings.bus_url, settings.objects_url, settings.room, settings.ack_wait_s) as opened:
        media = MediaFiles(opened.objects, settings.media_cache_bytes)
        hubs = HubRules(settings.egress == "restricted", servers.key_for)
        endpoints = Endpoints(servers, media, HouseRules(roots, settings.remote_code, logs, hubs))
        service = build(
            settings=settings,
            runs=opened.runs,
            bus=opened.bus,
            signals=opened.signals,
            objects=opened.objects,
            open_endpoint=endpoints,
            clock=SystemClock(),
        )
        await serve([replace(service, close=endpoints.close)], settings)


if __name__ == "__main__":
    run_service(_main, ModelRunnerSettings)
