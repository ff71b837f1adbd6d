"""Every way an answer can fail is told apart and counted exactly, by the engine as a real process."""

import asyncio
import collections
import datetime as dt
import ipaddress
import socket
import ssl
import time

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.kit.engine import (
    LAST_CHUNK,
    STREAM_HEAD,
    RawServer,
    chat_body,
    chat_events,
    chunk,
    delta,
    end_frame,
    engine,
    event,
    plain,
    request_frame,
    streamed,
    usage,
)

from evalmesh.domain.load_test import ArrivalSpec, LoadLevel, LoadTarget
from evalmesh.load.measure.records import Flag, Outcome

TOKENS = 6
EVENTS = chat_events(TOKENS)
WHOLE = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "a b"}, "finish_reason": "stop"}]}


async def sound(wire):
    await wire.send(streamed(EVENTS))


async def in_pieces(wire):
    data = streamed(EVENTS)
    await wire.send(*(data[at : at + 37] for at in range(0, len(data), 37)))


async def with_carriage_returns(wire):
    lines = b": alive\r\n\r\n" + b"".join(EVENTS).replace(b"\n", b"\r\n")
    await wire.send(STREAM_HEAD + chunk(lines[:100]), chunk(lines[100:]) + LAST_CHUNK)


async def until_closed(wire):
    await wire.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", b"".join(EVENTS))
    wire.close()


async def with_close(wire):
    await wire.send(streamed(EVENTS).replace(b"Transfer", b"Connection: close\r\nTransfer"))
    wire.close()


async def after_continue(wire):
    await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n", streamed(EVENTS))


async def of_known_length(wire):
    body = b"".join(EVENTS)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body)
    await wire.send(head + body[:80], body[80:])


async def without_end_mark(wire):
    await wire.send(streamed(EVENTS[:-1]))


async def in_one_piece(wire):
    await wire.send(plain("200 OK", msgspec.json.encode(WHOLE)))


async def refused(wire):
    await wire.send(plain("500 Internal Server Error", b'{"error":{"message":"no idea"}}'))


async def throttled(wire):
    await wire.send(plain("429 Too Many Requests", b"{}", b"Retry-After: 1"))


async def moved(wire):
    await wire.send(plain("302 Found", b"", b"Location: /elsewhere"))


async def broken(wire):
    await wire.send(STREAM_HEAD + b"".join(map(chunk, EVENTS[:3])))
    wire.reset()


async def broken_at_once(wire):
    wire.reset()


async def without_last_chunk(wire):
    await wire.send(STREAM_HEAD + b"".join(map(chunk, EVENTS)))
    wire.close()


async def short_of_length(wire):
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    wire.close()


async def without_finish(wire):
    await wire.send(streamed(EVENTS[:4]))


async def only_end_mark(wire):
    await wire.send(streamed([*EVENTS[:4], event(b"[DONE]")]))


async def cut_in_event(wire):
    await wire.send(streamed([*EVENTS[:4], EVENTS[4][:30]]))


async def bad_event(wire):
    await wire.send(streamed([*EVENTS[:3], b'data: {"choices": [{"ind\n\n', *EVENTS[3:]]))


async def wrong_shape(wire):
    await wire.send(streamed([*EVENTS[:3], event({"choices": [{"delta": {"content": 5}}]}), *EVENTS[3:]]))


async def no_http(wire):
    await wire.send(b"hello there\r\n\r\n")
    wire.close()


async def cut_json(wire):
    await wire.send(plain("200 OK", msgspec.json.encode(WHOLE)[:40]))


async def error_object(wire):
    await wire.send(streamed([*EVENTS[:3], event({"error": {"message": "out of memory"}}), event(b"[DONE]")]))


async def error_then_broken(wire):
    await wire.send(STREAM_HEAD + chunk(EVENTS[0]), chunk(event({"error": {"message": "out of memory"}})))
    wire.reset()


async def without_content(wire):
    await wire.send(streamed(map(event, [delta(role="assistant", content=""), delta("stop"), usage(1), b"[DONE]"])))


