"""The engine of the load generator as its service drives it, and a server that answers with the bytes it is told."""

import asyncio
import json
import math
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec

from evalmesh.domain.load_test import ArrivalSpec, LoadLevel, LoadTarget
from evalmesh.load.measure.records import FIELDS, HEADER, MAGIC, RECORD, Outcome
from evalmesh.load_generator.protocol import (
    FRAME,
    Conversation,
    Done,
    EngineSaid,
    EngineSetup,
    FrameKind,
    Ready,
    RunLevel,
    Start,
    Stop,
    Tick,
)

_decode = msgspec.json.Decoder(EngineSaid).decode
_NAMES = [name for name, _ in FIELDS]


def chat_body(index: int = 0, max_tokens: int = 16, **more: Any) -> bytes:
    messages = [{"role": "user", "content": f"question {index}"}]
    body = {"model": "m", "messages": messages, "stream": True, "max_tokens": max_tokens}
    return json.dumps({**body, "stream_options": {"include_usage": True}, **more}).encode()


def request_frame(
    index: int, body: bytes, *, due_s: float = math.nan, flags: int = 0, prepared: int = 0, max_tokens: int = 16
) -> bytes:
    head = FRAME.pack(FrameKind.REQUEST, flags, 0, len(body), index, due_s, 0.0, index, prepared, max_tokens, 0)
    return head + body


def conversation_frame(
    index: int, turns: Sequence[str], *, think_s: float = 0.0, system: str = "", stream: bool = True
) -> bytes:
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    rest = msgspec.Raw(json.dumps({"model": "m", **(streamed if stream else {})}).encode())
    thinks = [0.0] + [think_s] * (len(turns) - 1)
    talk = Conversation(rest, system, list(turns), thinks, [16] * len(turns), [5] * len(turns))
    body = msgspec.json.encode(talk)
    head = FRAME.pack(FrameKind.CONVERSATION, 0, len(turns), len(body), index, math.nan, 0.0, index, 0, 0, 0)
    return head + body


def end_frame(number: int = 0) -> bytes:
    return FRAME.pack(FrameKind.LEVEL_END, 0, 0, 0, number, math.nan, 0.0, 0, 0, 0, 0)


def failed_frame(sentence: str) -> bytes:
    body = sentence.encode()
    return FRAME.pack(FrameKind.FAILED, 0, 0, len(body), 0, math.nan, 0.0, 0, 0, 0, 0) + body


def requests(number: int, *, level: int = 0, rate: float = 0.0, **more: Any) -> Iterator[bytes]:
    """Chat requests, and the end of the level."""
    for index in range(number):
        due_s = index / rate if rate else math.nan
        yield request_frame(index, chat_body(index), due_s=due_s, **more)
    yield end_frame(level)


