"""`python -m evalmesh.scorer`: a scorer alone; settings come from the environment."""

from evalmesh.adapters.connections import open_connections
from evalmesh.adapters.environment import SystemClock
from evalmesh.runtime.serve import run_service, serve
from evalmesh.scorer.service import build
from evalmesh.scorer.settings import ScorerSettings


async def _main() -> None:
    settings = ScorerSettings()
    async with open_connections(settings.bus_url, settings.objects_url, settings.room, settings.ack_wait_s) as opened:
        service = build(
            settings=settings, runs=opened.runs, bus=opened.bus, objects=opened.objects, clock=SystemClock()
        )
        await serve([service], settings)


if __name__ == "__main__":
    run_service(_main, ScorerSettings)
