"""One copy of a model: a process that answers, and that may die or hang."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from evalmesh.adapters.engines.engine import EngineRequest
from evalmesh.adapters.engines.protocol import (
    HEADER,
    Answered,
    Ask,
    Forget,
    Note,
    Open,
    Opened,
    Refused,
    Said,
    frame,
    said_decoder,
    size_of,
)
from evalmesh.domain.completion import Completion, as_sentence
from evalmesh.domain.errors import FailedPrecondition, InvalidInput, Unavailable
from evalmesh.process.child import Command, last_lines
from evalmesh.process.piped import ChildGoneError, PipedChild

_EXIT_S = 1.0
_CLOSE_S = 6.0
"""A little more than the process takes itself to close its engine."""
KILLED = "killed"
"""Among the details of a start that failed: a signal ended it, which may have been nobody's fault."""
_LOOKS = 20
"""So many looks at a silent process make its time, so that a time in which we were stopped ourselves does not count."""
_WORDS_CHARS = 400


class EngineDiedError(Exception):
    """The process ended while it was asked."""

    def __init__(self, how: str, *, alone: bool) -> None:
        """`how`: a sentence. `alone`: whether nothing else was asked of it at the time."""
        super().__init__(how)
        self.how = how
        self.alone = alone


@dataclass(frozen=True, slots=True)
class Launch:
    """How a copy is started."""

    words: Sequence[str]
    environment: Mapping[str, str]
    log: Path | None
    opening: Open
    model: Callable[[], str]
    """The folder with the model, asked for when the process starts: it may have been fetched first."""
    silent_s: float
    """A process that has work and says nothing for so long hangs."""
    start_s: float

    def first_word(self) -> Open:
        """What the process is told."""
        opening = self.opening
        return Open(opening.implementation, replace(opening.options, model=self.model()))


class Replica:
    """At most one process at a time; who keeps it starts it again."""

    def __init__(self, launch: Launch, noted: Callable[[str], None]) -> None:
        self._launch = launch
        self._noted = noted
        self._model = launch.opening.options.model
        self._name = f"engine of {self._model}"
        self._child: PipedChild | None = None
        self._numbers = count()
        self._asked: dict[int, asyncio.Future[Completion]] = {}
        self._signs = 0
        """Frames that came, and questions that met an idle process."""
        self._why = ""
        self._log_from = 0

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._child.pid if self._child is not None and self._child.alive else None

    async def start(self) -> Opened:
        """Returns when the model is loaded.

        Raises `InvalidInput` when it cannot be, `FailedPrecondition` when the process dies of it, `Unavailable` when
        it takes too long.
        """
        launch = self._launch
        self._log_from = launch.log.stat().st_size if launch.log is not None and launch.log.exists() else 0
        self._why = ""
        child = await PipedChild.start(self._name, Command(launch.words, launch.environment, launch.log), logging.INFO)
        try:
            async with asyncio.timeout(launch.start_s):
                child.say(frame(launch.first_word()))
                while not isinstance(said := await _hear(child), Opened | Refused):
                    self._heard(said)
        except TimeoutError:
            await child.close(0)
            raise Unavailable(f"The model {self._model} was not loaded within {launch.start_s:g} s.") from None
        except (asyncio.IncompleteReadError, ConnectionError, ChildGoneError, ValueError) as error:
            how = await self._ending(child)
            killed = "ended with" in how and "exit code" not in how
            raise FailedPrecondition(
                f"The engine {how} while it loaded the model {self._model}.{self._words(child)}",
                {"field": "model.model", **({KILLED: "true"} if killed else {})},
            ) from error
        except BaseException:
            await child.close(0)
            raise
        if isinstance(said, Refused):
            await child.close(_EXIT_S)
            raise InvalidInput(said.sentence, {"field": said.field or "model.model"})
        self._child = child
        return said

    async def serve(self) -> str:
        """Reads answers until the process ends, on which everything asked fails; how it ended, in a sentence."""
        child = self._child
        if child is None:
            raise RuntimeError("it was not started")
        watch = asyncio.create_task(self._watch(child))
        how = "it was closed"
        try:
            while True:
                self._heard(await _hear(child))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except ValueError as error:  # which those of msgspec are as well
            self._why = f"wrote what is no message ({error})"
        finally:
            watch.cancel()
            self._child = None
            with contextlib.suppress(asyncio.CancelledError):
                how = f"The engine {await self._ending(child)}.{self._words(child)}"
            asked, self._asked = self._asked, {}
            for future in asked.values():
                if not future.done():
                    future.set_exception(EngineDiedError(how, alone=len(asked) == 1))
        return how

    async def ask(self, question: EngineRequest) -> Completion:
        """Raises `EngineDiedError`, `InvalidInput` for a question that is too large. Cancelled, it is forgotten."""
        number, child = next(self._numbers), self._child
        if child is None:
            raise EngineDiedError("The engine is gone.", alone=False)
        try:
            data = frame(Ask(number, question))
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidInput(f"The request cannot be handed to the engine: {error}.") from error
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        if not self._asked:
            self._signs += 1
        self._asked[number] = future
        try:
            self._tell(child, data)
            await child.room()
            return await future
        finally:
            if self._asked.pop(number, None) is not None:  # neither answered nor dead
                self._tell(child, frame(Forget([number])))

    @staticmethod
    def _tell(child: PipedChild, data: bytes) -> None:
        with contextlib.suppress(ChildGoneError):  # `serve` notices its end, and says so to all
            child.say(data)

    def _heard(self, said: Said) -> None:
        self._signs += 1
        if isinstance(said, Answered):
            future = self._asked.pop(said.number, None)
            if future is not None and not future.done():
                future.set_result(said.completion)
        elif isinstance(said, Note):
            self._noted(said.sentence)

    async def _watch(self, child: PipedChild) -> None:
        silent, signs = 0, self._signs
        while True:
            await asyncio.sleep(self._launch.silent_s / _LOOKS)
            silent = silent + 1 if self._asked and signs == self._signs else 0
            signs = self._signs
            if silent >= _LOOKS:
                self._why = f"did nothing for {self._launch.silent_s:g} s with requests in hand, and was ended"
                child.kill()

    async def _ending(self, child: PipedChild) -> str:
        """What follows "the engine"; the process is gone then."""
        try:
            async with asyncio.timeout(_EXIT_S):
                how = await child.ended()
        except TimeoutError:
            how = ""
        await child.close(0)
        return self._why or (f"ended with {how}" if how else "closed its pipe")

    def _words(self, child: PipedChild) -> str:
        """What it said last, as a further sentence; it need not have to do with its end."""
        log = self._launch.log
        if log is None:
            lines = list(child.last_words)
        else:
            grown = log.exists() and log.stat().st_size > self._log_from
            lines = last_lines(log, 5) if grown else []
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if not said:
            return ""
        where = f" (log: {log})" if log is not None else ""
        return f" The last it said{where}: {as_sentence(said[:_WORDS_CHARS])}"

    async def close(self) -> None:
        """Lets the engine free what it holds; whoever serves it then sees its end."""
        child = self._child
        if child is not None:
            child.terminate()
            await child.close(_CLOSE_S)


async def _hear(child: PipedChild) -> Said:
    size = size_of(await child.output.readexactly(HEADER.size))
    return said_decoder.decode(await child.output.readexactly(size))
