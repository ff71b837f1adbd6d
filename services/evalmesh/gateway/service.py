"""Wires the gateway."""

from collections.abc import Mapping
from dataclasses import dataclass

import grpc.aio

from evalmesh.domain.load_test import LoadTest
from evalmesh.gateway.forward import Forwarder
from evalmesh.gateway.load_tests.lifecycle import load_tests
from evalmesh.gateway.load_tests.servicer import LoadTestServicer
from evalmesh.gateway.peers import OpenChannel, Peers
from evalmesh.gateway.queues import QueueWatch
from evalmesh.gateway.runs.deletion import RunDeletion
from evalmesh.gateway.runs.lifecycle import run_lifecycle
from evalmesh.gateway.runs.reconciler import Reconciler, ReconcilerPolicy
from evalmesh.gateway.runs.servicer import RunServicer
from evalmesh.gateway.stores.collection import GarbageCollector
from evalmesh.gateway.stores.servicer import StoreServicer
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.records import RecordStore
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.runs import RunRecords
from evalmesh.runtime.service import Service
from evalmesh.runtime.submission import RecordBook
from evalmesh.v1 import load_tests_pb2_grpc, runs_pb2_grpc, stores_pb2_grpc
from evalmesh.wire.runs.shard_files import RunFiles


@dataclass(frozen=True, slots=True)
class GatewayPorts:
    """What the gateway is handed."""

    runs: RunStore
    load_tests: RecordStore[LoadTest]
    bus: Bus
    objects: ObjectStore
    clock: Clock


def build(
    ports: GatewayPorts,
    peers: Peers,
    routes: Mapping[str, OpenChannel],
    policy: ReconcilerPolicy | None = None,
    host: str = "",
) -> Service:
    """The gateway; `routes` are the gRPC services to pass on, by full name. See `GatewaySettings.host`."""
    records = RunRecords(ports.runs, ports.bus, ports.clock)
    runs = run_lifecycle(records, RunFiles(ports.objects), peers, host)
    deletion = RunDeletion(records, runs.stored)
    book = RecordBook(ports.load_tests, ports.bus, ports.clock)
    tests = load_tests(book, ports.runs, peers.check_load_test, host)
    collector = GarbageCollector(ports.runs, ports.load_tests, RunFiles(ports.objects), ports.clock)

    def mount(server: grpc.aio.Server) -> None:
        runs_pb2_grpc.add_RunServiceServicer_to_server(RunServicer(runs, deletion), server)
        load_tests_pb2_grpc.add_LoadTestServiceServicer_to_server(LoadTestServicer(tests, ports.objects), server)
        stores_pb2_grpc.add_StoreServiceServicer_to_server(StoreServicer(collector), server)
        if routes:
            server.add_generic_rpc_handlers((Forwarder(routes, peers.token),))

    return Service(
        name="gateway",
        grpc_services=("evalmesh.v1.RunService", "evalmesh.v1.LoadTestService", "evalmesh.v1.StoreService"),
        mount=mount,
        loops=(Reconciler(records, policy or ReconcilerPolicy(), deletion).run, QueueWatch(ports.bus).run),
        ready=lambda: ports.bus.connected,
    )
