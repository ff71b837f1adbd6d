"""One request of a load test on its way: filled in by the transport as it goes, read by whoever measures it."""

from collections.abc import Iterable
from typing import ClassVar, Protocol

from evalmesh.load.measure.records import OK, Outcome

DETAIL_BYTES = 8 << 10
"""So much of a refusal's body is kept: enough for the JSON of an error."""


class AnswerReader(Protocol):
    """Whoever understands the answer's body. Its methods do not raise."""

    def events(self, found: Iterable[bytes], at_s: float) -> None:
        """The data of events of a stream, and when they came."""

    def cut(self, data: bytes, at_s: float) -> None:
        """What stands at the end of a complete message without the empty line that ends an event."""

    def whole(self, body: bytes, at_s: float) -> None:
        """The body of an answer that is no stream."""


class Exchange:
    """One request and what became of it. Times are seconds of the monotonic clock; 0: did not happen."""

    __slots__ = (
        "body", "carrier", "connect_s", "detail", "end_s", "first_byte_s", "is_new", "outcome", "reader", "send_s",
        "status", "tries",
    )  # fmt: skip

    most_bytes: ClassVar[int] = 256 << 20
    """A body that is no stream and longer than this is no answer of a model, and would fill the memory."""

    def __init__(self, body: bytes, reader: AnswerReader) -> None:
        self.body = body
        self.reader = reader
        self.carrier: object = None
        """The transport's own: what carries the exchange now."""
        self.send_s = 0.0
        """When the first byte was handed to the kernel, or the connection was begun."""
        self.is_new = False
        """A connection was opened for it."""
        self.connect_s = 0.0
        """How long that took."""
        self.first_byte_s = 0.0
        self.end_s = 0.0
        self.status = 0
        """HTTP status; 0: none came."""
        self.outcome: Outcome = OK
        """OK: the HTTP message is complete and its status is a success; whether the answer is one, the reader knows."""
        self.detail = ""
        """Of a failure, for people."""
        self.tries = 0
