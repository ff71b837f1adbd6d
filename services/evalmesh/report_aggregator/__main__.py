"""`python -m evalmesh.report_aggregator`: a report aggregator alone; settings come from the environment."""

from evalmesh.adapters.connections import open_connections
from evalmesh.adapters.environment import SystemClock
from evalmesh.report_aggregator.service import build
from evalmesh.report_aggregator.settings import ReportAggregatorSettings
from evalmesh.runtime.serve import run_service, serve


async def _main() -> None:
    settings = ReportAggregatorSettings()
    async with open_connections(settings.bus_url, settings.objects_url, settings.room, settings.ack_wait_s) as opened:
        service = build(
            settings=settings,
            runs=opened.runs,
            load_tests=opened.load_tests,
            bus=opened.bus,
            objects=opened.objects,
            clock=SystemClock(),
        )
        await serve([service], settings)


if __name__ == "__main__":
    run_service(_main, ReportAggregatorSettings)
