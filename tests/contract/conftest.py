import pytest
from tests.kit.nats import nats_connection, nats_server

from evalmesh.adapters.object_store import open_object_store

__all__ = ["nats_connection", "nats_server"]


@pytest.fixture
async def objects(tmp_path):
    store = open_object_store((tmp_path / "objects").as_uri())
    yield store
    await store.close()
