"""What most component tests begin with: a real bus and a folder of objects."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.kit.nats import running_server

from evalmesh.adapters.connections import Connections, open_connections


@pytest.fixture
def ack_wait_s() -> float:
    """How long an item may be in hand without a sign of life."""
    return 2.0


@pytest.fixture
async def opened(tmp_path: Path, ack_wait_s: float) -> AsyncIterator[Connections]:
    """Connections to both."""
    with running_server(tmp_path / "nats") as nats:
        async with open_connections(nats.url, (tmp_path / "objects").as_uri(), "test", ack_wait_s) as connections:
            yield connections