async def silent(wire):
    await wire.send(STREAM_HEAD + chunk(EVENTS[0]))
    await asyncio.sleep(30)


async def mute(wire):
    await asyncio.sleep(30)


async def endless(wire):
    await wire.send(STREAM_HEAD)
    for _ in range(100):
        await wire.send(chunk(EVENTS[1]))
        await asyncio.sleep(0.05)


CASES = [
    (sound, Outcome.OK),
    (in_pieces, Outcome.OK),
    (with_carriage_returns, Outcome.OK),
    (until_closed, Outcome.OK),
    (with_close, Outcome.OK),
    (after_continue, Outcome.OK),
    (of_known_length, Outcome.OK),
    (without_end_mark, Outcome.OK),
    (in_one_piece, Outcome.OK),
    (only_end_mark, Outcome.OK),
    (refused, Outcome.HTTP),
    (throttled, Outcome.HTTP),
    (moved, Outcome.HTTP),
    (broken, Outcome.RESET),
    (broken_at_once, Outcome.RESET),
    (without_last_chunk, Outcome.RESET),
    (short_of_length, Outcome.RESET),
    (without_finish, Outcome.TRUNCATED),
    (cut_in_event, Outcome.TRUNCATED),
    (bad_event, Outcome.MALFORMED),
    (wrong_shape, Outcome.MALFORMED),
    (no_http, Outcome.MALFORMED),
    (cut_json, Outcome.MALFORMED),
    (error_object, Outcome.ERROR_EVENT),
    (error_then_broken, Outcome.ERROR_EVENT),
    (without_content, Outcome.EMPTY),
    (silent, Outcome.READ_TIMEOUT),
    (mute, Outcome.READ_TIMEOUT),
    (endless, Outcome.TOTAL_TIMEOUT),
]
ROUNDS = 3
STATUSES = {refused: 500, throttled: 429, moved: 302}


async def answer_by_index(wire, body):
    index = int(msgspec.json.decode(body)["messages"][0]["content"].split()[1])
    await CASES[index % len(CASES)][0](wire)


def frames(count, level=0):
    return [*(request_frame(index, chat_body(index)) for index in range(count)), end_frame(level)]


@pytest.mark.parametrize("transport", ["fast", "compatible"])
def test_every_fault_is_told_apart_and_counted_exactly(transport) -> None:
    total = ROUNDS * len(CASES)
    with RawServer(answer_by_index) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m", transport=transport, read_timeout_s=0.5, total_timeout_s=1.5))
        played = one.play(frames(total), LoadLevel(parallel=10, number=total))
    wanted = [CASES[index % len(CASES)] for index in range(total)]
    wrong = [
        (answer.__name__, outcome.name, found.name)
        for (answer, outcome), found in zip(wanted, played.outcomes(), strict=True)
        if found is not outcome
    ]
    assert wrong == []
    classes = collections.Counter(
        f"http_{STATUSES[answer]}" if answer in STATUSES else outcome.name.lower() for answer, outcome in wanted
    )
    assert played.done.counts == dict(classes)
    assert sum(played.done.counts.values()) == total == played.done.records
    assert sum(tick.ok for tick in played.ticks) == classes["ok"]
    seen = collections.Counter()
    for tick in played.ticks:
        seen.update(tick.errors)
    assert dict(seen) == {name: count for name, count in classes.items() if name != "ok"}
    # No failure was hidden by sending again.
    assert len(server.bodies) == total


def test_records_tell_what_came_before_the_failure() -> None:
    with RawServer(answer_by_index) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m", read_timeout_s=0.3))
        played = one.play(frames(len(CASES) - 1), LoadLevel(parallel=4, number=len(CASES) - 1))
    records = {CASES[record["index"]][0]: record for record in played.records}
    assert records[sound]["output_tokens"] == records[sound]["chunks"] == TOKENS
    assert records[sound]["input_tokens"] == 7
    assert records[sound]["flags"] & Flag.USAGE
    assert records[broken]["chunks"] == 2
    assert records[broken]["status"] == 200
    assert not records[broken]["flags"] & Flag.USAGE
    assert records[broken_at_once]["status"] == 0
    assert records[refused]["status"] == 500
    silent_for = records[silent]["end_s"] - records[silent]["send_s"]
    assert 0.3 <= silent_for < 2
    assert played.done.examples["http_500"] == '{"error":{"message":"no idea"}}'
    assert played.done.examples["error_event"] == "out of memory"
    assert played.done.examples["http_302"] == "/elsewhere"
    assert "closed" in played.done.examples["reset"] or "broke" in played.done.examples["reset"]


