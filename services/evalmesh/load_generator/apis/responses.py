"""OpenAI's responses: events with types, a text in deltas, usage with the last event."""

from array import array
from collections.abc import Mapping
from typing import Any

import msgspec

from evalmesh.load.measure.records import Outcome
from evalmesh.load_generator.apis.base import Ask, LoadApi, Reader, json_body
from evalmesh.load_generator.apis.openai import (
    DONE,
    UNREADABLE,
    InputDetails,
    OutputDetails,
    note_error,
    note_unreadable,
)

_SEEN = frozenset({"response.output_text.delta", "response.refusal.delta"})
_CALLS = frozenset(
    {
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
        "response.mcp_call_arguments.delta",
        "response.code_interpreter_call_code.delta",
    }
)
_UNSEEN = _CALLS | {
    "response.reasoning.delta",
    "response.reasoning_text.delta",
    "response.reasoning_summary.delta",
    "response.reasoning_summary_text.delta",
}
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None


class _Part(msgspec.Struct, gc=False):
    text: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct, gc=False):
    type: str = ""
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    arguments: str | None = None
    name: str | None = None


class _Why(msgspec.Struct, gc=False):
    message: str | None = None
    reason: str | None = None


class _Response(msgspec.Struct, gc=False):
    status: str | None = None
    output: list[_Item] | None = None
    usage: _Usage | None = None
    error: _Why | None = None
    incomplete_details: _Why | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: str | None = None
    response: _Response | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_response = msgspec.json.Decoder(_Response).decode


class ResponsesReader(Reader):
    """Deltas of text, of reasoning and of tool calls are tokens."""

    __slots__ = ()

    def event(self, data: bytes, at_s: float) -> None:
        if data.strip() == DONE:
            return
        try:
            event = _decode_event(data)
        except UNREADABLE as error:
            note_unreadable(self, data, error)
            return
        kind = event.type
        if event.delta:
            if kind in _SEEN:
                self.content(event.delta, at_s)
            elif kind in _UNSEEN:
                self.reasoning_tokens += kind not in _CALLS
                self.content(event.delta, at_s, seen=False)
        elif kind in _ENDS:
            self._end(event)
        elif kind in {"error", ""}:
            note_error(self, data)

    def _end(self, event: _Event) -> None:
        response = event.response
        if event.type == "response.failed":
            why = response.error if response is not None else None
            self.fail(Outcome.ERROR_EVENT, (why.message if why is not None else None) or event.type)
            return
        self.finished = True
        self.stopped = event.type == "response.completed"
        if response is not None and response.usage is not None:
            self._usage(response.usage)

    def whole(self, body: bytes, at_s: float) -> None:
        try:
            response = _decode_response(body)
        except UNREADABLE as error:
            note_unreadable(self, body, error)
            return
        if response.status is None and response.output is None and note_error(self, body):
            return
        if response.status == "failed" or response.error is not None:
            self.fail(Outcome.ERROR_EVENT, (response.error.message if response.error else None) or "response.failed")
            return
        self.finished = response.status in {"completed", "incomplete"}
        self.stopped = response.status == "completed"
        texts = [text for item in response.output or () for text in _texts_of(item)]
        if texts:
            self.times, self.sizes = array("d", (at_s,)), array("I", (1,))
        if self.texts is not None:
            self.texts += [
                part.text
                for item in response.output or ()
                if item.type == "message"
                for part in item.content or ()
                if part.text
            ]
        if response.usage is not None:
            self._usage(response.usage)

    def _usage(self, usage: _Usage) -> None:
        output, prompt = usage.output_tokens_details, usage.input_tokens_details
        reasoning = output.reasoning_tokens if output is not None else None
        cached = prompt.cached_tokens if prompt is not None else None
        self.count(
            input_tokens=usage.input_tokens or 0,
            output_tokens=usage.output_tokens or 0,
            reasoning_tokens=self.reasoning_tokens if reasoning is None else reasoning,
            cached_tokens=cached or 0,
        )


def _texts_of(item: _Item) -> list[str]:
    parts = [*(item.content or ()), *(item.summary or ())]
    found = [part.text or part.refusal or "" for part in parts]
    return [text for text in (*found, item.arguments or "", item.name or "") if text]


class ResponsesApi(LoadApi):
    """`/v1/responses`."""

    name = "responses"
    path = "/responses"
    turns_key = "input"
    limit_key = "max_output_tokens"

    def body(self, ask: Ask) -> bytes:
        body: dict[str, Any] = {"model": ask.model, "stream": ask.stream}
        body["input"] = [_item(message) for message in ask.messages] if ask.messages else ask.text
        if ask.max_tokens:
            body["max_output_tokens"] = ask.max_tokens
        if ask.min_tokens:
            body["min_tokens"] = ask.min_tokens
        return json_body(ask, body)

    def reader(self) -> ResponsesReader:
        return ResponsesReader()


def _item(message: Mapping[str, object]) -> dict[str, object]:
    """A chat message in the form of this API: parts have other names."""
    content = message.get("content")
    if isinstance(content, list | tuple):
        content = [_part(part) if isinstance(part, Mapping) else part for part in content]
    return {**message, "content": content}


def _part(part: Mapping[str, object]) -> Mapping[str, object]:
    if part.get("type") == "text":
        return {"type": "input_text", "text": part.get("text")}
    if part.get("type") == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        return {"type": "input_image", "image_url": url}
    return part
