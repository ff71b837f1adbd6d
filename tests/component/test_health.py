"""Health says whether a service can do its work, not only whether its process lives."""

import asyncio

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.kit.nats import kill, running_server

from evalmesh.adapters.connections import open_connections
from evalmesh.adapters.environment import SystemClock
from evalmesh.report_aggregator import service as report_aggregator
from evalmesh.report_aggregator.settings import ReportAggregatorSettings
from evalmesh.runtime.entrance import Anyone, Entrance
from evalmesh.runtime.serve import ServiceHost

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_service_whose_bus_is_away_is_not_serving_until_it_is_back(tmp_path):
    with running_server(tmp_path / "nats") as nats:
        async with open_connections(nats.url, (tmp_path / "objects").as_uri(), "test", 2.0) as opened:
            service = report_aggregator.build(
                settings=ReportAggregatorSettings(drain_s=0.5),
                runs=opened.runs,
                load_tests=opened.load_tests,
                bus=opened.bus,
                objects=opened.objects,
                clock=SystemClock(),
            )
            host = ServiceHost([service], Entrance("127.0.0.1:0", Anyone()))
            await host.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{host.port}") as channel:
                health = health_pb2_grpc.HealthStub(channel)
                for name in ("", "evalmesh.v1.ReportService"):
                    told = health.Watch(health_pb2.HealthCheckRequest(service=name))
                    async with asyncio.timeout(20):
                        assert (await told.read()).status == SERVING
                        kill(nats)
                        assert (await told.read()).status == NOT_SERVING
                        nats.start()
                        assert (await told.read()).status == SERVING
                    told.cancel()
            await host.stop(0.1)
