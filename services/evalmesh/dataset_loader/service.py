"""Wires the data set loader."""

import grpc.aio

from evalmesh.dataset_loader.servicer import BenchmarkServicer
from evalmesh.dataset_loader.settings import DatasetLoaderSettings
from evalmesh.dataset_loader.worker import PlanWorker
from evalmesh.domain.work import Step
from evalmesh.ports.bus import Bus, Queue
from evalmesh.ports.dataset_source import DatasetSource
from evalmesh.ports.environment import Clock
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.service import Service
from evalmesh.runtime.work import Worker, WorkPolicy
from evalmesh.v1 import benchmarks_pb2_grpc
from evalmesh.wire.runs.shard_files import ShardFiles


def build(
    *,
    settings: DatasetLoaderSettings,
    runs: RunStore,
    bus: Bus,
    objects: ObjectStore,
    source: DatasetSource,
    clock: Clock,
) -> Service:
    """The data set loader."""
    control = ControlView(runs)
    plans = PlanWorker(
        files=ShardFiles(objects), runs=runs, bus=bus, source=source, clock=clock, dataset_dir=settings.dataset_dir
    )
    worker = Worker(
        bus=bus,
        queue=Queue(Step.PLAN),
        handle=plans.handle,
        set_aside=plans.set_aside,
        control=control,
        policy=WorkPolicy(concurrency=2, max_deliveries=settings.max_deliveries, drain_s=settings.drain_s),
    )

    def mount(server: grpc.aio.Server) -> None:
        benchmarks_pb2_grpc.add_BenchmarkServiceServicer_to_server(BenchmarkServicer(plans), server)

    return Service(
        name="dataset_loader",
        grpc_services=("evalmesh.v1.BenchmarkService",),
        mount=mount,
        loops=(control.follow, worker.run),
        ready=lambda: bus.connected,
    )
