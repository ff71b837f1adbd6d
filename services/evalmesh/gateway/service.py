"""Wires the gateway."""

from collections.abc import Mapping
from dataclasses import dataclass

import grpc.aio

from evalmesh.gateway.forward import Forwarder
from evalmesh.gateway.load_tests.lifecycle import LoadTestLifecycle
from evalmesh.gateway.load_tests.servicer import LoadTestServicer
from evalmesh.gateway.peers import OpenChannel, Peers
from evalmesh.gateway.runs.lifecycle import RunLifecycle
from evalmesh.gateway.runs.servicer import RunServicer
from evalmesh.ports.bus import Bus
from evalmesh.ports.environment import Clock
from evalmesh.ports.load_tests.store import LoadTestStore
from evalmesh.ports.object_store import ObjectStore
from evalmesh.ports.run_store import RunStore
from evalmesh.runtime.service import Service
from evalmesh.v1 import load_tests_pb2_grpc, runs_pb2_grpc


@dataclass(frozen=True, slots=True)
class GatewayPorts:
    """What the gateway is handed."""

    runs: RunStore
    load_tests: LoadTestStore
    bus: Bus
    objects: ObjectStore
    clock: Clock


def build(ports: GatewayPorts, peers: Peers, routes: Mapping[str, OpenChannel]) -> Service:
    """The gateway; `routes` are the gRPC services to pass on, by full name."""
    runs = RunLifecycle(ports.runs, ports.bus, ports.objects, ports.clock, peers.check_run)
    load_tests = LoadTestLifecycle(ports.load_tests, ports.runs, ports.bus, ports.clock, peers.check_load_test)

    def mount(server: grpc.aio.Server) -> None:
        runs_pb2_grpc.add_RunServiceServicer_to_server(RunServicer(runs), server)
        load_tests_pb2_grpc.add_LoadTestServiceServicer_to_server(LoadTestServicer(load_tests, ports.objects), server)
        if routes:
            server.add_generic_rpc_handlers((Forwarder(routes),))

    return Service(
        name="gateway",
        grpc_services=("evalmesh.v1.RunService", "evalmesh.v1.LoadTestService"),
        mount=mount,
        ready=lambda: ports.bus.connected,
    )
