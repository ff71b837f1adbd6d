"""A real nats-server for tests, and the means to kill it."""

import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from evalmesh.adapters.nats.connection import NatsConnection, connect
from evalmesh.adapters.nats.server import NatsServerProcess


@contextlib.contextmanager
def running_server(folder: Path, **options: int) -> Iterator[NatsServerProcess]:
    """For fixtures of a wider scope; starting takes about 20 ms."""
    server = NatsServerProcess(folder, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def kill(server: NatsServerProcess) -> None:
    """SIGKILL; returns once the server is gone. `server.start()` brings it back on the same port and data."""
    os.kill(server.pid, signal.SIGKILL)
    while server.alive:
        time.sleep(0.001)


@pytest.fixture
def nats_server(tmp_path) -> Iterator[NatsServerProcess]:
    with running_server(tmp_path / "nats") as server:
        yield server


@pytest.fixture
async def nats_connection(nats_server) -> AsyncIterator[NatsConnection]:
    connection = await connect(nats_server.url, "test")
    yield connection
    await connection.close()
