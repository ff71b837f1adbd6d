"""Requests as they come from the feeder: a bounded row of frames."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from evalmesh.load_generator.protocol import FRAME, FrameKind

_MOST_FRAMES = 4096
_MOST_BYTES = 8 << 20
_READ_BYTES = 64 << 10
"""At once: reading and cutting this much keeps the event loop for a fraction of a millisecond."""


class Frame(NamedTuple):
    """What `protocol.FRAME` holds, and the body."""

    kind: int
    flags: int
    turns: int
    size: int
    position: int
    due_s: float
    think_s: float
    conversation: int
    prepared_tokens: int
    max_tokens: int
    reserved: int
    body: bytes


class Feed:
    """Reads ahead as far as the bounds allow; the feeder then waits, because its socket is full."""

    def __init__(self, loop: asyncio.AbstractEventLoop, source: socket.socket) -> None:
        source.setblocking(False)  # noqa: FBT003 - a socket's method
        self._loop = loop
        self._source = source
        self._buffer = bytearray()
        self._held_bytes = 0
        self._reading = False
        self.frames: deque[Frame] = deque()
        """Not taken yet; the end of a level stands among them."""
        self.closed = False
        """The feeder is gone; what it sent is still there."""
        self.on_frames: Callable[[], None] = lambda: None
        """Called when there is something new, the end included."""
        self._skip_to: int | None = None

    def start(self) -> None:
        """Begins to read."""
        if not self._reading and not self.closed:
            self._reading = True
            self._loop.add_reader(self._source.fileno(), self._readable)

    def pause(self) -> None:
        """Stops reading."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._source.fileno())

    def take(self) -> Frame:
        """The first frame. Raises `IndexError` when there is none."""
        frame = self.frames.popleft()
        self._held_bytes -= frame.size
        if not self._reading and len(self.frames) < _MOST_FRAMES // 2 and self._held_bytes < _MOST_BYTES // 2:
            self.start()
        return frame

    def skip_level(self, number: int) -> None:
        """Throws away what comes until this level's end."""
        self._skip_to = number
        self._skip()

    @property
    def full(self) -> bool:
        """No more is read for now."""
        return len(self.frames) >= _MOST_FRAMES or self._held_bytes >= _MOST_BYTES

    def close(self) -> None:
        """Ends the connection to the feeder."""
        self.pause()
        self._source.close()
        self.closed = True

    def _readable(self) -> None:
        try:
            data = self._source.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._buffer += data
            found = self._cut()
        else:
            self.pause()
            self.closed = found = True
        self._skip()
        if self.full:
            self.pause()
        if found:
            self.on_frames()

    def _skip(self) -> None:
        while self._skip_to is not None and self.frames:
            frame = self.take()
            if ends_level(frame) and frame.position == self._skip_to:
                self._skip_to = None

    def _cut(self) -> bool:
        """Takes complete frames off the buffer; whether there were any."""
        buffer, head_size, at = self._buffer, FRAME.size, 0
        length = len(buffer)
        while length - at >= head_size:
            head = FRAME.unpack_from(buffer, at)
            end = at + head_size + head[3]
            if end > length:
                break
            with memoryview(buffer) as view:
                self.frames.append(Frame._make((*head, view[at + head_size : end].tobytes())))
            self._held_bytes += head[3]
            at = end
        if at:
            del buffer[:at]
        return at > 0


def ends_level(frame: Frame) -> bool:
    """Whether no request follows in this level."""
    return frame.kind >= FrameKind.LEVEL_END
