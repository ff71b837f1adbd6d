"""The adapters every service opens from its settings, and closes in the right order."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from evalmesh.adapters.nats.bus import BusSettings, NatsBus, open_bus
from evalmesh.adapters.nats.connection import connect
from evalmesh.adapters.nats.load_test_store import NatsLoadTestStore, open_load_test_store
from evalmesh.adapters.nats.run_store import NatsRunStore, open_run_store
from evalmesh.adapters.nats.signals import NatsSignals
from evalmesh.adapters.object_store import open_object_store
from evalmesh.domain.errors import InvalidInput
from evalmesh.ports.object_store import ObjectStore


@dataclass(frozen=True, slots=True)
class Connections:
    """Bus, records, bytes and signals."""

    bus: NatsBus
    runs: NatsRunStore
    load_tests: NatsLoadTestStore
    signals: NatsSignals
    objects: ObjectStore


@asynccontextmanager
async def open_connections(bus_url: str, objects_url: str, name: str, ack_wait_s: float) -> AsyncIterator[Connections]:
    """Connects; raises `Unavailable` or `InvalidInput` naming the setting or the address."""
    try:
        objects = open_object_store(objects_url)
    except InvalidInput as error:
        raise InvalidInput(f"objects_url (EVALMESH_OBJECTS_URL): {error.message}", error.details) from error
    connection = await connect(bus_url, name)
    try:
        bus = await open_bus(connection, BusSettings(ack_wait_s=ack_wait_s))
        runs = await open_run_store(connection, objects)
        load_tests = await open_load_test_store(connection)
        yield Connections(bus, runs, load_tests, NatsSignals(connection), objects)
    finally:
        await connection.close()
        await objects.close()
