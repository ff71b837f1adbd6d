"""What calls of every resource have in common: pages, watches that go on, downloads and uploads."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import duration_pb2

from evalmesh.domain.errors import OutOfRange, Unavailable
from evalmesh.domain.run import Run
from evalmesh.process.files import appearing
from evalmesh.sdk.channel import Channel, Patience
from evalmesh.wire.names import make_name, parse_name
from evalmesh.wire.runs.reports import PIECE_BYTES

RECONNECT_S = 30.0
T = TypeVar("T")


def run_id(run: Run | str) -> str:
    """The id of a run given as a record, an id or a resource name. Raises `InvalidInput`."""
    name = run.id if isinstance(run, Run) else run
    return parse_name("runs", name if name.startswith("runs/") else make_name("runs", name))


class Calls:
    """The part of a client that talks to one gateway."""

    _channel: Channel

    async def _pages(self, method: Any, request: Any) -> AsyncIterator[Any]:
        while True:
            page = await self._channel.call(method, request, idempotent=True)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def _follow(
        self, method: Any, request: Any, min_interval_s: float, patience: Patience, read: Callable[[Any], T]
    ) -> AsyncGenerator[T, None]:
        """What `read` makes of each event; a broken watch is taken up again where it broke. Never ends by itself.

        `Unavailable` only when the patience is over.
        """
        interval = duration_pb2.Duration()
        interval.FromTimedelta(timedelta(seconds=min_interval_s))
        request.min_interval.CopyFrom(interval)
        while True:
            try:
                async with aclosing(self._channel.stream(method, request)) as events:
                    async for event in events:
                        request.start_sequence = event.sequence + 1
                        patience.heard()
                        yield read(event)
            except OutOfRange:
                # What we missed is no longer kept; a snapshot tells where things stand.
                request.start_sequence = 0
            except Unavailable as error:
                await patience.pause(error)
            else:
                gone = f"The watch of {request.name} at {self._channel.address} keeps ending."
                await patience.pause(Unavailable(gone))

    async def _download(self, method: Any, request: Any, path: Path) -> Path:
        """Writes a stream of pieces; the file appears when it is complete."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two that watch one run may fetch the same file into the same folder.
        with appearing(path) as sink:
            async for piece in self._channel.stream(method, request):
                sink.write(piece.data)
        return path

    async def _upload(self, method: Any, path: Path, make: Callable[[bytes], Any]) -> Any:
        """Sends a file in pieces; returns the answer."""

        async def parts() -> AsyncIterator[Any]:
            with path.open("rb") as source:
                while data := source.read(PIECE_BYTES):
                    yield make(data)

        return await self._channel.upload(method, parts())
