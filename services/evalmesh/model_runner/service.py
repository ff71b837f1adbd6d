"""Wires the model runner."""

import grpc.aio

from evalmesh.model_runner.pools import PoolManager
from evalmesh.model_runner.servicer import ModelServicer
from evalmesh.model_runner.settings import ModelRunnerSettings
from evalmesh.ports.bus import Bus
from evalmesh.ports.endpoint import EndpointOpener
from evalmesh.ports.environment import Clock
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.service import Service
from evalmesh.runtime.set_aside import ShardSetAside
from evalmesh.v1 import models_pb2_grpc
from evalmesh.wire.runs.shard_files import ShardFiles


def build(
    *,
    settings: ModelRunnerSettings,
    runs: RunStore,
    bus: Bus,
    objects: ObjectStore,
    open_endpoint: EndpointOpener,
    clock: Clock,
) -> Service:
    """The model runner."""
    control = ControlView(runs)
    pools = PoolManager(
        settings=settings,
        open_endpoint=open_endpoint,
        files=ShardFiles(objects),
        runs=runs,
        bus=bus,
        control=control,
        clock=clock,
        set_aside=ShardSetAside(bus),
    )

    def mount(server: grpc.aio.Server) -> None:
        models_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(open_endpoint), server)

    return Service(
        name="model_runner",
        grpc_services=("evalmesh.v1.ModelService",),
        mount=mount,
        loops=(control.follow, pools.follow),
        ready=lambda: bus.connected,
    )
