"""An endpoint that goes away: nothing is asked but small questions, and nothing is lost within the user's patience."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from tests.component.test_openai_endpoint import (
    CONFIG,
    FAST,
    Behaviour,
    Server,
    chat,
    closed_port,
    is_look,
    listening,
    ok,
    opened,
    reset,
    server,
    slow,
    stall,
    status,
)
from tests.kit.model_servers import any_server

from evalmesh.adapters.openai.endpoint import OpenAIEndpoint, open_openai_endpoint
from evalmesh.adapters.openai.neighbours import Neighbours
from evalmesh.domain.run import ModelSpec
from evalmesh.domain.work import Pool
from evalmesh.ports.endpoint import EndpointGone

__all__ = ["server"]  # the fixture


async def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  (the endpoint has no event for it)
            await asyncio.sleep(0.01)


def asked(server: Server) -> list[dict]:
    """What was asked but the looks."""
    return [body for body in server.bodies if not is_look(body)]


async def test_a_server_that_restarts_costs_nothing():
    server = Server()
    server.script = [slow(0.02)]
    async with listening(server):
        url = server.url
    async with opened(url, max_tries=3) as endpoint:
        async with listening(server):
            tasks = [asyncio.create_task(endpoint.generate(chat(n), CONFIG)) for n in range(40)]
            await server.received(12)
        await until(lambda: endpoint.trouble)
        async with listening(server):
            completions = await asyncio.gather(*tasks)
        assert endpoint.trouble == ""
    assert [completion.text for completion in completions] == ["four"] * 40
    assert max(completion.tries for completion in completions) <= 3, "it was looked after the server, not tried"


@pytest.mark.parametrize(
    "away",
    [status(502), status(503), status(504), status(529), status(429), reset, stall],
    ids=["502", "503", "504", "529", "429", "reset", "stall"],
)
async def test_a_server_that_answers_nobody_for_a_while_loses_nothing(server, away: Behaviour):
    """Each request may fail twice; it is refused until a look is answered."""
    down = asyncio.Event()

    async def behave(request: web.Request) -> web.StreamResponse:
        return await (away if down.is_set() else slow(0.02))(request)

    server.script = [behave]
    async with opened(server.url, max_tries=2, try_timeout_s=0.2) as endpoint:
        tasks = [asyncio.create_task(endpoint.generate(chat(n), CONFIG)) for n in range(60)]
        await server.received(10)
        down.set()
        await until(lambda: endpoint.trouble)
        before = len(asked(server))
        await until(lambda: sum(map(is_look, server.bodies)) > 8)
        assert len(asked(server)) == before, "only looks while it is away"
        down.clear()
        completions = await asyncio.gather(*tasks)
    assert [completion.error for completion in completions] == [None] * 60


async def test_an_outage_is_told_with_how_long_it_lasts_and_why():
    async with opened(f"http://127.0.0.1:{closed_port()}/v1", outage_timeout_s=3600) as endpoint:
        waiting = asyncio.create_task(endpoint.generate(chat(), CONFIG))
        await until(lambda: endpoint.trouble)
        assert "has not answered for 1 s, trying again for 59 min 59 s more" in endpoint.trouble
        assert "connection refused" in endpoint.trouble
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_an_endpoint_that_stays_away_is_given_up_and_asked_again_for_the_next_wish():
    server = Server()
    server.port = closed_port()
    async with opened(server.url, outage_timeout_s=0.3) as endpoint:
        endpoint.renew("run/0")
        results = await asyncio.gather(
            *(endpoint.generate(chat(n), CONFIG) for n in range(300)), return_exceptions=True
        )
        assert {type(result) for result in results} == {EndpointGone}
        assert f"127.0.0.1:{server.port}" in results[0].message
        assert "--outage-timeout" in results[0].message
        endpoint.renew("run/0")
        with pytest.raises(EndpointGone):
            await endpoint.generate(chat(), CONFIG)
        async with listening(server):
            endpoint.renew("run/1")
            assert (await endpoint.generate(chat(), CONFIG)).text == "four"


async def test_the_time_of_a_request_stands_still_in_an_outage():
    server = Server()
    server.port = closed_port()
    async with opened(server.url, total_timeout_s=0.5) as endpoint:
        waiting = asyncio.create_task(endpoint.generate(chat(), CONFIG))
        await until(lambda: endpoint.trouble)  # after a second
        async with listening(server):
            assert (await waiting).text == "four"


async def test_a_request_that_breaks_a_server_that_answers_others_is_its_own_failure(server):
    async def behave(_: web.Request) -> web.StreamResponse:
        poison = server.bodies[-1]["messages"][0]["content"] == "2+2?"
        return await (status(503, "out of memory") if poison else ok)(_)

    server.script = [behave]
    async with opened(server.url, max_tries=3) as endpoint:
        completion = await endpoint.generate(chat(), CONFIG)
    assert (completion.error.error_class, completion.tries, len(asked(server))) == ("server", 3, 3)
    assert "out of memory" in completion.error.message


# Waits that a server asks for


@pytest.mark.alone
async def test_a_wait_of_a_day_is_told_and_ends_with_the_time_of_the_requests(server):
    """Those that were never sent included."""
    server.script = [status(429, "slow down", headers={"Retry-After": "86400"})]
    async with opened(server.url, concurrency=2, total_timeout_s=2.0) as endpoint:
        started = time.monotonic()
        tasks = [asyncio.create_task(endpoint.generate(chat(n), CONFIG)) for n in range(30)]
        await until(lambda: endpoint.trouble)
        assert "asks to wait 24 h" in endpoint.trouble
        completions = await asyncio.gather(*tasks)
    assert time.monotonic() - started < 5
    assert {completion.error.error_class for completion in completions} <= {"rate_limited", "timeout"}
    assert all("total_timeout_s" in completion.error.message for completion in completions)
    assert len(server.bodies) < 30


@pytest.mark.alone
async def test_a_wait_of_a_day_is_no_longer_than_the_patience_with_an_outage(server):
    server.script = [status(429, "slow down", headers={"Retry-After": "86400"})]
    async with opened(server.url, concurrency=8, outage_timeout_s=1.0) as endpoint:
        started = time.monotonic()
        results = await asyncio.gather(*(endpoint.generate(chat(n), CONFIG) for n in range(30)), return_exceptions=True)
    assert time.monotonic() - started < 5
    assert {type(result) for result in results} == {EndpointGone}


# Several pools of one server


@asynccontextmanager
async def pools(url: str, count: int, **spec) -> AsyncIterator[list[OpenAIEndpoint]]:
    """They differ in how many requests they have in flight, as those of two runs would."""
    neighbours = Neighbours()
    models = [ModelSpec("m", url=url, concurrency=8 + n, **spec) for n in range(count)]
    endpoints = [
        open_openai_endpoint(Pool(f"p{n}", model), any_server(), FAST, neighbours=neighbours)
        for n, model in enumerate(models)
    ]
    try:
        yield endpoints
    finally:
        for endpoint in endpoints:
            await endpoint.close()


class FewConnections(Server):
    """Ends every connection beyond its first four without a word."""

    def __init__(self) -> None:
        super().__init__()
        self.open: set[asyncio.BaseTransport] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.open = {transport for transport in self.open if not transport.is_closing()}
        if request.transport not in self.open and len(self.open) >= 4:
            return await reset(request)
        self.open.add(request.transport)
        return await super().handle(request)


async def test_pools_of_a_server_with_few_connections_lose_nothing():
    """The first pool's idle connections are all that the server gives: the second one asks over them."""
    server = FewConnections()
    server.script = [slow(0.01)]
    async with listening(server), pools(server.url, 2, max_tries=3) as (first, second):
        alone = await asyncio.gather(*(first.generate(chat(n), CONFIG) for n in range(100)))
        together = await asyncio.gather(
            *(endpoint.generate(chat(n), CONFIG) for n in range(100) for endpoint in (first, second))
        )
    assert {completion.error for completion in [*alone, *together]} == {None}


async def test_pools_of_one_server_share_its_slots_and_its_looks(server):
    server.script = [slow(0.02)]
    async with pools(server.url, 3) as endpoints:
        await asyncio.gather(*(one.generate(chat(n), CONFIG) for n in range(40) for one in endpoints))
    assert server.most_in_flight == 10, "what the most demanding of them may have"


async def test_what_was_checked_is_not_looked_at_again_by_the_pool(server):
    neighbours, model = Neighbours(), ModelSpec("m", url=server.url)
    policy = replace(FAST, proven_s=60.0)
    checked, pool = (open_openai_endpoint(Pool("p", model), any_server(), policy, neighbours=neighbours) for _ in "ab")
    await checked.check()
    await checked.close()
    assert (await pool.generate(chat(), CONFIG)).text == "four"
    await pool.close()
    assert len(server.bodies) == 2
