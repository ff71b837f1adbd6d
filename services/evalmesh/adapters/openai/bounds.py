"""How much of what a server sends is read: enough for any answer there is, and little enough to survive any other.

All sizes are those after decompression. aiohttp decompresses in slices of what its buffer takes, and bounds the head
itself: 8 KiB a line, 128 header lines.
"""

import asyncio
from contextlib import AsyncExitStack

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
"""Bodies above 1 MiB that are held at the same time, per endpoint; further ones wait, unread."""
_TURN_BYTES = 256 << 10
"""The event loop gets its turn after so much, however fast it comes."""


class TooMuch(ValueError):
    """A server sends more than is read; the text says what and how much."""


async def read_body(
    content: aiohttp.StreamReader, most_bytes: int, held: AsyncExitStack, large: asyncio.Semaphore
) -> bytes:
    """The whole body. Raises `TooMuch`. `held` keeps the permit of a large one until the body is done with."""
    parts: list[bytes] = []
    size_bytes = turned_bytes = 0
    has_permit = False
    while block := await content.readany():
        parts.append(block)
        size_bytes += len(block)
        if size_bytes > most_bytes:
            raise TooMuch(f"a body of more than {most_bytes >> 20} MiB")
        if size_bytes > _LARGE_BYTES and not has_permit:
            await held.enter_async_context(large)
            has_permit = True
        if size_bytes - turned_bytes >= _TURN_BYTES:
            turned_bytes = size_bytes
            await asyncio.sleep(0)
    body = b"".join(parts)
    if size_bytes > _LARGE_BYTES and sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
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


class StreamMeter:
    """Counts what a stream brings. Raises `TooMuch`."""

    __slots__ = ("_bytes", "_frames", "_turned_bytes")

    def __init__(self) -> None:
        self._bytes = self._turned_bytes = self._frames = 0

    async def took(self, chunk: bytes, frames: int) -> None:
        """Gives the event loop its turn now and then: a fast stream would never wait."""
        self._bytes += len(chunk)
        self._frames += frames
        if self._bytes > STREAM_BYTES:
            raise TooMuch(f"more than {STREAM_BYTES >> 20} MiB")
        if self._frames > STREAM_FRAMES:
            raise TooMuch(f"more than {STREAM_FRAMES} events")
        if self._bytes - self._turned_bytes >= _TURN_BYTES:
            self._turned_bytes = self._bytes
            await asyncio.sleep(0)
