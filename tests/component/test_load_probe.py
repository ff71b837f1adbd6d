"""Single requests before a load test, on the wire: what is kept of an answer."""

import json

import pytest
from tests.kit.engine import RawServer, chat_events, plain, streamed
from tests.kit.load_trouble import refusing
from tests.kit.model_servers import any_server

from evalmesh.adapters.load_http.probe import HttpProbe
from evalmesh.domain.errors import Unavailable
from evalmesh.domain.load_test import LoadTarget
from evalmesh.load_generator.probes.probing import said

TRANSPORTS = pytest.mark.parametrize("transport", ["fast", "compatible"])


async def ask(answer, transport):
    with RawServer(answer) as server:
        return await HttpProbe(any_server()).send(LoadTarget(server.url, "m", transport=transport), b"{}", 20)


@TRANSPORTS
async def test_the_reason_of_a_long_refusal_is_read_not_cut(transport) -> None:
    reason = "the prompt is too long " + "and repeated " * 200
    found = await ask(refusing("400 Bad Request", reason), transport)
    assert found.status == 400
    assert json.loads(found.body)["error"]["message"] == reason
    assert said(found).startswith("the prompt is too long")


@TRANSPORTS
async def test_a_body_without_end_is_given_up(transport) -> None:
    async def a_film(wire, body):
        await wire.send(plain("200 OK", b"<" + bytes(33 << 20)))

    with pytest.raises(Unavailable, match="a body of more than 32 MiB"):
        await ask(a_film, transport)


@TRANSPORTS
async def test_a_server_that_streams_whatever_it_is_asked_is_known_by_its_first_event(transport) -> None:
    async def stream(wire, body):
        await wire.send(streamed(chat_events(50)))

    found = await ask(stream, transport)
    assert found.body.startswith(b"data: {")
    assert b"\n" not in found.body
