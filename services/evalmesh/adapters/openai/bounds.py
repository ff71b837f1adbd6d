"""How much of what a server sends is read: enough for any answer there is, and little enough to survive any other.

All sizes are those after decompression. aiohttp decompresses in slices of what its buffer takes, and bounds the head
itself: 8 KiB a line, 128 header lines.
"""

import asyncio
from types import TracebackType
from typing import Self

import aiohttp

BODY_BYTES = 64 << 20
"""An answer of a million tokens with its log probabilities, or several large images in base64, are smaller."""
STREAM_BYTES = 128 << 20
"""A streamed token comes in 300 bytes, with its log probabilities in some 2 KiB."""
STREAM_FRAMES = 1 << 20
"""One token each: longer than any context."""
ERROR_BYTES = 64 << 10
"""Of an error only its message is of use."""
MOST_VALUES = 2_000_000
"""Values in one body: each costs some 100 bytes as an object, which adds up to far more than the text of it."""

_LARGE_BYTES = 1 << 20
LARGE_AT_ONCE = 4
"""Answers above 1 MiB that are held at the same time, per endpoint; further ones wait, unread."""
_TURN_BYTES = 256 << 10
"""The event loop gets its turn after so much, however fast it comes."""


class TooMuch(ValueError):
    """A server sends more than is read; the text says what and how much."""


class _Reading:
    """Holds the permit of an answer that turns out to be large, until it is done with; a context manager."""

    __slots__ = ("_bytes", "_permits", "_permitted", "_turned_bytes")

    def __init__(self, large: asyncio.Semaphore) -> None:
        self._permits = large
        self._permitted = False
        self._bytes = self._turned_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._permitted:
            self._permits.release()

    async def _holds(self, held_bytes: int) -> None:
        if held_bytes > _LARGE_BYTES and not self._permitted:
            await self._permits.acquire()
            self._permitted = True

    async def _give_turn(self) -> None:
        """The event loop gets its turn now and then: who sends fast would never let it."""
        if self._bytes - self._turned_bytes >= _TURN_BYTES:
            self._turned_bytes = self._bytes
            await asyncio.sleep(0)


class BodyReader(_Reading):
    """Reads one body."""

    __slots__ = ()

    async def read(self, content: aiohttp.StreamReader, start: bytes = b"") -> bytes:
        """The whole body, of which `start` was read already. Raises `TooMuch`."""
        parts = [start]
        self._bytes = len(start)
        while block := await content.readany():
            parts.append(block)
            self._bytes += len(block)
            if self._bytes > BODY_BYTES:
                raise TooMuch(f"a body of more than {BODY_BYTES >> 20} MiB")
            await self._holds(self._bytes)
            await self._give_turn()
        body = b"".join(parts)
        if self._permitted and sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
            raise TooMuch(f"more than {MOST_VALUES} values")
        return body


async def read_start(content: aiohttp.StreamReader, most_bytes: int = ERROR_BYTES) -> bytes:
    """The beginning of a body, as far as it is of use; the rest is left unread."""
    parts: list[bytes] = []
    left_bytes = most_bytes
    while left_bytes > 0 and (block := await content.read(left_bytes)):
        parts.append(block)
        left_bytes -= len(block)
    return b"".join(parts)


class StreamMeter(_Reading):
    """Counts what a stream brings. Raises `TooMuch`."""

    __slots__ = ("_frames",)

    def __init__(self, large: asyncio.Semaphore) -> None:
        super().__init__(large)
        self._frames = 0

    async def took(self, chunk: bytes, frames: int, held_bytes: int) -> None:
        """A chunk with so many events came; `held_bytes` is what is kept of the stream up to now."""
        self._bytes += len(chunk)
        self._frames += frames
        if self._bytes > STREAM_BYTES:
            raise TooMuch(f"more than {STREAM_BYTES >> 20} MiB")
        if self._frames > STREAM_FRAMES:
            raise TooMuch(f"more than {STREAM_FRAMES} events")
        if held_bytes > BODY_BYTES:
            raise TooMuch(f"an answer of more than {BODY_BYTES >> 20} MiB")
        await self._holds(held_bytes)
        await self._give_turn()
