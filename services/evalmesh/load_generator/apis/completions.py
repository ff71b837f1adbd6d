"""OpenAI's text completions: one prompt, as text or as token ids."""

from array import array
from typing import Any

import msgspec

from evalmesh.load_generator.apis.base import Ask, LoadApi, Reader, json_body, sane
from evalmesh.load_generator.apis.chat import generation_keys
from evalmesh.load_generator.apis.openai import UNREADABLE, Usage, note_error, note_unreadable, note_usage

_DONE = b"[DONE]"


class _Choice(msgspec.Struct, gc=False):
    text: str | None = None
    finish_reason: str | None = None
    index: int = 0


class _Answer(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Usage | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class CompletionsReader(Reader):
    """Each chunk with text is a token."""

    __slots__ = ("ended",)

    def __init__(self) -> None:
        super().__init__()
        self.ended = 0

    def event(self, data: bytes, at_s: float) -> None:
        if data == _DONE:
            return
        try:
            answer = _decode(data)
        except UNREADABLE as error:
            note_unreadable(self, data, error)
            return
        choices = answer.choices
        for choice in choices or ():
            text = choice.text
            if text:
                self.times.append(at_s)
                self.sizes.append(len(text))
                if self.texts is not None:
                    self.texts.append(text)
            self._ends(choice)
        if answer.usage is not None:
            self._usage(answer.usage)
        elif not choices:
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
            if choice.text:
                self.times, self.sizes = array("d", (at_s,)), array("I", (1,))
                if self.texts is not None:
                    self.texts.append(choice.text)
            self._ends(choice)
        if answer.usage is not None:
            note_usage(self, answer.usage)

    def _ends(self, choice: _Choice) -> None:
        if choice.index >= self.choices:
            self.choices = choice.index + 1
        if choice.finish_reason is not None:
            self.ended += 1
            self.finished = self.ended >= self.choices
            self.stopped = choice.finish_reason != "length"

    def _usage(self, usage: Usage) -> None:
        note_usage(self, usage)
        if usage.completion_tokens is not None:
            if self.marks is None:
                self.marks = array("I")
            if len(self.marks) == len(self.times) - 1:
                self.marks.append(sane(usage.completion_tokens))


class CompletionsApi(LoadApi):
    """`/v1/completions`."""

    name = "completions"
    path = "/completions"

    def body(self, ask: Ask) -> bytes:
        prompt: object = ask.text if ask.token_ids is None else ask.token_ids
        if not prompt and ask.messages:
            prompt = "\n".join(str(message.get("content") or "") for message in ask.messages)
        body: dict[str, Any] = {"model": ask.model, "prompt": prompt, "stream": ask.stream}
        return json_body(ask, body | generation_keys(ask))

    def reader(self) -> CompletionsReader:
        return CompletionsReader()
