"""Wires the load generator."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir

import grpc.aio

from evalmesh.domain.work import Step
from evalmesh.load_generator.conductor.leading import ConductorTools, ConductWorker
from evalmesh.load_generator.conductor.level_files import LevelFiles
from evalmesh.load_generator.seat.holding import SeatTools, SeatWorker
from evalmesh.load_generator.seat.local_copies import LocalFiles
from evalmesh.load_generator.seat.pairs import PairPool
from evalmesh.load_generator.seat.slices import SliceFiles
from evalmesh.load_generator.servicer import LoadServicer
from evalmesh.load_generator.settings import LoadGeneratorSettings
from evalmesh.ports.bus import Bus, Queue
from evalmesh.ports.environment import Clock, Secrets
from evalmesh.ports.load_tests.probe import LoadProbe
from evalmesh.ports.load_tests.server_metrics import OpenServerMetrics
from evalmesh.ports.load_tests.store import LoadTestStore
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.run_store import RunStore
from evalmesh.ports.signals import Signals
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.load_tests import load_test_is_over
from evalmesh.runtime.service import Service
from evalmesh.runtime.work import Worker, WorkPolicy
from evalmesh.v1 import load_generators_pb2_grpc


@dataclass(frozen=True, slots=True)
class LoadGeneratorPorts:
    """What the load generator is handed."""

    runs: RunStore
    load_tests: LoadTestStore
    bus: Bus
    signals: Signals
    objects: ObjectStore
    clock: Clock
    secrets: Secrets
    probe: LoadProbe
    open_server_metrics: OpenServerMetrics
    pairs: PairPool = field(default_factory=PairPool)
    """Process pairs that may be starting already."""


def build(settings: LoadGeneratorSettings, ports: LoadGeneratorPorts) -> Service:
    """The load generator: conducts load tests and holds seats of them."""
    scratch = Path(settings.scratch_dir or gettempdir()) / "evalmesh-load"
    scratch.mkdir(parents=True, exist_ok=True)
    control = ControlView(ports.runs, load_test_is_over(ports.load_tests))
    pairs = ports.pairs
    files = LocalFiles(ports.objects, scratch / "files")
    conducting = ConductWorker(_conductor_tools(settings, ports, control))
    seats = SeatWorker(_seat_tools(ports, control, pairs, files, scratch))
    workers = [
        Worker(
            bus=ports.bus,
            queue=Queue(step),
            handle=worker.handle,
            set_aside=worker.set_aside,
            control=control,
            policy=WorkPolicy(concurrency=most, max_deliveries=settings.max_deliveries, drain_s=settings.drain_s),
        )
        for step, worker, most in (
            (Step.CONDUCT, conducting, settings.conductors),
            (Step.LOAD, seats, settings.seats),
        )
        if most
    ]

    async def keep_warm() -> None:
        pairs.warm(min(settings.seats, settings.warm_pairs))
        await asyncio.Event().wait()

    def mount(server: grpc.aio.Server) -> None:
        servicer = LoadServicer(ports.objects, files, ports.probe, scratch)
        load_generators_pb2_grpc.add_LoadServiceServicer_to_server(servicer, server)

    return Service(
        name="load_generator",
        grpc_services=("evalmesh.v1.LoadService",),
        mount=mount,
        loops=(control.follow, keep_warm, *(worker.run for worker in workers)),
        close=pairs.close,
        ready=lambda: ports.bus.connected,
    )


def _conductor_tools(
    settings: LoadGeneratorSettings, ports: LoadGeneratorPorts, control: ControlView
) -> ConductorTools:
    return ConductorTools(
        tests=ports.load_tests,
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
    ports: LoadGeneratorPorts, control: ControlView, pairs: PairPool, files: LocalFiles, scratch: Path
) -> SeatTools:
    return SeatTools(
        tests=ports.load_tests,
        bus=ports.bus,
        signals=ports.signals,
        secrets=ports.secrets,
        clock=ports.clock,
        control=control,
        pairs=pairs,
        files=files,
        slices=SliceFiles(ports.objects),
        scratch=scratch,
    )
