"""The two processes behind a seat: the feeder that prepares requests, the engine that sends them."""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import msgspec

from evalmesh.domain.errors import InternalError, InvalidInput
from evalmesh.load_generator.protocol import (
    Done,
    EngineCommand,
    EngineSaid,
    EngineSetup,
    Fed,
    FeederCommand,
    FeederReady,
    FeederSaid,
    FeederSetup,
    FeedFailed,
    FeedLevel,
    Ready,
    RunLevel,
    Start,
    Stop,
    StopFeed,
    Tick,
)
from evalmesh.process.child import Command
from evalmesh.process.environment import without_keys
from evalmesh.process.piped import ChildGoneError, PipedChild

_LOG = logging.getLogger(__name__)
_SOCKET_BYTES = 4 << 20
"""Asked of the kernel, which may give less: how far ahead of the engine the feeder can be."""
_END_S = 2.0
_SILENT_S = 30.0
"""An engine at work says something each second; one that is silent for so long hangs."""
_STOP_S = 10.0
"""So long a process may take to leave off."""
_SECOND_LOOK_S = 2.0
"""What was said while this process was stopped is heard a moment after its timers have run out."""
_encode = msgspec.json.Encoder().encode
T = TypeVar("T")


class PairBrokenError(Exception):
    """A process of the pair ended; the message says which and how."""


class _Child(Generic[T]):
    """One process: commands in, messages out, one JSON object per line."""

    def __init__(self, module: str, kind: object) -> None:
        self._module = module
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)
        self._process: PipedChild | None = None
        self._heard = 0
        self._watch: asyncio.TimerHandle | None = None
        self._why = ""

    async def start(self, feed: socket.socket) -> None:
        """Its end of the feed is inherited."""
        words = [sys.executable, "-m", f"evalmesh.load_generator.{self._module}", "--feed-fd", str(feed.fileno())]
        # Keys come by `EngineSetup`; a tokenizer that is not public needs the hub's.
        command = Command(words, without_keys(keep=("HF_TOKEN", "HF_TOKEN_PATH")), pass_fds=(feed.fileno(),))
        self._process = await PipedChild.start(self._module, command)

    @property
    def pid(self) -> int | None:
        """Of the process, while it runs."""
        process = self._process
        return process.pid if process is not None and process.alive else None

    async def tell(self, command: EngineCommand | FeederCommand) -> None:
        """Raises `PairBrokenError`."""
        if self._process is None:
            raise PairBrokenError(f"the {self._module} process was not started")
        try:
            self._process.say(_encode(command) + b"\n")
        except ChildGoneError as error:
            raise PairBrokenError(str(error)) from None

    async def hear(self) -> T:
        """The next message. Raises `PairBrokenError` at the end of the process."""
        process = self._process
        if process is None:
            raise PairBrokenError(f"the {self._module} process was not started")
        line = await process.output.readline()
        self._heard += 1
        if not line.endswith(b"\n"):
            how = await process.ended()
            raise PairBrokenError(self._why or f"the {self._module} process ended with {how}")
        try:
            return self._decoder.decode(line)
        except msgspec.DecodeError as error:
            raise InternalError(f"The {self._module} process said {line[:200]!r}, which is no message.") from error

    def expect_word(self, within_s: float, why: str) -> None:
        """From now on until `expect_nothing`, the process is killed when it says nothing for so long."""
        self.expect_nothing()
        loop = asyncio.get_running_loop()

        def look(heard: int, *, again: bool) -> None:
            if self._heard != heard:
                self._watch = loop.call_later(within_s, partial(look, self._heard, again=True))
            elif again:
                self._watch = loop.call_later(_SECOND_LOOK_S, partial(look, heard, again=False))
            elif self._process is not None:
                self._why = f"the {self._module} process {why}"
                self._process.kill()

        self._watch = loop.call_later(within_s, partial(look, self._heard, again=True))

    def expect_nothing(self) -> None:
        """It may be silent as long as it likes."""
        if self._watch is not None:
            self._watch.cancel()

    async def close(self) -> None:
        """The end of its input tells it to go; one that stays is ended."""
        self.expect_nothing()
        if self._process is not None:
            self._process.hang_up()
            await self._process.close(_END_S)


@dataclass(frozen=True, slots=True)
class Performance:
    """How a level went at this seat."""

    done: Done | None
    """`None`: the engine died; what it had written is in the records file."""
    fed: Fed | None
    error: str = ""


OnTick = Callable[[Tick], None]
WhenReady = Callable[[], Awaitable[float | None]]


