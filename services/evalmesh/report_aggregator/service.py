"""Wires the report aggregator."""

from functools import partial

import grpc.aio

from evalmesh.domain.load_test import LoadTest
from evalmesh.domain.load_work import LoadItem
from evalmesh.domain.work import Queue, WorkItem
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.records import RecordStore
from evalmesh.ports.run_store import RunStore
from evalmesh.report_aggregator.load_tests.worker import PerfWorker
from evalmesh.report_aggregator.runs.worker import ReduceWorker
from evalmesh.report_aggregator.servicer import ReportServicer
from evalmesh.report_aggregator.settings import ReportAggregatorSettings
from evalmesh.report_aggregator.tables import ResultTables
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.runs import RunRecords
from evalmesh.runtime.service import Service
from evalmesh.runtime.submission import RecordBook, is_over
from evalmesh.runtime.work import Worker, WorkPolicy
from evalmesh.v1 import reports_pb2_grpc
from evalmesh.wire.runs.shard_files import RunFiles


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
    reports = ReduceWorker(RunFiles(objects), RunRecords(runs, bus, clock))
    load_reports = PerfWorker(RecordBook(load_tests, bus, clock), objects)
    tables = ResultTables(objects)
    policy = WorkPolicy(
        concurrency=settings.shards_at_once, max_deliveries=settings.max_deliveries, drain_s=settings.drain_s
    )
    reducing = Worker[WorkItem](
        bus=bus,
        take_from=partial(bus.consume, Queue.REDUCE),
        handle=reports.handle,
        set_aside=reports.set_aside,
        control=control,
        policy=policy,
    )
    load_reporting = Worker[LoadItem](
        bus=bus,
        take_from=partial(bus.consume, Queue.LOAD_REPORT),
        handle=load_reports.handle,
        set_aside=load_reports.set_aside,
        control=ControlView(runs, is_over(load_tests)),
        policy=policy,
    )

    def mount(server: grpc.aio.Server) -> None:
        reports_pb2_grpc.add_ReportServiceServicer_to_server(ReportServicer(objects, runs, tables), server)

    return Service(
        name="report_aggregator",
        grpc_services=("evalmesh.v1.ReportService",),
        mount=mount,
        loops=(control.follow, reducing.run, load_reporting.run),
        close=tables.close,
        ready=lambda: bus.connected,
    )
