"""Child processes on an event loop: spoken to over pipes, waited for, drained, started again."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import IO, Self

from evalmesh.domain.errors import Unavailable
from evalmesh.process.child import Child, Command, ending

_LOG = logging.getLogger(__name__)
_LINE_BYTES = 8 << 20
_ERRORS_BYTES = 256 << 10
"""So much of what a child writes to standard error is logged; a flood would fill the disk."""
_LAST_WORDS_S = 0.5
_LAST_LINES = 20
_SETTLED_S = 5.0
_LONGEST_PAUSE_S = 10.0


class ChildGoneError(Exception):
    """The process ended or is about to."""


class _Input(asyncio.Protocol):
    """Knows whether the pipe takes more."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.free.set()

    def pause_writing(self) -> None:
        self.free.clear()

    def resume_writing(self) -> None:
        self.free.set()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002  (whoever says something is told)
        self.free.set()


class PipedChild:
    """A child whose input and output belong to us. What it writes to standard error, unless to a file, is logged."""

    def __init__(self, name: str, child: Child, level: int = logging.ERROR) -> None:
        """Use `start`."""
        self.name = name
        self.last_words: deque[str] = deque(maxlen=_LAST_LINES)
        """Of what it wrote to standard error, unless that is a file."""
        self._level = level
        self._taking = _Input()
        self.output = asyncio.StreamReader(limit=_LINE_BYTES)
        self._child = child
        self._transports: list[asyncio.BaseTransport] = []
        self._input: asyncio.WriteTransport | None = None
        self._logging: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, name: str, command: Command, level: int = logging.ERROR) -> Self:
        """`level`: at which its words are logged. Raises `Unavailable` when there is no such program."""
        self = cls(name, Child(command), level)
        try:
            await self._connect()
        except BaseException:
            await self.close(0)
            raise
        return self

    async def _connect(self) -> None:
        given, out, errors = self._child.pipes
        self._input, _ = await asyncio.get_running_loop().connect_write_pipe(lambda: self._taking, given)
        self._transports.append(self._input)
        await self._read(self.output, out)
        if errors is not None:
            said = asyncio.StreamReader(limit=_ERRORS_BYTES)
            await self._read(said, errors)
            self._logging = asyncio.create_task(self._log(said))

    async def _read(self, reader: asyncio.StreamReader, pipe: "IO[bytes] | None") -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        self._transports.append(transport)

    async def _log(self, said: asyncio.StreamReader) -> None:
        left = _ERRORS_BYTES
        while True:
            try:
                line = await said.readline()
            except ValueError:  # longer than the limit, and dropped
                line = b"(a line too long to show)\n"
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self.last_words.append(text)
            if left > 0:
                _LOG.log(self._level, "%s %d: %s", self.name, self.pid, text)
                left -= len(line)
                if left <= 0:
                    _LOG.error("%s %d: what else it writes to standard error is not shown", self.name, self.pid)

    @property
    def pid(self) -> int:
        """Of the process, also after its end."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._child.alive

    def say(self, data: bytes) -> None:
        """Writes to its input, without waiting. Raises `ChildGoneError`."""
        if not self.alive or self._input is None or self._input.is_closing():
            raise ChildGoneError(f"the {self.name} process is gone")
        self._input.write(data)

    async def room(self) -> None:
        """Waits until its input takes more without growing, or it is gone."""
        await self._taking.free.wait()

    async def ready_line(self, within_s: float) -> str:
        """The line by which it says that it is ready; a child that says none in time is killed.

        Raises:
            Unavailable: there was none.
        """
        try:
            async with asyncio.timeout(within_s):
                line = await self.output.readline()
        except TimeoutError:
            await self.close(0)
            raise Unavailable(f"{self.name} was not ready within {within_s:g} s.") from None
        except BaseException:
            await self.close(0)
            raise
        if not line.endswith(b"\n"):
            raise Unavailable(f"{self.name} ended with {await self.ended()} before it was ready.")
        return line.decode(errors="replace").rstrip("\n")

    async def ended(self) -> str:
        """Waits for its end; how it was, in words that follow "ended with"."""
        return ending(await asyncio.shield(asyncio.wrap_future(self._child.ended)))

    def terminate(self) -> None:
        """Asks it to end."""
        self._child.terminate()

    def kill(self) -> None:
        """Ends it and its group."""
        self._child.kill()

    def hang_up(self) -> None:
        """Closes its input, by which it learns that it is to go."""
        if self._input is not None:
            self._input.close()

    async def close(self, within_s: float) -> None:
        """Waits so long for an end that was asked for, then makes it end; frees the pipes."""
        await gone(self._child, within_s)
        if self._logging is not None:
            # Its last words; but somebody else may hold the pipe open.
            await asyncio.wait({self._logging}, timeout=_LAST_WORDS_S)
            self._logging.cancel()
        for transport in self._transports:
            transport.close()
        # What was not made a transport of yet.
        for pipe in self._child.pipes[len(self._transports) :]:
            if pipe is not None:
                pipe.close()


async def gone(child: Child, within_s: float) -> None:
    """Waits so long for the end of a child, then kills it."""
    end = asyncio.wrap_future(child.ended)
    try:
        async with asyncio.timeout(within_s):
            await asyncio.shield(end)
    except TimeoutError:
        child.kill()
        await end
    except BaseException:
        child.kill()
        raise


class KeptChild:
    """A child that is started again when it ends: at once, and with growing pauses when that does not help."""

    def __init__(self, name: str, start: Callable[[], Awaitable[PipedChild]]) -> None:
        """`start` returns a child that is ready, or raises `Unavailable`."""
        self.name = name
        self._start = start
        self._keeping: asyncio.Task[None] | None = None
        self.child: PipedChild | None = None

    async def start(self) -> None:
        """Raises what `start` does; from then on the child is kept."""
        self.child = await self._start()
        self._keeping = asyncio.create_task(self._keep(self.child), name=f"keep-{self.name}")

    async def _keep(self, child: PipedChild) -> None:
        clock = asyncio.get_running_loop().time
        failures, began = 0, clock()
        while True:
            _LOG.warning("%s ended with %s; starting it again", self.name, await child.ended())
            await child.close(0)
            if clock() - began > _SETTLED_S:
                failures = 0
            while True:
                await asyncio.sleep(min(0.25 * (2**failures - 1), _LONGEST_PAUSE_S))
                failures += 1
                try:
                    child = self.child = await self._start()
                    break
                except Unavailable as error:
                    _LOG.error("%s", error.message)
            began = clock()

    def leave(self) -> None:
        """Does not start it again any more."""
        if self._keeping is not None:
            self._keeping.cancel()

    async def close(self, within_s: float) -> None:
        """Lets it drain for so long (SIGTERM), then ends it."""
        self.leave()
        if self._keeping is not None:
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self.child is not None:
            self.child.terminate()
            await self.child.close(within_s)
