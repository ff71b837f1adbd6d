"""The socket to the engine: frames in batches, and an end that comes through although the socket is full."""

import select
import socket
import time
from collections.abc import Iterator
from itertools import accumulate
from threading import Event

from evalmesh.domain.errors import EvalmeshError

_BATCH_BYTES = 128 << 10
_BATCH_S = 0.002
"""A frame waits no longer than this for others: prompts that take time to make are sent one by one."""


class Wake:
    """Lets another thread end a wait for the socket."""

    def __init__(self) -> None:
        self._in, self._out = socket.socketpair()
        self._out.setblocking(False)  # noqa: FBT003 - a socket's method

    def __call__(self) -> None:
        self._in.send(b"!")

    def fileno(self) -> int:
        """To wait for."""
        return self._out.fileno()

    def clear(self) -> None:
        """Forgets calls so far."""
        try:
            self._out.recv(4096)
        except BlockingIOError:
            return


class Pipe:
    """Writes whole frames; blocks while the engine does not read."""

    def __init__(self, feed: socket.socket, wake: Wake) -> None:
        feed.setblocking(False)  # noqa: FBT003 - a socket's method
        self._feed = feed
        self._wake = wake
        self._poll = select.poll()
        self._poll.register(feed, select.POLLOUT)
        self._poll.register(wake, select.POLLIN)

    def pour(self, frames: Iterator[tuple[int, bytes]], stop: Event) -> tuple[int, int]:
        """Writes frames until they end or `stop` is set; (frames written, last index written or -1).

        A frame that was begun is written to its end. Raises what `frames` raises, once those before it are written,
        and `OSError` when the engine is gone.
        """
        written, last = 0, -1
        for batch in _batches(frames):
            done = self._write(batch, stop)
            if done:
                written, last = written + done, batch[done - 1][0]
            if stop.is_set():
                break
        return written, last

    def put(self, frame: bytes) -> None:
        """Writes one frame, however long that takes. Raises `OSError` when the engine is gone."""
        self._write([(0, frame)], Event())

    def _write(self, batch: list[tuple[int, bytes]], stop: Event) -> int:
        """Frames written: all, or after a stop those that were begun."""
        view = memoryview(b"".join([frame for _, frame in batch]))
        end, at, cut = len(view), 0, False
        count = len(batch)
        while at < end:
            if stop.is_set() and not cut:
                cut = True
                ends = list(accumulate(len(frame) for _, frame in batch))
                count = next(place for place, position in enumerate([0, *ends]) if position >= at)
                end = [0, *ends][count]
                continue
            try:
                at += self._feed.send(view[at:end])
            except BlockingIOError:
                self._poll.poll()
                self._wake.clear()
        return count


def _batches(frames: Iterator[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    """Frames together as long as they come fast; the first one alone, so that the engine can begin."""
    batch: list[tuple[int, bytes]] = []
    size, due_s = 0, 0.0
    try:
        for frame in frames:
            batch.append(frame)
            size += len(frame[1])
            if size >= _BATCH_BYTES or time.monotonic() >= due_s:
                yield batch
                batch, size, due_s = [], 0, time.monotonic() + _BATCH_S
    except EvalmeshError:
        yield batch
        raise
    yield batch
