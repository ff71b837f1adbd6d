"""What readers of the APIs that OpenAI defined have in common: token counts and failures, as a load test has them."""

from abc import abstractmethod
from array import array
from typing import Any, ClassVar

from evalmesh.dialect.ends import DONE
from evalmesh.dialect.errors import COMPRESSED, Said, error_in, is_compressed
from evalmesh.dialect.shapes import UNREADABLE, Chunk, decode
from evalmesh.dialect.usage import Counts
from evalmesh.load.measure.records import Outcome
from evalmesh.load_generator.apis.base import Reader, sane

_SHOWN_BYTES = 80


class OnePieceReader(Reader):
    """Answers that are there as a whole or not at all: a list, with input tokens and no output tokens."""

    __slots__ = ()
    generates = False
    key: ClassVar[str]
    """Where the answer has its list."""

    def event(self, data: bytes, at_s: float) -> None:
        """A server that streams such an answer sends all of it as one event."""
        if data.strip() != DONE:
            self.whole(data, at_s)

    def whole(self, body: bytes, at_s: float) -> None:
        try:
            answer = self.decode(body)
        except UNREADABLE as error:
            if not note_reported(self, body):
                note_unreadable(self, body, error)
            return
        found = getattr(answer, self.key)
        if found is None:
            if not note_reported(self, body):
                self.fail(Outcome.MALFORMED, f"The answer has no `{self.key}`.")
            return
        self.finished = True
        if found:
            self.times, self.sizes = array("d", (at_s,)), array("I", (1,))
        self.count_in(answer)

    @abstractmethod
    def decode(self, body: bytes) -> Any:
        """The answer. Raises one of `UNREADABLE`."""

    @abstractmethod
    def count_in(self, answer: Any) -> None:
        """Notes the tokens that were read."""


def note_usage(reader: Reader, counts: Counts) -> None:
    """Hands the counts to the reader."""
    read, said, reasoning, cached, _ = counts
    reader.input_tokens = sane(read) if read else 0
    reader.output_tokens = sane(said) if said else 0
    reader.has_usage = reader.has_usage or (said is not None and reader.output_tokens == said)
    reader.cached_tokens = sane(cached) if cached else 0
    if reasoning is not None:
        # Where the server does not say, the counted chunks of reasoning stand.
        reader.reasoning_tokens = sane(reasoning)


def note_unreadable(reader: Reader, data: bytes, error: Exception) -> None:
    """An event or body that is not JSON, or JSON of a wrong shape."""
    # Some servers send an event without data to keep the connection open; a body without anything is cut.
    if data.strip():
        start = data[:_SHOWN_BYTES].decode("utf-8", "replace")
        reader.fail(Outcome.MALFORMED, COMPRESSED if is_compressed(data) else f"{error}: {start}")


def note_error(reader: Reader, said: Said | None) -> bool:
    """Whether a server says that something went wrong, which is then noted."""
    if said is None:
        return False
    reader.fail(Outcome.ERROR_EVENT, said.message)
    return True


def note_reported(reader: Reader, data: bytes) -> bool:
    """Likewise for bytes that hold no answer of this API."""
    try:
        chunk: Chunk = decode(data)
    except UNREADABLE:
        return False
    return note_error(reader, error_in(chunk, data))
