"""A shard that the queue hands out twice is worked on by one runner at a time."""

import asyncio

import pytest

from evalmesh.adapters.nats.connection import connect
from evalmesh.adapters.nats.signals import NatsSignals
from evalmesh.domain.work import Shard, Task, WorkItem
from evalmesh.model_runner.holds import Holds


def item(shard: int) -> WorkItem:
    return WorkItem("run1", Task.STAGE, "mmlu", "generate", "generate", Shard(shard, "all", 0, 16, 16), pool="p")


@pytest.fixture
async def here(nats_connection):
    return Holds(NatsSignals(nats_connection))


@pytest.fixture
async def connection(nats_server):
    there = await connect(nats_server.url, "there")
    yield there
    await there.close()


async def test_who_is_handed_a_shard_that_another_runner_holds_waits_until_it_lets_go(here, connection):
    there = Holds(NatsSignals(connection))
    async with there.hold(item(1)):
        await there.wait_free(item(2))
        await here.wait_free(item(2))
        waiting = asyncio.create_task(here.wait_free(item(1)))
        done, _ = await asyncio.wait({waiting}, timeout=1.5)
        assert not done
    await asyncio.wait_for(waiting, 10)


async def test_what_a_runner_held_that_is_gone_is_free(here, connection):
    async with Holds(NatsSignals(connection)).hold(item(1)):
        waiting = asyncio.create_task(here.wait_free(item(1)))
        await asyncio.sleep(0)
        await connection.close()
        await asyncio.wait_for(waiting, 10)