def read_records(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    assert HEADER.unpack_from(data) == (MAGIC, RECORD.size)
    whole = (len(data) - HEADER.size) // RECORD.size
    return [
        dict(zip(_NAMES, RECORD.unpack_from(data, HEADER.size + i * RECORD.size), strict=True)) for i in range(whole)
    ]


@dataclass
class Played:
    """What the engine said of a level, and what it wrote."""

    done: Done
    ticks: list[Tick]
    records: list[dict[str, Any]]

    def outcomes(self) -> list[Outcome]:
        return [Outcome(one["outcome"]) for one in sorted(self.records, key=lambda one: (one["index"], one["turn"]))]


@dataclass
class EngineProcess:
    process: subprocess.Popen[bytes]
    feed: socket.socket
    folder: Path
    threads: list[threading.Thread] = field(default_factory=list)

    def tell(self, command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(command) + b"\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the engine ended with {self.process.wait(5)}"
        return _decode(line)

    def set_up(self, target: LoadTarget, headers: dict[str, str] | None = None, generator: int = 0) -> None:
        self.tell(EngineSetup(target, headers or {}, generator))

    def send(self, frames: Iterable[bytes]) -> None:
        """Feeds from a thread, for the socket takes only so much; after what was to be fed before."""
        before = self.threads[-1:]

        def feed() -> None:
            for thread in before:
                thread.join()
            try:
                for frame in frames:
                    self.feed.sendall(frame)
            except OSError:
                return

        thread = threading.Thread(target=feed, daemon=True)
        thread.start()
        self.threads.append(thread)

    def prepare(self, frames: Iterable[bytes], level: LoadLevel, **more: Any) -> Path:
        """Feeds a level and waits until it is ready."""
        number = more.pop("number", 0)
        arrival = more.pop("arrival", ArrivalSpec())
        path = Path(more.pop("records_path", self.folder / f"{number}.bin"))
        self.tell(RunLevel(number, level, arrival, str(path), more.pop("drain_s", 0.0), more.pop("goodput_ms", {})))
        self.send(frames)
        assert self.hear() == Ready(number)
        return path

    def play(self, frames: Iterable[bytes], level: LoadLevel, **more: Any) -> Played:
        """A whole level. `stop_after_s`: ends it so long after its start."""
        stop_after_s = more.pop("stop_after_s", None)
        path = self.prepare(frames, level, **more)
        start_at = time.monotonic() + 0.02
        self.tell(Start(start_at))
        if stop_after_s is not None:
            time.sleep(0.02 + stop_after_s)
            self.tell(Stop("enough"))
        return self.finish(path)

    def finish(self, path: Path) -> Played:
        ticks: list[Tick] = []
        while not isinstance(said := self.hear(), Done):
            ticks.append(said)
        return Played(said, ticks, read_records(path) if path.is_file() else [])


@contextmanager
def engine() -> Iterator[EngineProcess]:
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryDirectory() as folder:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "evalmesh.load_generator.engine", "--feed-fd", str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
            )
        one = EngineProcess(process, ours, Path(folder))
        try:
            yield one
        finally:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            try:
                process.wait(5)
            finally:
                process.kill()
                process.wait()
                process.stdout.close()
                ours.shutdown(socket.SHUT_RDWR)
                for thread in one.threads:
                    thread.join(5)


Answer = Callable[["Wire", bytes], Awaitable[None]]
"""What the server does with a request: its connection, and the body it got."""


class Wire:
    """The server's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.number = 0
        """Requests before this one on the connection."""

    async def send(self, *pieces: bytes) -> None:
        """Each piece in a packet of its own."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.002)

    def reset(self) -> None:
        """Breaks the connection with RST."""
        own = self.writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()

    async def read_request(self) -> bytes | None:
        """The body of the next request with one; there is no page of metrics here, which the platform looks for."""
        try:
            while (head := await self.reader.readuntil(b"\r\n\r\n")).startswith(b"GET "):
                await self.send(plain("404 Not Found", b""))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return await self.reader.readexactly(length)


class RawServer:
    """Answers with what a test wrote; runs in a thread of its own."""

    def __init__(self, answer: Answer, host: str = "127.0.0.1", **listen: Any) -> None:
        self._answer = answer
        self._host = host
        self._listen = listen
        self.bodies: list[bytes] = []
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        scheme = "https" if "ssl" in self._listen else "http"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self.port}/v1/chat/completions"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        wire = Wire(reader, writer)
        try:
            while (body := await wire.read_request()) is not None:
                self.bodies.append(body)
                await self._answer(wire, body)
                wire.number += 1
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _run(self, started: threading.Event) -> None:
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._serve, self._host, 0, **self._listen)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._over.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), daemon=True)
        self._thread.start()
        assert started.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(5)


# Answers

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def event(value: Any) -> bytes:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return b"data: " + data + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def delta(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def usage(output: int, prompt: int = 7) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": output}}


def chat_events(tokens: int, finish: str = "length") -> list[bytes]:
    """A sound stream: role, tokens, finish reason, usage, end mark."""
    found = [delta(role="assistant", content=""), *(delta(content=f" w{i}") for i in range(tokens))]
    return [*map(event, [*found, delta(finish), usage(tokens)]), event(b"[DONE]")]


def streamed(events: Sequence[bytes]) -> bytes:
    """The whole answer, a chunk per event."""
    return STREAM_HEAD + b"".join(map(chunk, events)) + LAST_CHUNK


def plain(status: str, body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status.encode(), b"Content-Type: application/json", *headers]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])
