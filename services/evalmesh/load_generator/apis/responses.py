"""OpenAI's responses: events with types, a text in deltas, usage with the last event."""

from array import array
from typing import Any

from evalmesh.dialect.ends import DONE
from evalmesh.dialect.loose import json_text_of
from evalmesh.dialect.responses import (
    CALLS,
    ENDS,
    REFUSAL,
    TEXT,
    THOUGHTS,
    Event,
    decode_event,
    decode_response,
    input_items,
)
from evalmesh.dialect.shapes import UNREADABLE
from evalmesh.dialect.usage import read_usage
from evalmesh.load.measure.records import Outcome
from evalmesh.load_generator.apis.base import Ask, LoadApi, Reader, json_body
from evalmesh.load_generator.apis.openai import note_error, note_reported, note_unreadable, note_usage

_SEEN = TEXT | REFUSAL
_UNSEEN = CALLS | THOUGHTS


class ResponsesReader(Reader):
    """Deltas of text, of reasoning and of tool calls are tokens."""

    __slots__ = ()

    def event(self, data: bytes, at_s: float) -> None:
        if self.finished or data.strip() == DONE:
            return
        try:
            event = decode_event(data)
        except UNREADABLE as error:
            note_unreadable(self, data, error)
            return
        kind = event.type
        if event.delta:
            text = json_text_of(event.delta)
            if kind in _SEEN:
                self.content(text, at_s)
            elif kind in _UNSEEN:
                self.reasoning_tokens += kind in THOUGHTS
                self.content(text, at_s, seen=False)
        elif kind in ENDS:
            self._end(event)
        elif not note_error(self, event.said_wrong()) and not kind:
            note_reported(self, data)

    def _end(self, event: Event) -> None:
        if note_error(self, event.said_wrong()):
            return
        self.finished = True
        self.stopped = event.type == "response.completed"
        if event.response is not None:
            self._usage(event.response.usage)

    def whole(self, body: bytes, at_s: float) -> None:
        try:
            response = decode_response(body)
        except UNREADABLE as error:
            note_unreadable(self, body, error)
            return
        if note_error(self, response.said_wrong(body)):
            return
        if response.output is None:
            self.fail(Outcome.MALFORMED, "The answer has no `output`.")
        self.finished = response.status is None or response.ended
        self.stopped = response.status == "completed"
        parts = response.parts()
        if parts.text or parts.reasoning or parts.refusal or parts.calls:
            self.times, self.sizes = array("d", (at_s,)), array("I", (1,))
        if self.texts is not None and parts.text:
            self.texts.append(parts.text)
        self._usage(response.usage)

    def _usage(self, usage: object) -> None:
        if (counts := read_usage(usage)) is not None:
            note_usage(self, counts)


class ResponsesApi(LoadApi):
    """`/v1/responses`."""

    name = "responses"
    path = "/responses"
    turns_key = "input"
    limit_key = "max_output_tokens"

    def body(self, ask: Ask) -> bytes:
        body: dict[str, Any] = {"model": ask.model, "stream": ask.stream}
        body["input"] = input_items(ask.messages) if ask.messages else ask.text
        if ask.max_tokens:
            body["max_output_tokens"] = ask.max_tokens
        if ask.min_tokens:
            body["min_tokens"] = ask.min_tokens
        return json_body(ask, body)

    def reader(self) -> ResponsesReader:
        return ResponsesReader()
