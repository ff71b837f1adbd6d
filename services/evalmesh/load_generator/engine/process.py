"""The engine process: commands on standard input, words on standard output, one level at a time."""

import asyncio
import gc
import logging
import os
import re
import socket
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import LoadTarget
from evalmesh.load.exchange import Exchange
from evalmesh.load_generator.apis import registry
from evalmesh.load_generator.apis.base import LoadApi
from evalmesh.load_generator.engine.feed import Feed
from evalmesh.load_generator.engine.flight import Flight
from evalmesh.load_generator.engine.health import Health, max_rss_bytes
from evalmesh.load_generator.engine.level import LevelEngine, Tools
from evalmesh.load_generator.protocol import Done, EngineCommand, EngineSaid, EngineSetup, RunLevel, Start, Stop
from evalmesh.ports.load_tests.http import LoadTransport
from evalmesh.runtime.garbage import keep_what_is_loaded

_LOG = logging.getLogger(__name__)
_decode: Callable[[bytes], EngineCommand] = msgspec.json.Decoder(EngineCommand).decode
_encode = msgspec.json.Encoder().encode

_SECRET = re.compile("auth|key|token|secret|cookie", re.IGNORECASE)
_LEAST_KEY = 6

TransportMaker = Callable[[LoadTarget, dict[str, str], Callable[[Exchange], None]], LoadTransport]
"""Makes the transport a target asks for; raises `InvalidInput`."""


class Engine:
    """Obeys until its input ends, which is how its parent's death is noticed."""

    def __init__(self, feed: socket.socket, make_transport: TransportMaker) -> None:
        self._loop = asyncio.get_running_loop()
        self._feed = Feed(self._loop, feed)
        self._make_transport = make_transport
        self._health = Health(self._loop)
        self._output: asyncio.WriteTransport | None = None
        self._over = self._loop.create_future()
        self._setup: EngineSetup | None = None
        self._api: LoadApi | None = None
        self._transport: LoadTransport | None = None
        self._level: LevelEngine | None = None
        self._problem = ""
        """Why the target cannot be asked on this machine."""

    async def run(self) -> None:
        """Returns when the input has ended."""
        output, _ = await self._loop.connect_write_pipe(asyncio.Protocol, _own_stdout())
        self._output = output
        self._feed.start()
        keep_what_is_loaded()
        # Last: commands that are waiting already are obeyed, and answered, at once.
        await self._loop.connect_read_pipe(lambda: _Lines(self._obey, self._end), sys.stdin.buffer)
        try:
            await self._over
        finally:
            if self._level is not None:
                self._level.stop()
            if self._transport is not None:
                await self._transport.close()
            self._health.close()
            self._feed.close()

    def say(self, word: EngineSaid) -> None:
        """Tells the service."""
        if self._output is not None and not self._output.is_closing():
            self._output.write(_encode(word) + b"\n")

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _obey(self, line: bytes) -> None:
        try:
            self._do(_decode(line))
        except Exception as error:  # noqa: BLE001 - told to the parent, by the way this process ends
            if not self._over.done():
                self._over.set_exception(error)

    def _do(self, command: EngineCommand) -> None:
        match command:
            case EngineSetup():
                self._set_up(command)
            case RunLevel():
                self._prepare(command)
            case Start() if self._level is not None:
                self._level.start(command.start_at)
            case Stop() if self._level is not None:
                self._level.stop()

    def _set_up(self, setup: EngineSetup) -> None:
        """Connections are kept when nothing changes but the seat's number."""
        before, self._setup = self._setup, setup
        if before is not None and (before.target, before.headers) == (setup.target, setup.headers):
            return
        if self._transport is not None:
            self._loop.create_task(self._transport.close())
        self._transport, self._problem = None, ""
        try:
            self._api = registry.get(setup.target.api)
            self._transport = self._make_transport(setup.target, setup.headers, self._ended)
        except InvalidInput as error:
            self._problem = error.message

    def _prepare(self, run: RunLevel) -> None:
        if self._problem:
            self._feed.skip_level(run.number)
            self.say(_refused(run.number, self._problem))
            return
        setup, api, transport = self._setup, self._api, self._transport
        if setup is None or api is None or transport is None or self._level is not None:
            raise RuntimeError("a level before the set-up, or within another level")
        keys = _keys_of(setup.headers)
        tools = Tools(self._loop, transport, api, self._feed, self._health, setup.generator, self.say, keys)
        self._level = LevelEngine(tools, run, self._level_over)
        self._level.prepare()

    def _ended(self, exchange: Exchange) -> None:
        if self._level is not None and isinstance(exchange, Flight):
            self._level.ended(exchange)

    def _level_over(self) -> None:
        self._level = None
        # Between levels nobody's time is measured.
        self._loop.call_soon(gc.collect)


def _keys_of(headers: dict[str, str]) -> tuple[str, ...]:
    """Values of headers that authorize, without the scheme; short ones would hide words that are no keys."""
    found = [value.split()[-1] for name, value in headers.items() if _SECRET.search(name) and value.split()]
    return tuple(key for key in found if len(key) >= _LEAST_KEY)


def _refused(number: int, error: str) -> Done:
    return Done(
        number=number,
        records=0,
        counts={},
        warmup_counts={},
        sent_first_s=None,
        sent_last_s=None,
        end_s=0.0,
        wall_s=0.0,
        cpu_s=0.0,
        loop_lag_p99_ms=0.0,
        loop_lag_max_ms=0.0,
        peak_in_flight=0,
        connections=0,
        max_rss_bytes=max_rss_bytes(),
        error=error,
    )


class _Lines(asyncio.Protocol):
    """Cuts standard input into lines."""

    def __init__(self, on_line: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self._on_line = on_line
        self._on_end = on_end
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.strip():
                self._on_line(line)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a protocol's shape
        self._on_end()


def _own_stdout() -> Any:
    """The pipe to the service, for nobody else: a library that prints must not break a line of the protocol."""
    sys.stdout.flush()
    own = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return own