class GeneratorPair:
    """Feeder and engine of one seat. After `PairBrokenError` the pair is of no more use: close it, take another."""

    def __init__(self) -> None:
        self._engine: _Child[EngineSaid] = _Child("engine", EngineSaid)
        self._feeder: _Child[FeederSaid] = _Child("feeder", FeederSaid)
        self._stopping = False
        self.busy = False
        """Whether a level is under way; a pair that is left in the middle of one is of no more use."""

    @property
    def pids(self) -> tuple[int | None, int | None]:
        """Of engine and feeder."""
        return self._engine.pid, self._feeder.pid

    @property
    def alive(self) -> bool:
        """Whether both processes run."""
        return None not in self.pids

    async def start(self) -> None:
        """Starts both and joins them by a socket pair."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BYTES)
            await asyncio.gather(self._feeder.start(ours), self._engine.start(theirs))

    async def set_up(self, engine: EngineSetup, feeder: FeederSetup) -> str:
        """Tells both what the load test is about; returns what the feeder has to note.

        Raises:
            InvalidInput: the data set or tokenizer cannot be used.
            PairBrokenError: a process ended.
        """
        await self._engine.tell(engine)
        await self._feeder.tell(feeder)
        said = await self._feeder.hear()
        if isinstance(said, FeedFailed):
            raise InvalidInput(said.error, {"field": said.field} if said.field else None)
        return said.note if isinstance(said, FeederReady) else ""

    async def perform(self, run: RunLevel, feed: FeedLevel, when_ready: WhenReady, on_tick: OnTick) -> Performance:
        """Runs one level to its end.

        Args:
            run: For the engine.
            feed: For the feeder.
            when_ready: Called once the first requests are there; gives the moment to start, or `None` to leave off.
            on_tick: Told each second.
        """
        self._stopping = False
        self.busy = True
        try:
            await self._feeder.tell(feed)
            await self._engine.tell(run)
        except PairBrokenError as error:
            return Performance(None, None, str(error))
        feeder = asyncio.create_task(self._hear_fed(feed.number))
        engine = asyncio.create_task(self._hear_done(run.number, when_ready, on_tick))
        try:
            done = await engine
            if done is not None and not feeder.done():
                # The engine has all it wants: a level that was stopped, or bounded by its duration.
                await self._feeder.tell(StopFeed())
                self._feeder.expect_word(_STOP_S, f"did not leave off within {_STOP_S:g} s")
            fed = await feeder
        except PairBrokenError as error:
            # What the engine said counts, also where it is the feeder that ended.
            known = engine.done() and not engine.cancelled() and engine.exception() is None
            return Performance(engine.result() if known else None, None, str(error))
        finally:
            for task, process in ((feeder, self._feeder), (engine, self._engine)):
                task.cancel()
                process.expect_nothing()
            await asyncio.gather(feeder, engine, return_exceptions=True)
        self.busy = False
        return Performance(done, fed)

    async def stop(self, reason: str) -> None:
        """Ends the level under way; `perform` then returns."""
        if self._stopping:
            return
        self._stopping = True
        with contextlib.suppress(PairBrokenError):
            await self._feeder.tell(StopFeed())
        # Also where the feeder is gone: the engine is what sends.
        with contextlib.suppress(PairBrokenError):
            await self._engine.tell(Stop(reason))
            if self.busy:
                self._engine.expect_word(_STOP_S, f"did not leave off within {_STOP_S:g} s")

    async def _hear_fed(self, number: int) -> Fed | None:
        while True:
            said = await self._feeder.hear()
            if isinstance(said, Fed) and said.number == number:
                return said
            if isinstance(said, FeedFailed):
                # The engine learns it from the feed itself and tells it with `Done`.
                _LOG.warning("feeder: %s", said.error)
                return None

    async def _hear_done(self, number: int, when_ready: WhenReady, on_tick: OnTick) -> Done | None:
        while True:
            said = await self._engine.hear()
            if said.number != number:
                continue
            if isinstance(said, Done):
                return said
            if isinstance(said, Tick):
                on_tick(said)
            elif isinstance(said, Ready):
                start_at = await when_ready()
                await self._engine.tell(Stop("not started") if start_at is None else Start(start_at))
                if not self._stopping:
                    self._engine.expect_word(_SILENT_S, f"said nothing for {_SILENT_S:g} s")

    async def close(self) -> None:
        """Ends both processes."""
        await asyncio.gather(self._engine.close(), self._feeder.close())