@pytest.mark.alone  # a machine that is late by 10 ms sends the next request before it sees the end
@pytest.mark.parametrize("transport", ["fast", "compatible"])
def test_an_idle_connection_that_the_server_closes_is_no_failure(transport) -> None:
    async def once(wire, body):
        await wire.send(streamed(EVENTS))
        # The client was told that the connection stays.
        wire.close()

    # An end that crosses a request may be told by a reset, which is the server's; one that came before must not be.
    sent = [request_frame(index, chat_body(index), due_s=index / 100) for index in range(40)]
    with RawServer(once) as server, engine() as one:
        one.set_up(LoadTarget(server.url, "m", transport=transport))
        level = LoadLevel(rate=100, parallel=1, number=40)
        played = one.play([*sent, end_frame(0)], level, arrival=ArrivalSpec("constant"))
    assert played.done.counts == {"ok": 40}
    assert len(server.bodies) == 40


def no_server() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("transport", ["fast", "compatible"])
@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_server_that_cannot_be_reached(transport, host) -> None:
    with engine() as one:
        one.set_up(LoadTarget(f"http://{host}:{no_server()}/v1", "m", transport=transport))
        played = one.play(frames(6), LoadLevel(parallel=2, number=6))
    assert played.done.counts == {"connect": 6}
    assert played.done.examples["connect"]
    assert played.done.connections == 0
    assert all(record["send_s"] >= record["due_s"] for record in played.records)


@pytest.mark.parametrize("transport", ["fast", "compatible"])
def test_a_connection_that_is_never_accepted(transport) -> None:
    with socket.socket() as full, engine() as one:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.settimeout(0)
            sock.connect_ex(address)
        time.sleep(0.1)
        target = LoadTarget(f"http://127.0.0.1:{address[1]}/v1", "m", connect_timeout_s=0.3, transport=transport)
        one.set_up(target)
        played = one.play(frames(3), LoadLevel(parallel=3, number=3))
        for sock in waiting:
            sock.close()
    assert played.done.counts == {"connect_timeout": 3}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A server's certificate that nobody has signed but itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.TraditionalOpenSSL
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return folder


@pytest.mark.parametrize("transport", ["fast", "compatible"])
@pytest.mark.parametrize("trust", ["system", "file", "off"])
def test_tls(certificate, transport, trust) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with RawServer(lambda wire, _: sound(wire), ssl=context) as server, engine() as one:
        ca_file = str(certificate / "cert.pem") if trust == "file" else ""
        one.set_up(LoadTarget(server.url, "m", transport=transport, ca_file=ca_file, verify_tls=trust != "off"))
        played = one.play(frames(4), LoadLevel(parallel=2, number=4))
    assert played.done.counts == ({"tls": 4} if trust == "system" else {"ok": 4})
    if trust == "system":
        assert "certificate" in played.done.examples["tls"]


@pytest.mark.parametrize("transport", ["fast", "compatible"])
def test_tls_with_a_server_that_speaks_none(transport) -> None:
    with RawServer(lambda wire, _: sound(wire)) as server, engine() as one:
        one.set_up(LoadTarget(server.url.replace("http:", "https:"), "m", transport=transport, connect_timeout_s=2.0))
        # The server waits for the end of a head: it closes at the first line that is none.
        played = one.play(frames(2), LoadLevel(parallel=1, number=2))
    assert set(played.done.counts) <= {"tls", "connect_timeout"}
    assert sum(played.done.counts.values()) == 2
