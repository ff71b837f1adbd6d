"""OpenAI's chat completions and text completions, as vLLM, SGLang, TGI and many others serve them."""

from array import array
from collections.abc import Iterable
from typing import Any

import msgspec

from evalmesh.load_generator.apis.base import Ask, LoadApi, Reader, json_body, sane
from evalmesh.load_generator.apis.openai import DONE, UNREADABLE, UsageBody, note_error, note_unreadable, note_usage


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
    text: str | None = None
    """Text completions have this alone."""
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None
    index: int = 0


class _Answer(msgspec.Struct, gc=False):
    """A chunk or a whole answer; a chunk has `delta` where an answer has `message`."""

    choices: list[_Choice] | None = None
    usage: UsageBody | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class ChoicesReader(Reader):
    """Each chunk of content, reasoning or tool calls is a token; an empty role chunk is none."""

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
            if data.strip() == DONE:
                self.finished = True
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
                    self._rare(choice, at_s)
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
            content, others = _said(choice.text, choice.message)
            if content and self.texts is not None:
                self.texts.append(content)
            if content or others:
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

    def _rare(self, choice: _Choice, at_s: float) -> None:
        """A chunk that is no plain content of a chat."""
        delta = choice.delta
        if delta is not None and (thought := delta.reasoning_content or delta.reasoning or _thought(delta.content)):
            self.reasoning_tokens += 1
            self.content(thought, at_s, seen=False)
            return
        content, others = _said(choice.text, delta)
        if content or others:
            self.content(content or others, at_s, seen=bool(content))

    def _usage(self, usage: UsageBody) -> None:
        """Of the whole answer, or up to this chunk where the server tells with every chunk."""
        note_usage(self, usage)
        if usage.completion_tokens is not None:
            if self.marks is None:
                self.marks = array("I")
            if len(self.marks) == len(self.times) - 1:
                self.marks.append(sane(usage.completion_tokens))


def _said(text: str | None, message: _Message | None) -> tuple[str, str]:
    """What a choice says: its content, and all else that carries text."""
    if message is None:
        return text or "", ""
    content = message.content or text or ""
    if not isinstance(content, str):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    calls = [call.function for call in message.tool_calls or ()]
    others = [said for call in (*calls, message.function_call) if call for said in (call.name, call.arguments)]
    others += (message.reasoning_content, message.reasoning, _thought(message.content), message.refusal)
    return content, "".join(filter(None, others))


def _thought(content: str | list[Any] | None) -> str:
    """Reasoning that comes as parts of the content: `{"type": "thinking", "thinking": [{"text": ...}]}`."""
    if not isinstance(content, list):
        return ""
    thoughts = [part.get("thinking") for part in content if isinstance(part, dict)]
    texts = [parts if isinstance(parts, list) else [{"text": parts}] for parts in thoughts if parts]
    return "".join(str(one.get("text") or "") for parts in texts for one in parts if isinstance(one, dict))


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
