"""Servers that are awkward, certificates that are wrong, disks that are small, and looks at what a command leaves."""

import datetime as dt
import gzip
import ipaddress
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.kit.engine import LAST_CHUNK, STREAM_HEAD, Wire, chat_events, chunk, delta, event, plain, streamed, usage

TOKENS = 8
EVENTS = chat_events(TOKENS)
MEGABYTE = 1 << 20
SUBJECT = "127.0.0.1"


def whole(content: str = " w" * TOKENS) -> bytes:
    """An answer in one piece, as a request gets that does not ask for a stream."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "length"}
    return json.dumps({**usage(TOKENS), "choices": [choice]}).encode()


def streams(body: bytes) -> bool:
    return bool(json.loads(body).get("stream"))


# Answers, for `tests.kit.engine.RawServer`.


async def sound(wire: Wire, body: bytes) -> None:
    await wire.send(streamed(EVENTS) if streams(body) else plain("200 OK", whole()))


async def http_1_0(wire: Wire, body: bytes) -> None:
    """Neither a length nor chunks: the end of the connection ends the answer."""
    kind = b"text/event-stream" if streams(body) else b"application/json"
    data = b"".join(EVENTS) if streams(body) else whole()
    await wire.send(b"HTTP/1.0 200 OK\r\nContent-Type: " + kind + b"\r\n\r\n", data)
    wire.close()


async def closing(wire: Wire, body: bytes) -> None:
    if streams(body):
        await wire.send(streamed(EVENTS).replace(b"Transfer", b"Connection: close\r\nTransfer"))
    else:
        await wire.send(plain("200 OK", whole(), b"Connection: close"))
    wire.close()


async def scattered(wire: Wire, body: bytes) -> None:
    """Signs of several bytes, cut anywhere: chunks and packets of 97 bytes."""
    if not streams(body):
        await wire.send(plain("200 OK", whole("héllo 🙂 世界")))
        return
    words = [delta(content=f"héllo 🙂 世界 {number}") for number in range(TOKENS)]
    raw = [json.dumps(one, ensure_ascii=False).encode() for one in (*words, delta("length"), usage(TOKENS))]
    data = b"".join(map(event, [*raw, b"[DONE]"]))
    await wire.send(STREAM_HEAD, *(chunk(data[at : at + 97]) for at in range(0, len(data), 97)), LAST_CHUNK)


async def huge(wire: Wire, body: bytes) -> None:
    """One event of a MiB."""
    if not streams(body):
        await wire.send(plain("200 OK", whole("x" * MEGABYTE)))
        return
    await wire.send(streamed([*map(event, [delta(content="x" * MEGABYTE), delta("length"), usage(TOKENS)])]))


async def zipped(wire: Wire, _: bytes) -> None:
    await wire.send(plain("200 OK", gzip.compress(whole()), b"Content-Encoding: gzip"))


async def page(wire: Wire, _: bytes) -> None:
    await wire.send(plain("200 OK", b"<html>\x1b[31mWelcome to nginx!</html>"))


async def moved(wire: Wire, _: bytes) -> None:
    await wire.send(plain("301 Moved Permanently", b"", b"Location: /v2/chat/completions"))


async def silent(wire: Wire, _: bytes) -> None:
    await wire.reader.read()


def refusing(status: str, said: str) -> Callable[[Wire, bytes], Any]:
    async def refuse(wire: Wire, _: bytes) -> None:
        await wire.send(plain(status, json.dumps({"error": {"message": said}}).encode()))

    return refuse


@contextmanager
def never_accepting() -> Iterator[int]:
    """A port whose queue of connections is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            one = stack.enter_context(socket.socket())
            one.settimeout(0)
            one.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Certificates.


@dataclass(frozen=True)
class Authority:
    """Signs certificates into a folder."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    name: x509.Name

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    def server(self, name: str, host: str = SUBJECT, days: int = 2) -> ssl.SSLContext:
        """For a server of this host whose certificate ends in so many days."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            subject = x509.DNSName(host)
        built = _certificate(name, self.name, key, days).add_extension(
            x509.SubjectAlternativeName([subject]), critical=False
        )
        own = self.folder / f"{name}.pem"
        form = serialization.PrivateFormat.TraditionalOpenSSL
        own.write_bytes(
            built.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own)
        return context


def authority(folder: Path) -> Authority:
    """An authority that only its own file makes trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test's own authority")])
    built = _certificate("a test's own authority", name, key, 2).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    one = Authority(folder, key, name)
    one.ca_file.write_bytes(built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return one


def _certificate(name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=9))
        .not_valid_after(now + dt.timedelta(days=days))
    )


# What is left.


def files_with(text: str, folder: Path) -> list[Path]:
    """Files that hold this text, those of the platform included."""
    return [one for one in folder.rglob("*") if one.is_file() and text.encode() in one.read_bytes()]


def scratch_of(folder: Path) -> list[Path]:
    """What lies about in the scratch folders of a work directory."""
    return [one for one in folder.rglob(".evalmesh/scratch/**/*") if one.is_file()]
