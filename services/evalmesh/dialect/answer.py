"""A model's answer, whole or in pieces: text and finish reason decide, every other field is read if it can be."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from evalmesh.dialect.calls import CallBuilder, pieces_in, whole_calls
from evalmesh.dialect.content import NoText, images_in, refusal_in, said_in, sound_in, thought_in
from evalmesh.dialect.ends import BROKEN_OFF, DONE, finish_of, reason_of
from evalmesh.dialect.errors import error_in
from evalmesh.dialect.logprobs import ScoredText
from evalmesh.dialect.loose import count_of, whole
from evalmesh.dialect.shapes import NULL, UNREADABLE, Choice, Message, ScoredChoice, ScoredChunk, decode_scored
from evalmesh.dialect.usage import as_domain, read_usage
from evalmesh.domain.completion import ContinuationScore, FinishReason, TokenLogprob, Usage
from evalmesh.domain.content import ToolCall

_SHOWN_BYTES = 200
C = TypeVar("C", bound=Choice)


class Fault(msgspec.Struct, frozen=True):
    """Why there is no answer, although a server answered."""

    kind: str
    """`malformed`, `truncated`, or `reported`: the server says so itself."""
    message: str
    """May hold whatever the server sent."""
    code: str = ""
    """Of what is reported."""
    final: bool = False
    """The same request would bring the same again."""


class Answer(msgspec.Struct, gc=False):
    """A complete answer."""

    text: str
    reasoning: str | None
    finish_reason: FinishReason
    usage: Usage | None
    choices: Sequence[ScoredChoice]
    """In their order; not of streamed answers."""
    first_token_at: float | None = None
    """When the first content or reasoning came; streamed answers only."""
    done_at: float | None = None
    """When the end mark came; streamed answers only."""
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None
    media: list[bytes] = []
    """Images and sounds, not yet kept."""
    logprobs: list[msgspec.Raw] = []
    """As sent; read only where asked for."""
    top_logprobs: tuple[TokenLogprob, ...] = ()
    continuations: tuple[ContinuationScore, ...] = ()
    prompt_logprobs: msgspec.Raw = NULL
    """As sent, where they stand beside the choices."""
    scored: Sequence[ScoredText | None] = ()
    """Prompts whose tokens are told, where they are no choices."""
    embeddings: tuple[tuple[float, ...], ...] = ()
    scores: tuple[float, ...] = ()
    """Of documents, in the order in which they were given."""


def parse_answer(body: bytes) -> Answer | Fault:
    """Reads an answer that was not streamed."""
    try:
        return _read(decode_scored(body), body)
    except (*UNREADABLE, NoText) as error:
        return malformed(error, body)
    except ValueError as error:
        return _no_media(error)


def _read(content: ScoredChunk, body: bytes) -> Answer | Fault:
    if (said := error_in(content, body)) is not None:
        return Fault("reported", said.message, said.code)
    choices = ordered(content.choices or [])
    if not choices:
        return Fault("malformed", "The answer has no choices: " + _start(body))
    choice = choices[0]
    reason = reason_of(choice.finish_reason)
    if reason in BROKEN_OFF:
        return _broken_off(reason)
    message = choice.message or choice.delta
    if message is None and choice.text is None:
        return Fault("malformed", "The answer has no text: " + _start(body))
    return _whole(content, choices, message, reason)


def _whole(content: ScoredChunk, choices: Sequence[ScoredChoice], message: Message | None, reason: str) -> Answer:
    answer = Answer(
        whole(said_in(choices[0], message)),
        None,
        finish_of(reason),
        as_domain(read_usage(content.usage)),
        choices,
        logprobs=[choices[0].logprobs],
        prompt_logprobs=content.prompt_logprobs,
    )
    if message is not None and (message.has_more() or not isinstance(message.content, str)):
        answer.reasoning = whole(thought_in(message)) or None
        answer.refusal = whole(refusal_in(message)) or None
        answer.tool_calls = whole_calls(pieces_in(message))
        sound = sound_in(message)
        answer.media = images_in(message) + ([sound] if sound else [])
    return answer


def ordered(choices: Sequence[C]) -> Sequence[C]:
    """By their index; one that cannot be read is that of the place where it stands."""
    if len(choices) < 2:
        return choices
    places = [count_of(choice.index) for choice in choices]
    if None in places or len(set(places)) < len(places):
        return choices
    return [choices[at] for at in sorted(range(len(choices)), key=lambda at: places[at] or 0)]


class StreamedAnswer:
    """Puts the pieces of a streamed answer together. Of several only the one that begins first is read."""

    __slots__ = (
        "_audio",
        "_calls",
        "_done_at",
        "_first_token_at",
        "_held",
        "_index",
        "_logprobs",
        "_media",
        "_reason",
        "_reasoning",
        "_refusal",
        "_text",
        "_usage",
    )

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls = CallBuilder()
        self._media: list[bytes] = []
        self._audio = bytearray()
        self._logprobs: list[msgspec.Raw] = []
        self._reason = ""
        self._usage: object = None
        self._first_token_at: float | None = None
        self._done_at: float | None = None
        self._held = 0
        self._index: int | None = None

    @property
    def held_bytes(self) -> int:
        """What is kept of the stream up to now, a character counted as a byte."""
        return self._held + self._calls.held

    @property
    def complete(self) -> bool:
        """Whether the server said how the answer ended; only usage may be missing then."""
        return bool(self._reason) or self._done_at is not None

    @property
    def done(self) -> bool:
        """Whether the end mark has come."""
        return self._done_at is not None

    def add(self, payload: bytes, at_s: float) -> Fault | None:
        """Takes the data of one event that came at `at_s`; `None` unless it makes the answer a failure."""
        if not (payload := payload.strip()) or self._done_at is not None:
            return None  # Nothing, as some servers keep connections open, or what follows the end mark.
        if payload == DONE:
            self._done_at = at_s
            return None
        fault = self._add(payload, at_s)
        # How the answer ended is known: what goes wrong after that is not its fault.
        return None if self.complete else fault

    def _add(self, payload: bytes, at_s: float) -> Fault | None:
        try:
            content = decode_scored(payload)
        except UNREADABLE as error:
            return malformed(error, payload)
        if (said := error_in(content, payload)) is not None:
            return Fault("reported", said.message, said.code)
        if content.usage is not None:
            self._usage = content.usage
        try:
            for choice in content.choices or ():
                index = count_of(choice.index) or 0
                if self._index is None:
                    self._index = index
                if index == self._index:
                    self._add_choice(choice, at_s)
        except NoText as error:
            return malformed(error, payload)
        except ValueError as error:
            return _no_media(error)
        return None

    def _add_choice(self, choice: ScoredChoice, at_s: float) -> None:
        delta = choice.delta
        if delta is None and not self._text:
            # The whole message in a stream; where there were pieces, it says them again.
            delta = choice.message
        text = said_in(choice, delta) if delta is not None or choice.message is None else ""
        more = delta is not None and self._add_pieces(delta)
        if text:
            self._text.append(text)
            self._held += len(text)
        if self._first_token_at is None and (text or more):
            self._first_token_at = at_s
        if choice.logprobs != NULL:
            self._logprobs.append(choice.logprobs)
            self._held += len(choice.logprobs)
        if choice.finish_reason:
            self._reason = reason_of(choice.finish_reason) or self._reason

    def _add_pieces(self, delta: Message) -> bool:
        """Everything but text; whether there was any."""
        if isinstance(delta.content, str) and not delta.has_more():
            return False
        reasoning, refusal, calls = thought_in(delta), refusal_in(delta), pieces_in(delta)
        if reasoning:
            self._reasoning.append(reasoning)
        if refusal:
            self._refusal.append(refusal)
        self._calls.add(calls)
        sound, images = sound_in(delta), images_in(delta)
        self._audio += sound
        self._media += images
        self._held += len(reasoning) + len(refusal) + len(sound) + sum(map(len, images))
        return bool(reasoning or refusal or calls or sound or images)

    def end(self) -> Answer | Fault:
        """The answer, now that the stream has ended."""
        if not self.complete:
            chars = sum(map(len, self._text))
            return Fault("truncated", f"The stream ended without an end mark, after {chars} characters of text.")
        if self._reason in BROKEN_OFF:
            return _broken_off(self._reason)
        return Answer(
            whole("".join(self._text)),
            whole("".join(self._reasoning)) or None,
            finish_of(self._reason),
            as_domain(read_usage(self._usage)),
            [],
            self._first_token_at,
            self._done_at,
            tool_calls=self._calls.calls(),
            refusal=whole("".join(self._refusal)) or None,
            media=[*self._media, bytes(self._audio)] if self._audio else self._media,
            logprobs=self._logprobs,
        )


def malformed(error: Exception, body: bytes) -> Fault:
    """What came cannot be read."""
    return Fault("malformed", f"The answer cannot be read ({error}); it begins with: {_start(body)}")


def _start(body: bytes) -> str:
    return body[:_SHOWN_BYTES].decode("utf-8", "replace")


def _no_media(error: ValueError) -> Fault:
    return Fault("malformed", f"The answer holds a medium that cannot be read: {error}.", final=True)


def _broken_off(reason: str) -> Fault:
    return Fault("truncated", f"The server broke the answer off (finish_reason {reason!r}).")
