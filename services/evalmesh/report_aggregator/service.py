"""Wires the report aggregator."""

import grpc.aio

from evalmesh.domain.errors import NotFound
from evalmesh.domain.load_test import LoadTest
from evalmesh.domain.work import Step, WorkItem
from evalmesh.ports.bus import Bus, Queue
from evalmesh.ports.environment import Clock
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.records import RecordStore
from evalmesh.ports.run_store import RunStore
from evalmesh.report_aggregator.load_tests.worker import PerfWorker
from evalmesh.report_aggregator.runs.worker import ReportWorker
from evalmesh.report_aggregator.servicer import ReportServicer, ResultTables
from evalmesh.report_aggregator.settings import ReportAggregatorSettings
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.service import Service
from evalmesh.runtime.submission import RecordBook
from evalmesh.runtime.work import Worker, WorkPolicy
from evalmesh.v1 import reports_pb2_grpc
from evalmesh.wire.runs.shard_files import ShardFiles


def build(
    *,
    settings: ReportAggregatorSettings,
    runs: RunStore,
    load_tests: RecordStore[LoadTest],
    bus: Bus,
    objects: ObjectStore,
    clock: Clock,
) -> Service:
    """The report aggregator."""
    control = ControlView(runs)
    reports = ReportWorker(files=ShardFiles(objects), runs=runs, bus=bus, clock=clock)
    perf = PerfWorker(RecordBook(load_tests, bus, clock), objects)
    tables = ResultTables(objects)

    async def handle(item: WorkItem) -> None:
        await (perf if await _is_load_test(load_tests, item) else reports).handle(item)

    async def set_aside(item: WorkItem, error: str) -> None:
        await (perf if await _is_load_test(load_tests, item) else reports).set_aside(item, error)

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
    )


async def _is_load_test(load_tests: RecordStore[LoadTest], item: WorkItem) -> bool:
    """An item without a benchmark is about a whole run or a whole load test; the record tells which."""
    if item.benchmark:
        return False
    try:
        await load_tests.get(item.run)
    except NotFound:
        return False
    return True
