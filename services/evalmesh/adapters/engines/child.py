"""The process of an engine: reads questions, hands them to the engine, writes answers.

    python -m evalmesh.adapters.engines.child

Frames come by standard input and leave by what was standard output; both are moved away first, so that a library that
prints cannot disturb them. What anything prints goes to standard error, which is a log.
"""

import asyncio
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO, cast

import msgspec

from evalmesh.adapters.engines.engine import Engine, EngineError, EngineRequest, OpenEngine
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
    Told,
    Working,
    frame,
    size_of,
    told_decoder,
)
from evalmesh.adapters.engines.weights import fingerprint
from evalmesh.domain.completion import Completion, CompletionError, Timing

_WORKING_S = 1.0
_CLOSE_S = 5.0
_MESSAGE_CHARS = 2000


class Pipes:
    """The two ends, and the `Host` of the engine."""

    def __init__(self) -> None:
        """Moves the descriptors; nothing may be printed before."""
        self._source = os.fdopen(os.dup(0), "rb")
        self._sink = os.fdopen(os.dup(1), "wb", buffering=0)
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor, not a path, is what is wanted
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
        self._writing = threading.Lock()
        self._worked_at = float("-inf")

    def say(self, message: Said) -> None:
        """Blocks while the other side does not read: what cannot be told need not be computed."""
        try:
            data = memoryview(frame(message))
        except (ValueError, msgspec.ValidationError) as error:
            if not isinstance(message, Answered):
                raise
            data = memoryview(frame(replace_answer(message, f"The answer cannot be handed on: {error}.")))
        with self._writing:
            while data:
                data = data[_write(self._sink, data) :]

    def note(self, sentence: str) -> None:
        """See `Host`."""
        self.say(Note(sentence[:_MESSAGE_CHARS]))

    def progress(self) -> None:
        """See `Host`."""
        now = time.monotonic()
        if now - self._worked_at >= _WORKING_S:
            self._worked_at = now
            self.say(Working())

    def listen(self, heard: Callable[[Told], None]) -> None:
        """Calls `heard` with every message, in a thread; ends this process and its group when we are left alone."""
        threading.Thread(target=self._listen, args=(heard,), name="frames", daemon=True).start()

    def _listen(self, heard: Callable[[Told], None]) -> None:
        try:
            while len(header := self._source.read(HEADER.size)) == HEADER.size:
                size = size_of(header)
                body = self._source.read(size)
                if len(body) < size:
                    break
                heard(told_decoder.decode(body))
        except Exception:  # noqa: BLE001 - whatever it was, nobody can be understood any more
            traceback.print_exc()
        finally:
            end_all()


def replace_answer(answered: Answered, message: str) -> Answered:
    """An error in its place."""
    one = answered.completion
    return Answered(
        answered.number,
        Completion(one.sample_id, one.repeat, one.digest, error=CompletionError("internal", message)),
    )


def _write(sink: BinaryIO, data: memoryview) -> int:
    try:
        return sink.write(data)
    except BrokenPipeError:
        end_all()
        raise


def end_all() -> None:
    """The end of this process and of all that it has started, whatever its main thread is doing."""
    if os.getpgrp() == os.getpid():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(0, signal.SIGKILL)
    os._exit(1)


class _Desk:
    """Questions in, answers out."""

    def __init__(self, engine: Engine, pipes: Pipes) -> None:
        self._engine = engine
        self._pipes = pipes
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def hear(self, message: Told) -> None:
        if isinstance(message, Ask):
            task = asyncio.create_task(self._answer(message.number, message.question))
            self._tasks[message.number] = task
            task.add_done_callback(lambda _: self._tasks.pop(message.number, None))
        elif isinstance(message, Forget):
            for number in message.numbers:
                if (forgotten := self._tasks.get(number)) is not None:
                    forgotten.cancel()

    async def _answer(self, number: int, question: EngineRequest) -> None:
        request, start_time, started = question.request, time.time(), time.perf_counter()
        try:
            completion = await self._engine.answer(question)
        except asyncio.CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - whatever the engine raises is this request's
            traceback.print_exc()
            message = f"The engine failed with {type(error).__name__}: {error}"[:_MESSAGE_CHARS]
            completion = Completion(
                request.sample_id, request.repeat, request.digest, error=CompletionError("internal", message)
            )
        if completion.timing is None:
            completion = replace(completion, timing=Timing(start_time, time.perf_counter() - started))
        self._pipes.say(Answered(number, completion))


async def _open(message: Open, pipes: Pipes) -> Engine | None:
    """The engine; `None` when it said why there is none."""
    module, _, name = message.implementation.partition(":")
    try:
        engine = await cast("OpenEngine", getattr(importlib.import_module(module), name))(message.options, pipes)
        pipes.say(Opened(replace(engine.describe(), weights=fingerprint(engine.sources()))))
    except EngineError as error:
        pipes.say(Refused(error.sentence, error.field))
    except ModuleNotFoundError as error:
        traceback.print_exc()
        pipes.say(Refused(f"The package {error.name} is not installed.", "model.engine"))
    except Exception as error:  # noqa: BLE001 - whatever a library raises, it is said in one sentence
        traceback.print_exc()
        text = " ".join(str(error).split())[:_MESSAGE_CHARS]
        pipes.say(Refused(f"The model could not be loaded: {type(error).__name__}: {text}"))
    else:
        return engine
    return None


async def _main(pipes: Pipes) -> None:
    loop = asyncio.get_running_loop()
    messages: asyncio.Queue[Told] = asyncio.Queue()

    def heard(message: Told) -> None:
        loop.call_soon_threadsafe(messages.put_nowait, message)

    pipes.listen(heard)
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    first = await messages.get()
    if not isinstance(first, Open):
        raise TypeError("an engine is told to open first")
    engine = await _open(first, pipes)
    if engine is None:
        return
    desk = _Desk(engine, pipes)

    async def serve() -> None:
        while True:
            desk.hear(await messages.get())

    serving = asyncio.create_task(serve())
    await told.wait()
    serving.cancel()
    with suppress(Exception):
        async with asyncio.timeout(_CLOSE_S):
            await engine.close()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # our parent decides
    opened = Pipes()
    asyncio.run(_main(opened))
    sys.stderr.flush()
    os._exit(0)  # threads of libraries would hold it up; our parent ends what else there is
