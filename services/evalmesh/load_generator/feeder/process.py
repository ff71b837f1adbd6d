"""The feeder process: commands on standard input, words on standard output, frames into the socket.

A thread of its own reads commands, so that a stop is obeyed while the socket is full. The end of the input is how the
parent's death is noticed: the process then ends at once, wherever it is.
"""

import gc
import os
import sys
import threading
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from socket import socket
from typing import BinaryIO

import msgspec

from evalmesh.domain.errors import EvalmeshError
from evalmesh.load_generator.feeder import frames
from evalmesh.load_generator.feeder.pipe import Pipe, Wake
from evalmesh.load_generator.prompts.opening import OpenedPrompts, open_prompts
from evalmesh.load_generator.protocol import (
    Fed,
    FeederCommand,
    FeederReady,
    FeederSaid,
    FeederSetup,
    FeedFailed,
    FeedLevel,
    StopFeed,
)

_decode: Callable[[bytes], FeederCommand] = msgspec.json.Decoder(FeederCommand).decode
_encode = msgspec.json.Encoder().encode
_COLLECT_AFTER = 100_000
"""Objects before a garbage collection: frames leave no cycles behind."""

Command = tuple[FeederSetup | FeedLevel, threading.Event]


class Feeder:
    """Does one command after the other."""

    def __init__(self, feed: socket, commands: BinaryIO, say: Callable[[FeederSaid], None]) -> None:
        self._wake = Wake()
        self._pipe = Pipe(feed, self._wake)
        self._input = commands
        self._say = say
        self._queue: SimpleQueue[Command] = SimpleQueue()
        self._setup: FeederSetup | None = None
        self._opened: OpenedPrompts | None = None
        self._frames: frames.Frames | None = None

    def run(self) -> None:
        """Never returns; the end of the input ends the process."""
        gc.set_threshold(_COLLECT_AFTER, 50, 50)
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            command, stop = self._queue.get()
            if isinstance(command, FeederSetup):
                self._set_up(command)
            else:
                self._feed_level(command, stop)

    def _listen(self) -> None:
        """A stop is for the level that was asked for last, whether it has begun or has ended."""
        stop = threading.Event()
        try:
            for line in self._input:
                command = _decode(line)
                if isinstance(command, StopFeed):
                    stop.set()
                    self._wake()
                else:
                    stop = threading.Event()
                    self._queue.put((command, stop))
        except Exception:  # noqa: BLE001 - a command that is none: told to the parent by the way this process ends
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def _set_up(self, setup: FeederSetup) -> None:
        try:
            self._open(setup)
        except EvalmeshError as error:
            self._frames = self._opened = self._setup = None
            self._say(FeedFailed(-1, error.message, error.details.get("field", "")))
            return
        except Exception as error:  # noqa: BLE001 - told; the traceback is in the service's log
            traceback.print_exc()
            self._frames = self._opened = self._setup = None
            self._say(FeedFailed(-1, _unexpected(error)))
            return
        # How lengths are known is told with each level: the service may learn it from the server only after this.
        self._say(FeederReady(" ".join(self._opened.source.context.notes) if self._opened is not None else ""))

    def _open(self, setup: FeederSetup) -> None:
        before = self._setup
        seatless = msgspec.structs.replace(setup, seat=0, seats=1)
        if self._opened is None or before is None or msgspec.structs.replace(before, seat=0, seats=1) != seatless:
            self._opened = open_prompts(setup)
            if self._opened.dataset.rows is not None:
                self._opened.source.look(1)
            gc.collect()
            gc.freeze()
        self._setup = setup
        self._frames = frames.Frames(setup, self._opened)

    def _feed_level(self, level: FeedLevel, stop: threading.Event) -> None:
        if self._frames is None:
            self._fail(level, "The level comes before a set-up that worked.")
            return
        try:
            written, last = self._pipe.pour(self._frames.of(level), stop)
            self._pipe.put(frames.level_end(level.number))
        except OSError as error:
            self._say(FeedFailed(level.number, f"The engine no longer takes requests: {error}."))
        except EvalmeshError as error:
            self._fail(level, error.message, error.details.get("field", ""))
        except Exception as error:  # noqa: BLE001 - told; the traceback is in the service's log
            traceback.print_exc()
            self._fail(level, _unexpected(error))
        else:
            self._say(Fed(level.number, written, last + 1, self._frames.repeated, self._frames.notes))

    def _fail(self, level: FeedLevel, why: str, field: str = "") -> None:
        self._say(FeedFailed(level.number, why, field))
        try:
            self._pipe.put(frames.failed(level.number, why))
        except OSError:  # the engine is gone, and the service knows
            return


def _unexpected(error: Exception) -> str:
    return f"The feeder failed with {type(error).__name__}: {error}. This is a defect of evalmesh; please report it."


def speak(said: FeederSaid) -> None:
    """One line on standard output, at once."""
    sys.stdout.buffer.write(_encode(said) + b"\n")
    sys.stdout.buffer.flush()
