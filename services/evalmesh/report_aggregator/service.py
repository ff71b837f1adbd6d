"""Wires the report aggregator."""

import grpc.aio

from evalmesh.domain.work import Step, WorkItem
from evalmesh.ports.bus import Bus, Queue
from evalmesh.ports.environment import Clock
from evalmesh.ports.load_tests.store import LoadTestStore
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.run_store import RunStore
from evalmesh.report_aggregator.load_tests.worker import PerfWorker
from evalmesh.report_aggregator.runs.worker import ReportWorker
from evalmesh.report_aggregator.servicer import ReportServicer
from evalmesh.report_aggregator.settings import ReportAggregatorSettings
from evalmesh.report_aggregator.tables import ResultTables
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.service import Service
from evalmesh.runtime.work import Worker, WorkPolicy
from evalmesh.v1 import reports_pb2_grpc
from evalmesh.wire.runs.shard_files import ShardFiles


def build(
    *,
    settings: ReportAggregatorSettings,
    runs: RunStore,
    load_tests: LoadTestStore,
    bus: Bus,
    objects: ObjectStore,
    clock: Clock,
) -> Service:
    """The report aggregator."""
    control = ControlView(runs)
    reports = ReportWorker(files=ShardFiles(objects), runs=runs, bus=bus, clock=clock)
    perf = PerfWorker(tests=load_tests, objects=objects, bus=bus, clock=clock)
    tables = ResultTables(objects)

    async def handle(item: WorkItem) -> None:
        await (perf if await perf.owns(item) else reports).handle(item)

    async def set_aside(item: WorkItem, error: str) -> None:
        await (perf if await perf.owns(item) else reports).set_aside(item, error)

    worker = Worker(
        bus=bus,
        queue=Queue(Step.REPORT),
        handle=handle,
        set_aside=set_aside,
        control=control,
        policy=WorkPolicy(
            concurrency=settings.shards_at_once, max_deliveries=settings.max_deliveries, drain_s=settings.drain_s
        ),
    )

    def mount(server: grpc.aio.Server) -> None:
        reports_pb2_grpc.add_ReportServiceServicer_to_server(ReportServicer(objects, runs, tables), server)

    return Service(
        name="report_aggregator",
        grpc_services=("evalmesh.v1.ReportService",),
        mount=mount,
        loops=(control.follow, worker.run),
        close=tables.close,
        ready=lambda: bus.connected,
    )
