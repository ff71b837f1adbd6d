"""A server that sends what no client can hold, and counts how much of it was taken."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

Pieces = Callable[[], Iterator[bytes]]
PIECE = 64 << 10
LIST = b'{"object": "list", "data": [{"id": "m"}]}'
_SOUND = b'{"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}'
_LOOK = b'"Hi"'
"""In what an endpoint asks first, to see whether anybody is there."""


class Hostile:
    """Answers every question but the first small one with `head` and as many of `pieces` as the client takes.

    GET lists the model `m`.
    """

    def __init__(self, head: bytes, pieces: Pieces) -> None:
        self._answer = b"HTTP/1.1 " + head + b"\r\nConnection: close\r\n\r\n"
        self._pieces = pieces
        self.sent_bytes = 0
        self.requests = 0
        self.port = 0
        self.cut = asyncio.Event()
        """A client went away before all was sent."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int((head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]) or 0)
            asked = await reader.readexactly(length)
            if head.startswith(b"GET") or _LOOK in asked:
                said = LIST if head.startswith(b"GET") else _SOUND
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(said), said)
                )
                await writer.drain()
                return
            self.requests += 1
            writer.write(self._answer)
            for piece in self._pieces():
                writer.write(piece)
                await writer.drain()
                self.sent_bytes += len(piece)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.cut.set()
        finally:
            writer.close()


@asynccontextmanager
async def hostile(head: bytes, pieces: Pieces) -> AsyncIterator[Hostile]:
    served = Hostile(head, pieces)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0, limit=1 << 20)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.close()


def endless(begin: bytes, more: bytes, total_bytes: int) -> Pieces:
    """`begin`, then `more` again and again."""

    def pieces() -> Iterator[bytes]:
        yield begin
        piece = more * max(1, PIECE // len(more))
        for _ in range(total_bytes // len(piece)):
            yield piece

    return pieces


def squeezed(pieces: Pieces, wbits: int) -> Pieces:
    """The same, compressed: 31 for gzip, 15 for deflate."""

    def compressed() -> Iterator[bytes]:
        packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
        for piece in pieces():
            if data := packer.compress(piece):
                yield data
        yield packer.flush()

    return compressed
