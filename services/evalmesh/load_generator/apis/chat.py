"""OpenAI's chat completions and text completions, as vLLM, SGLang, TGI and many others serve them."""

from array import array
from collections.abc import Iterable
from typing import Any

from evalmesh.dialect.answer import ordered
from evalmesh.dialect.calls import name_and_arguments, pieces_in
from evalmesh.dialect.content import NoText, refusal_in, said_in, thought_in
from evalmesh.dialect.ends import BROKEN_OFF, DONE, finish_of, reason_of
from evalmesh.dialect.errors import error_in
from evalmesh.dialect.loose import count_of
from evalmesh.dialect.shapes import UNREADABLE, Choice, Chunk, Message, decode
from evalmesh.dialect.usage import read_usage
from evalmesh.load.measure.records import Outcome
from evalmesh.load_generator.apis.base import Ask, LoadApi, Reader, json_body, sane
from evalmesh.load_generator.apis.openai import note_error, note_unreadable, note_usage

_MOST_CHOICES = 4096
_LONGEST_MARK = 16
"""The end mark with blanks around it; looking at the length of all others costs next to nothing."""


class ChoicesReader(Reader):
    """Each chunk of content, reasoning or tool calls is a token; an empty role chunk is none."""

    __slots__ = ("_broken_off", "_done", "_ended", "_told")

    def __init__(self) -> None:
        super().__init__()
        self._ended = 0
        """A bit for each choice that has a finish reason."""
        self._broken_off = ""
        self._done = False
        """The end mark has come."""
        self._told: object = None

    def event(self, data: bytes, at_s: float) -> None:
        self.events((data,), at_s)

    def events(self, found: Iterable[bytes], at_s: float) -> None:
        """All events of a packet in one loop: where a server is fast, its packets hold many."""
        if self._done:
            return  # Nothing behind the end mark counts.
        note_time, note_size, texts = self.times.append, self.sizes.append, self.texts
        for data in found:
            if len(data) < _LONGEST_MARK and data.strip() == DONE:
                self.finished = self._done = True
                return
            try:
                answer = decode(data)
            except UNREADABLE as error:
                self._unreadable(data, error)
                continue
            for choice in answer.choices or ():
                delta = choice.delta
                if delta is not None and (text := delta.content) and text.__class__ is str:
                    note_time(at_s)
                    note_size(len(text))
                    if texts is not None and self._is_told(choice):
                        texts.append(text)
                else:
                    self._rare(choice, at_s)
                if choice.finish_reason or choice.index:
                    self._end(choice)
            if answer.usage is not None or answer.error or not answer.choices:
                self._beside(answer, data)

    def _unreadable(self, data: bytes, error: Exception) -> None:
        if not self.finished:
            note_unreadable(self, data, error)

    def _beside(self, answer: Chunk, data: bytes) -> None:
        """What a chunk holds beside its choices. When they have ended, nothing that goes wrong is their fault."""
        if answer.usage is not None:
            self._usage(answer.usage)
        if (answer.error or not answer.choices) and not self.finished:
            note_error(self, error_in(answer, data))

    def whole(self, body: bytes, at_s: float) -> None:
        try:
            answer = decode(body)
        except UNREADABLE as error:
            note_unreadable(self, body, error)
            return
        if note_error(self, error_in(answer, body)):
            return
        if not answer.choices:
            self.fail(Outcome.MALFORMED, "The answer has no choices.")
        for choice in ordered(answer.choices or []):
            content, others = self._said(choice, choice.message or choice.delta)
            if content and self.texts is not None and not self.texts:
                self.texts.append(content)
            if content or others:
                self.times, self.sizes = array("d", (at_s,)), array("I", (1,))
            self._end(choice)
        # The end of its JSON is the end of the answer.
        self.finished = True
        if answer.usage is not None and (counts := read_usage(answer.usage)) is not None:
            note_usage(self, counts)

    def outcome(self) -> Outcome:
        if self._broken_off and self.failure is None:
            self.fail(Outcome.TRUNCATED, f"the server broke the answer off (finish_reason {self._broken_off!r})")
        return super().outcome()

    def _end(self, choice: Choice) -> None:
        """Counts choices and those that have ended: the answer is complete when all have."""
        index = min(count_of(choice.index) or 0, _MOST_CHOICES) if choice.index else 0
        self.choices = max(self.choices, index + 1)
        reason = reason_of(choice.finish_reason)
        if reason in BROKEN_OFF:
            self._broken_off = reason
        elif reason:
            self._ended |= 1 << index
            self.finished = self._ended.bit_count() >= self.choices
            self.stopped = finish_of(reason) != "length"

    def _is_told(self, choice: Choice) -> bool:
        """Whether a conversation goes on with this one: the first of several answers."""
        if self._told is None:
            self._told = choice.index or 0
        return self._told == (choice.index or 0)

    def _rare(self, choice: Choice, at_s: float) -> None:
        """A chunk that is no plain content of a chat."""
        delta = choice.delta
        if delta is None and not self.times:
            # The whole message in a stream; where there were pieces, it says them again.
            delta = choice.message
        if delta is not None:
            thought = delta.reasoning_content
            if thought.__class__ is not str or not thought:
                if not delta.content and not choice.text and not delta.has_more():
                    return  # a role, or the end
                thought = thought_in(delta)
            if thought:
                self.reasoning_tokens += 1
                self.content(thought, at_s, seen=False)
                if not delta.content:
                    return
        elif choice.message is not None:
            return
        content, others = self._said(choice, delta, thoughts=False)
        if content or others:
            self.content(content or others, at_s, seen=bool(content) and self._is_told(choice))

    def _said(self, choice: Choice, message: Message | None, *, thoughts: bool = True) -> tuple[str, str]:
        """What a choice says: its content, and all else that carries text."""
        try:
            content = said_in(choice, message)
        except NoText as error:
            self.fail(Outcome.MALFORMED, f"the answer cannot be read: {error}")
            return "", ""
        if message is None or (message.content.__class__ is str and not message.has_more()):
            return content, ""
        others = [name_and_arguments(piece) for piece in pieces_in(message)]
        others += [refusal_in(message), thought_in(message) if thoughts else ""]
        return content, "".join(others)

    def _usage(self, value: object) -> None:
        """Of the whole answer, or up to this chunk where the server tells with every chunk."""
        marks = self.marks
        if marks is not None and len(marks) == len(self.times) - 1 and isinstance(value, dict):
            # One more of those that come with every token: only this count grows.
            written = value.get("completion_tokens")
            if type(written) is int and sane(written):
                self.output_tokens = written
                marks.append(written)
                return
        counts = read_usage(value)
        if counts is None:
            return
        note_usage(self, counts)
        if counts.output is not None:
            if self.marks is None:
                self.marks = array("I")
            if len(self.marks) == len(self.times) - 1:
                self.marks.append(sane(counts.output))


class ChatApi(LoadApi):
    """`/v1/chat/completions`."""

    name = "chat"
    path = "/chat/completions"
    turns_key = "messages"

    def body(self, ask: Ask) -> bytes:
        messages = list(ask.messages) or [{"role": "user", "content": ask.text}]
        body: dict[str, Any] = {"model": ask.model, "messages": messages, "stream": ask.stream}
        return json_body(ask, body | generation_keys(ask))

    def reader(self) -> ChoicesReader:
        return ChoicesReader()


def generation_keys(ask: Ask) -> dict[str, Any]:
    """What chat and completions share: limits, and usage with a stream."""
    body: dict[str, Any] = {}
    if ask.max_tokens:
        body["max_tokens"] = ask.max_tokens
    if ask.min_tokens:
        body["min_tokens"] = ask.min_tokens
    if ask.stream:
        body["stream_options"] = {"include_usage": True}
    return body
