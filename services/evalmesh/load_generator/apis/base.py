"""What an API plug-in is: how a request body is made, and how its answer is read.

Built-in ones are modules beside this one; others come from the entry point group `evalmesh.load_apis`, where a name
stands for a class (or any callable without arguments) that makes a `LoadApi`:

    [project.entry-points."evalmesh.load_apis"]
    parrot = "my_package.parrot:ParrotApi"

A whole plug-in, for a server that streams `{"word": "..."}` and says `{"end": true, "words": 3}` at the end:

    import msgspec

    from evalmesh.load.measure.records import Outcome
    from evalmesh.load_generator.apis.base import Ask, LoadApi, Reader, json_body

    class Line(msgspec.Struct):
        word: str = ""
        end: bool = False
        words: int = 0

    DECODE = msgspec.json.Decoder(Line).decode

    class ParrotReader(Reader):
        __slots__ = ()

        def event(self, data: bytes, at_s: float) -> None:
            try:
                line = DECODE(data)
            except msgspec.DecodeError as error:
                self.fail(Outcome.MALFORMED, str(error))
            else:
                if line.word:
                    self.content(line.word, at_s)
                if line.end:
                    self.finished = True
                    self.count(output_tokens=line.words)

        def whole(self, body: bytes, at_s: float) -> None:
            self.event(body, at_s)

    class ParrotApi(LoadApi):
        name = "parrot"
        path = "/parrot"

        def body(self, ask: Ask) -> bytes:
            return json_body(ask, {"say": ask.text, "stream": ask.stream})

        def reader(self) -> ParrotReader:
            return ParrotReader()

The engine calls `event` for each event of a stream and `whole` for an answer that is none; both run between two
answers of the server, so whatever they do shows in the latencies. They must not raise.
"""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from evalmesh.dialect.bodies import merged
from evalmesh.load.measure.records import OK, Outcome

_encode = msgspec.json.Encoder().encode
_MOST_TOKENS = 1 << 32
_DETAIL_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, before it has the shape of an API. A data set fills what it has; an API takes what it knows."""

    model: str
    stream: bool
    messages: tuple[Mapping[str, object], ...] = ()
    """Chat messages in OpenAI's form; content may be parts with images."""
    text: str = ""
    """One prompt of plain text."""
    token_ids: tuple[int, ...] | None = None
    """The same as token ids."""
    texts: tuple[str, ...] = ()
    """Texts to embed, or documents to rank."""
    query: str = ""
    """What documents are ranked for."""
    max_tokens: int = 0
    """0: not limited."""
    min_tokens: int = 0
    extra: Mapping[str, object] = field(default_factory=dict)
    """Merged into the body last; a value of `None` removes the key."""


class Reader(ABC):
    """What one answer says. Made anew for each request.

    Tokens of a chunk: an answer of n chunks and T tokens (of the server's usage) whose chunks say nothing about their
    own tokens carried at least one token in each. Where equally many in all but the last chunk make T, as with a server
    that sends every k tokens, that is what they carried. Otherwise the T - n others are shared among the chunks in
    proportion to the length of their texts, by rounding the running sum. An answer that ended by itself may have one
    token more, the end mark, which the server counts and nobody sees.
    """

    __slots__ = (
        "cached_tokens",
        "choices",
        "detail",
        "failure",
        "finished",
        "has_usage",
        "input_tokens",
        "marks",
        "output_tokens",
        "reasoning_tokens",
        "sizes",
        "stopped",
        "texts",
        "times",
    )

    def __init__(self) -> None:
        self.times = array("d")
        """When each content chunk came, in seconds of the monotonic clock."""
        self.sizes = array("I")
        """Length of each chunk's text."""
        self.marks: array[int] | None = None
        """Tokens up to and with each chunk, where every chunk says so (`continuous_usage_stats`)."""
        self.texts: list[str] | None = None
        """Set to a list by whoever needs the answer's text (conversations); reasoning is not part of it."""
        self.choices = 1
        """Answers in the answer (`n`); their tokens come mixed."""
        self.finished = False
        """The answer said that it is complete."""
        self.stopped = False
        """It ended by an end mark, not by a limit."""
        self.failure: Outcome | None = None
        self.detail = ""
        """Of the failure, for people."""
        self.has_usage = False
        self.input_tokens = 0
        self.output_tokens = 0
        self.reasoning_tokens = 0
        self.cached_tokens = 0

    generates: ClassVar[bool] = True
    """Whether answers are made of tokens; vectors and scores are not."""

    @abstractmethod
    def event(self, data: bytes, at_s: float) -> None:
        """One event of a stream: what stands behind `data:`. Must not raise."""

    def events(self, found: Iterable[bytes], at_s: float) -> None:
        """Events that came together."""
        for data in found:
            self.event(data, at_s)

    @abstractmethod
    def whole(self, body: bytes, at_s: float) -> None:
        """The whole body of an answer that is no stream. Must not raise."""

    def cut(self, data: bytes, at_s: float) -> None:
        """What stands at the end of a complete HTTP message without the empty line that ends an event."""
        before = self.failure
        self.event(data, at_s)
        if before is None and self.failure is Outcome.MALFORMED:
            self.failure = Outcome.TRUNCATED

    def outcome(self) -> Outcome:
        """How the answer counts, now that its HTTP message is complete."""
        if self.failure is not None:
            return self.failure
        if not self.finished:
            return Outcome.TRUNCATED
        return OK if self.times else Outcome.EMPTY

    def content(self, text: str, at_s: float, *, seen: bool = True) -> None:
        """Notes a chunk that carried text. `seen`: it is part of the answer (reasoning is not)."""
        self.times.append(at_s)
        self.sizes.append(len(text))
        if seen and self.texts is not None:
            self.texts.append(text)

    def count(
        self, *, input_tokens: int = 0, output_tokens: int = 0, reasoning_tokens: int = 0, cached_tokens: int = 0
    ) -> None:
        """Notes the server's own token counts; see `sane`."""
        self.has_usage = sane(output_tokens) == output_tokens
        self.input_tokens = sane(input_tokens)
        self.output_tokens = sane(output_tokens)
        self.reasoning_tokens = sane(reasoning_tokens)
        self.cached_tokens = sane(cached_tokens)

    def fail(self, outcome: Outcome, detail: str = "") -> None:
        """Notes a failure; the first one counts."""
        if self.failure is None:
            self.failure = outcome
            self.detail = detail[:_DETAIL_CHARACTERS]


def sane(tokens: int) -> int:
    """A server's count if it can be one; 0, which is none, for what no record could hold."""
    return tokens if 0 <= tokens < _MOST_TOKENS else 0


class LoadApi(ABC):
    """The shape of an API's requests and answers."""

    name: ClassVar[str]
    path: ClassVar[str]
    """Where it is usually found, below `/v1`."""
    turns_key: ClassVar[str] = ""
    """Key of the list of a conversation's messages; empty: the API has no conversations."""
    limit_key: ClassVar[str] = "max_tokens"
    """Key that limits the length of an answer."""

    @abstractmethod
    def body(self, ask: Ask) -> bytes:
        """The complete JSON body. With `ask.stream` the server is asked for its usage where the API can."""

    @abstractmethod
    def reader(self) -> Reader:
        """A reader for one answer."""


def json_body(ask: Ask, body: dict[str, Any]) -> bytes:
    """Encodes a body, with `ask.extra` merged in (`dialect.bodies.merged`)."""
    return _encode(merged(body, ask.extra))
