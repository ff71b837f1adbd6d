"""OpenAI's chat completions, as vLLM, SGLang, TGI and many others serve them."""

from array import array
from collections.abc import Iterable
from typing import Any

import msgspec

from evalmesh.load_generator.apis.base import Ask, LoadApi, Reader, json_body, sane
from evalmesh.load_generator.apis.openai import UNREADABLE, Usage, note_error, note_unreadable, note_usage

_DONE = b"[DONE]"


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct, gc=False):
    function: _Function | None = None


class _Message(msgspec.Struct, gc=False):
    """A message, or a part of one (`delta`)."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None
    index: int = 0


class _Answer(msgspec.Struct, gc=False):
    """A chunk or a whole answer; a chunk has `delta` where an answer has `message`."""

    choices: list[_Choice] | None = None
    usage: Usage | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class ChatReader(Reader):
    """Content, reasoning and tool calls are tokens; an empty role chunk is none."""

    __slots__ = ("ended",)

    def __init__(self) -> None:
        super().__init__()
        self.ended = 0
        """Choices that have a finish reason."""

    def event(self, data: bytes, at_s: float) -> None:
        self.events((data,), at_s)

    def events(self, found: Iterable[bytes], at_s: float) -> None:
        """All events of a packet in one loop: where a server is fast, its packets hold many."""
        note_time, note_size, texts = self.times.append, self.sizes.append, self.texts
        for data in found:
            if data == _DONE:
                continue
            try:
                answer = _decode(data)
            except UNREADABLE as error:
                note_unreadable(self, data, error)
                continue
            for choice in answer.choices or ():
                delta = choice.delta
                if delta is not None and (text := delta.content) and isinstance(text, str):
                    note_time(at_s)
                    note_size(len(text))
                    if texts is not None:
                        texts.append(text)
                else:
                    self._rare(delta, at_s)
                if choice.finish_reason is not None or choice.index:
                    self._end(choice)
            if answer.usage is not None:
                self._usage(answer.usage)
            elif not answer.choices:
                note_error(self, data)

    def whole(self, body: bytes, at_s: float) -> None:
        try:
            answer = _decode(body)
        except UNREADABLE as error:
            note_unreadable(self, body, error)
            return
        if answer.choices is None and note_error(self, body):
            return
        for choice in answer.choices or ():
            message = choice.message
            if message is not None:
                if isinstance(message.content, str) and message.content and self.texts is not None:
                    self.texts.append(message.content)
                if _text_of(message):
                    self.times, self.sizes = array("d", (at_s,)), array("I", (1,))
            self._end(choice)
        if answer.usage is not None:
            note_usage(self, answer.usage)

    def _end(self, choice: _Choice) -> None:
        """Counts choices and those that have ended: the answer is complete when all have."""
        self.choices = max(self.choices, choice.index + 1)
        if choice.finish_reason is not None:
            self.ended += 1
            self.finished = self.ended >= self.choices
            self.stopped = choice.finish_reason != "length"

    def _rare(self, delta: _Message | None, at_s: float) -> None:
        """A chunk without plain text."""
        if delta is None:
            return
        text = delta.reasoning_content or delta.reasoning
        if text:
            self.reasoning_tokens += 1
            self.content(text, at_s, seen=False)
        elif delta.tool_calls or delta.content or delta.function_call or delta.refusal:
            text = _text_of(delta)
            if text:
                self.content(text, at_s, seen=isinstance(delta.content, list))

    def _usage(self, usage: Usage) -> None:
        """Of the whole answer, or up to this chunk where the server tells with every chunk."""
        note_usage(self, usage)
        if usage.completion_tokens is not None:
            if self.marks is None:
                self.marks = array("I")
            if len(self.marks) == len(self.times) - 1:
                self.marks.append(sane(usage.completion_tokens))


def _text_of(message: _Message) -> str:
    """Whatever a message carries, as one text."""
    if isinstance(message.content, str) and message.content:
        return message.content
    parts = [str(part.get("text") or "") for part in message.content or () if isinstance(part, dict)]
    calls = [call.function for call in message.tool_calls or ()]
    for call in (*calls, message.function_call):
        if call is not None:
            parts += (call.name or "", call.arguments or "")
    parts += (message.reasoning_content or "", message.reasoning or "", message.refusal or "")
    return "".join(parts)


class ChatApi(LoadApi):
    """`/v1/chat/completions`."""

    name = "chat"
    path = "/chat/completions"
    turns_key = "messages"

    def body(self, ask: Ask) -> bytes:
        messages = list(ask.messages) or [{"role": "user", "content": ask.text}]
        body: dict[str, Any] = {"model": ask.model, "messages": messages, "stream": ask.stream}
        return json_body(ask, body | generation_keys(ask))

    def reader(self) -> ChatReader:
        return ChatReader()


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
