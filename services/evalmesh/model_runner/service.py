"""Wires the model runner."""

import grpc.aio

from evalmesh.model_runner.pools import PoolManager, RunnerPorts
from evalmesh.model_runner.servicer import ModelServicer
from evalmesh.model_runner.settings import ModelRunnerSettings
from evalmesh.ports.bus import Bus
from evalmesh.ports.endpoint import EndpointOpener
from evalmesh.ports.environment import Clock
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.run_store import RunStore
from evalmesh.ports.signals import Signals
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.service import Service
from evalmesh.v1 import models_pb2_grpc
from evalmesh.wire.runs.media_files import MediaFiles
from evalmesh.wire.runs.shard_files import RunFiles


def build(  # noqa: PLR0913  (ports, one by one)
    *,
    settings: ModelRunnerSettings,
    runs: RunStore,
    bus: Bus,
    signals: Signals,
    objects: ObjectStore,
    open_endpoint: EndpointOpener,
    clock: Clock,
) -> Service:
    """The model runner."""
    control = ControlView(runs)
    pools = PoolManager(settings, RunnerPorts(runs, bus, RunFiles(objects), open_endpoint, clock, signals), control)

    def mount(server: grpc.aio.Server) -> None:
        models_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(open_endpoint, MediaFiles(objects)), server)

    return Service(
        name="model_runner",
        grpc_services=("evalmesh.v1.ModelService",),
        mount=mount,
        loops=(control.follow, pools.follow),
        ready=lambda: bus.connected,
    )
