"""Wires the gateway."""

from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any

import grpc.aio

from evalmesh.domain.errors import EvalmeshError
from evalmesh.domain.run import RunSpec
from evalmesh.gateway.forward import Forwarder, raise_if_away
from evalmesh.gateway.lifecycle import RunLifecycle
from evalmesh.gateway.servicer import RunServicer
from evalmesh.gateway.settings import GatewaySettings
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.service import Service
from evalmesh.runtime.telemetry import current_trace
from evalmesh.v1 import benchmarks_pb2, benchmarks_pb2_grpc, models_pb2, models_pb2_grpc, runs_pb2_grpc
from evalmesh.wire.errors import from_rpc_error
from evalmesh.wire.models import model_to_proto
from evalmesh.wire.runs import spec_to_proto

OpenChannel = Callable[[], grpc.aio.Channel]

_OPTIONS = [
    # What a client may receive from the gateway, the gateway may receive from its peers.
    ("grpc.max_receive_message_length", 64 << 20),
    # A peer that was away for long is found again within two seconds of its return.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A proxy for the world outside does not know the peers.
    ("grpc.enable_http_proxy", 0),
]


def lazy_channel(address: Callable[[], str]) -> OpenChannel:
    """One channel, opened when first used: an address may become known later than the gateway is built."""
    return cache(lambda: grpc.aio.insecure_channel(address(), options=_OPTIONS))


def routes_to(settings: GatewaySettings) -> dict[str, OpenChannel]:
    """Which service answers for which API."""
    return {
        "evalmesh.v1.BenchmarkService": lazy_channel(lambda: settings.dataset_loader_address),
        "evalmesh.v1.ModelService": lazy_channel(lambda: settings.model_runner_address),
        "evalmesh.v1.ScoringService": lazy_channel(lambda: settings.scorer_address),
        "evalmesh.v1.ReportService": lazy_channel(lambda: settings.report_aggregator_address),
    }


class PeerCheck:
    """Asks the data set loader about the data and the model runner about the endpoint."""

    def __init__(self, loader: OpenChannel, runner: OpenChannel, timeout_s: float) -> None:
        self._loader = loader
        self._runner = runner
        self._timeout_s = timeout_s

    async def __call__(self, spec: RunSpec) -> None:
        loader = benchmarks_pb2_grpc.BenchmarkServiceStub(self._loader())
        wanted = benchmarks_pb2.ValidateBenchmarksRequest(spec=spec_to_proto(spec))
        await self._ask("evalmesh.v1.BenchmarkService", loader.ValidateBenchmarks, wanted)
        if spec.model.engine != "recorded":
            runner = models_pb2_grpc.ModelServiceStub(self._runner())
            model = models_pb2.DescribeModelRequest(model=model_to_proto(spec.model))
            await self._ask("evalmesh.v1.ModelService", runner.DescribeModel, model)

    async def _ask(self, service: str, method: Callable[..., Awaitable[Any]], request: object) -> None:
        try:
            await method(request, timeout=self._timeout_s, metadata=tuple(current_trace().items()))
        except grpc.aio.AioRpcError as error:
            raise_if_away(error, service)
            raised: EvalmeshError = from_rpc_error(error)
            raise raised from error


def build(  # noqa: PLR0913  (ports and peers, one by one)
    *,
    runs: RunStore,
    bus: Bus,
    objects: ObjectStore,
    clock: Clock,
    loader: OpenChannel,
    runner: OpenChannel,
    routes: Mapping[str, OpenChannel],
    check_timeout_s: float = 20.0,
) -> Service:
    """The gateway; `routes` are the gRPC services to pass on, by full name."""
    lifecycle = RunLifecycle(runs, bus, objects, clock, PeerCheck(loader, runner, check_timeout_s))

    def mount(server: grpc.aio.Server) -> None:
        runs_pb2_grpc.add_RunServiceServicer_to_server(RunServicer(lifecycle), server)
        if routes:
            server.add_generic_rpc_handlers((Forwarder(routes),))

    return Service(name="gateway", grpc_services=("evalmesh.v1.RunService",), mount=mount)
