"""Wires the data set loader."""

from functools import partial

import grpc.aio

from evalmesh.dataset_loader.servicer import BenchmarkServicer
from evalmesh.dataset_loader.settings import DatasetLoaderSettings
from evalmesh.dataset_loader.worker import PlanWorker
from evalmesh.domain.work import Queue, WorkItem
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.run_store import RunStore
from evalmesh.results.finding import Datasets
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.runs import RunRecords
from evalmesh.runtime.service import Service
from evalmesh.runtime.work import Worker, WorkPolicy
from evalmesh.v1 import benchmarks_pb2_grpc
from evalmesh.wire.runs.shard_files import RunFiles

_RUNS_AT_ONCE = 8
"""Runs that are planned side by side: a small one does not wait for a large one's rows."""


def build(
    *,
    settings: DatasetLoaderSettings,
    runs: RunStore,
    bus: Bus,
    objects: ObjectStore,
    datasets: Datasets,
    clock: Clock,
) -> Service:
    """The data set loader."""
    control = ControlView(runs)
    plans = PlanWorker(
        files=RunFiles(objects),
        records=RunRecords(runs, bus, clock),
        control=control,
        datasets=datasets,
        dataset_dir=settings.dataset_dir,
    )
    worker = Worker[WorkItem](
        bus=bus,
        take_from=partial(bus.consume, Queue.PLAN),
        handle=plans.handle,
        set_aside=plans.set_aside,
        control=control,
        policy=WorkPolicy(concurrency=_RUNS_AT_ONCE, max_deliveries=settings.max_deliveries, drain_s=settings.drain_s),
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
