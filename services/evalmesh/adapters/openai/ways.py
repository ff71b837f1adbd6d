"""Where one API differs from another: which kinds of requests it takes, and how each is written and read.

Connections, retries, concurrency, outages and checks are the same for all of them (`endpoint`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from yarl import URL

from evalmesh.dialect.answer import Answer, Fault
from evalmesh.dialect.bodies import cut_at
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.needs import Capabilities
from evalmesh.domain.request import GenerationConfig, Request, RequestKind

Media = Mapping[str, bytes]
"""Bytes by sha256."""


class Streamed(Protocol):
    """Puts the events of one stream together."""

    @property
    def held_bytes(self) -> int:
        """What is kept of the stream up to now, a character counted as a byte."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the server said how the answer ended."""
        ...

    @property
    def done(self) -> bool:
        """Whether nothing more is to come."""
        ...

    def add(self, payload: bytes, at_s: float) -> Fault | None:
        """Takes the data of one event that came at `at_s`; `None` unless it makes the answer a failure."""
        ...

    def end(self) -> Answer | Fault:
        """The answer, now that the stream has ended."""
        ...


def _as_it_is(request: Request, config: GenerationConfig, answer: Answer) -> Answer | Fault:
    del request, config
    return answer


@dataclass(frozen=True, slots=True)
class Way:
    """How requests of one kind are asked, and how their answers are read."""

    url: URL
    encode: Callable[[Request, GenerationConfig, Media], bytes]
    """The body. Raises `InvalidInput` for what cannot be said in it."""
    parse: Callable[[bytes], Answer | Fault]
    stream: Callable[[], Streamed] | None = None
    """`None`: such answers are never streamed."""
    finish: Callable[[Request, GenerationConfig, Answer], Answer | Fault] = _as_it_is
    """What only the request tells of an answer."""
    name: str = ""
    """Where there are several ways, for people."""
    one_by_one: bool = False
    """Each continuation is asked by itself."""


class Door(Protocol):
    """An API at an address, for one model."""

    @property
    def capabilities(self) -> Capabilities:
        """Known without asking."""
        ...

    @property
    def server(self) -> str:
        """What stands behind it, for messages: `an OpenAI-compatible server`."""
        ...

    def ways(self, kind: RequestKind) -> Sequence[Way]:
        """One, or several to be tried in this order; none for a kind that it has not."""
        ...


def cut(answer: Answer, stops: Sequence[str]) -> Answer:
    """Ended where a server would have ended it that knows these stop sequences."""
    if stops and (text := cut_at(stops, answer.text)) is not None:
        answer.text, answer.finish_reason = text, "stop"
    return answer


def not_served(model: str, kind: RequestKind, model_kind: str) -> InvalidInput:
    """The endpoint has no way for this kind."""
    return InvalidInput(
        f"The endpoint of {model} does not serve {kind} requests; its model.kind is {model_kind}.",
        {"field": "model.kind"},
    )
