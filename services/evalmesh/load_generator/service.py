"""Wires the load generator."""

import asyncio
from dataclasses import dataclass, field
from functools import partial

import grpc.aio

from evalmesh.domain.load_test import LoadTest
from evalmesh.domain.load_work import LoadItem
from evalmesh.domain.work import Queue
from evalmesh.load_generator.belonging import Belonging
from evalmesh.load_generator.conductor.leading import ConductorTools, ConductWorker
from evalmesh.load_generator.conductor.level_files import LevelFiles
from evalmesh.load_generator.scratch import Scratch
from evalmesh.load_generator.seat.holding import SeatTools, SeatWorker
from evalmesh.load_generator.seat.local_copies import LocalCopies
from evalmesh.load_generator.seat.pairs import PairPool
from evalmesh.load_generator.seat.slices import SliceFiles
from evalmesh.load_generator.servicer import LoadServicer
from evalmesh.load_generator.settings import LoadGeneratorSettings
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.load_tests.probe import LoadProbe
from evalmesh.ports.load_tests.server_metrics import OpenServerMetrics
from evalmesh.ports.model_servers import ModelServers
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.records import RecordStore
from evalmesh.ports.run_store import RunStore
from evalmesh.ports.signals import Signals
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.service import Service
from evalmesh.runtime.submission import RecordBook, is_over
from evalmesh.runtime.work import Worker, WorkPolicy
from evalmesh.v1 import load_generators_pb2_grpc


@dataclass(frozen=True, slots=True)
class LoadGeneratorPorts:
    """What the load generator is handed."""

    runs: RunStore
    load_tests: RecordStore[LoadTest]
    bus: Bus
    signals: Signals
    objects: ObjectStore
    clock: Clock
    servers: ModelServers
    probe: LoadProbe
    open_server_metrics: OpenServerMetrics
    pairs: PairPool = field(default_factory=PairPool)
    """Process pairs that may be starting already."""


def build(settings: LoadGeneratorSettings, ports: LoadGeneratorPorts) -> Service:
    """The load generator: conducts load tests and holds seats of them."""
    scratch = Scratch(settings.scratch_dir)
    control = ControlView(ports.runs, is_over(ports.load_tests))
    pairs = ports.pairs
    files = LocalCopies(ports.objects, scratch)
    conducting = ConductWorker(_conductor_tools(settings, ports, control))
    seats = SeatWorker(_seat_tools(ports, control, pairs, files, scratch))
    belonging = Belonging(ports.bus, ports.load_tests, settings.host, settings.hosts_dir)
    workers = [
        Worker[LoadItem](
            bus=ports.bus,
            take_from=partial(ports.bus.consume, queue),
            handle=belonging.own(worker.handle),
            set_aside=worker.set_aside,
            control=control,
            policy=WorkPolicy(concurrency=most, max_deliveries=settings.max_deliveries, drain_s=settings.drain_s),
        )
        for queue, worker, most in (
            (Queue.CONDUCT, conducting, settings.conductors),
            (Queue.LOAD, seats, settings.seats),
        )
        if most
    ]

    async def keep_warm() -> None:
        pairs.warm(min(settings.seats, settings.warm_pairs))
        await asyncio.Event().wait()

    async def close() -> None:
        await pairs.close()
        await scratch.close()

    def mount(server: grpc.aio.Server) -> None:
        servicer = LoadServicer(ports.objects, files, ports.probe, ports.servers, scratch)
        load_generators_pb2_grpc.add_LoadServiceServicer_to_server(servicer, server)

    return Service(
        name="load_generator",
        grpc_services=("evalmesh.v1.LoadService",),
        mount=mount,
        loops=(control.follow, keep_warm, *(worker.run for worker in workers)),
        close=close,
        ready=lambda: ports.bus.connected,
    )


def _conductor_tools(
    settings: LoadGeneratorSettings, ports: LoadGeneratorPorts, control: ControlView
) -> ConductorTools:
    return ConductorTools(
        tests=RecordBook(ports.load_tests, ports.bus, ports.clock),
        bus=ports.bus,
        signals=ports.signals,
        clock=ports.clock,
        control=control,
        levels=LevelFiles(ports.objects),
        probe=ports.probe,
        open_server_metrics=ports.open_server_metrics,
        join_timeout_s=settings.join_timeout_s,
        lost_after_s=settings.lost_after_s,
    )


def _seat_tools(
    ports: LoadGeneratorPorts, control: ControlView, pairs: PairPool, files: LocalCopies, scratch: Scratch
) -> SeatTools:
    return SeatTools(
        tests=RecordBook(ports.load_tests, ports.bus, ports.clock),
        bus=ports.bus,
        signals=ports.signals,
        servers=ports.servers,
        clock=ports.clock,
        control=control,
        pairs=pairs,
        files=files,
        slices=SliceFiles(ports.objects),
        scratch=scratch,
    )
