"""Proxies that the environment names: for the load, and for the requests before it."""

import pytest
from tests.kit.engine import RawServer, chat_body, chat_events, end_frame, engine, plain, request_frame, streamed
from tests.kit.load_trouble import free_port
from tests.kit.model_servers import any_server

from evalmesh.adapters.load_http.probe import HttpProbe
from evalmesh.domain.errors import Unavailable
from evalmesh.domain.load_test import LoadLevel, LoadTarget

EVENTS = chat_events(4)
BEHIND = "http://model.invalid/v1/chat/completions"
"""Only a proxy could know this host."""
NUMBER = 6


async def answer(wire, body):
    await wire.send(streamed(EVENTS))


@pytest.fixture(autouse=True)
def no_proxies_of_this_machine(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def counts_of(target: LoadTarget) -> dict[str, int]:
    frames = [*(request_frame(index, chat_body(index)) for index in range(NUMBER)), end_frame(0)]
    with engine() as one:
        one.set_up(target)
        return one.play(frames, LoadLevel(parallel=2, number=NUMBER)).done.counts


@pytest.mark.parametrize(("transport", "counts"), [("auto", "ok"), ("compatible", "ok"), ("fast", "connect")])
def test_load_goes_through_the_proxy_unless_the_fast_transport_is_asked_for(transport, counts, monkeypatch) -> None:
    with RawServer(answer) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.partition("/v1")[0])
        assert counts_of(LoadTarget(BEHIND, "m", transport=transport)) == {counts: NUMBER}
        assert len(proxy.bodies) == (NUMBER if counts == "ok" else 0)


def test_no_proxy_leads_past_it(monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with RawServer(answer) as server:
        assert counts_of(LoadTarget(server.url, "m")) == {"ok": NUMBER}


async def test_the_request_before_the_load_takes_the_same_way(monkeypatch) -> None:
    async def whole(wire, body):
        await wire.send(plain("200 OK", b'{"choices": []}'))

    with RawServer(whole) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.partition("/v1")[0])
        found = await HttpProbe(any_server()).send(LoadTarget(BEHIND, "m"), b"{}", 2)
        assert (found.status, found.body) == (200, b'{"choices": []}')


async def test_a_proxy_that_is_away_is_told_from_a_server_that_is(monkeypatch) -> None:
    port = free_port()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    with pytest.raises(Unavailable, match=f"the proxy .*{port}.*refused.*no_proxy") as caught:
        await HttpProbe(any_server()).send(LoadTarget(BEHIND, "m"), b"{}", 2)
    assert "that the server is up" not in caught.value.message
