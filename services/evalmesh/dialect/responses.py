"""OpenAI's responses API: a list of items as the answer, events with types as its stream."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from evalmesh.dialect.answer import Answer, Fault, malformed
from evalmesh.dialect.errors import Said, error_in, said_of
from evalmesh.dialect.loose import json_text_of, mapping_of, mappings_of, text_of, whole
from evalmesh.dialect.shapes import UNREADABLE, Chunk, loads
from evalmesh.dialect.usage import as_domain, read_usage
from evalmesh.domain.completion import FinishReason
from evalmesh.domain.content import ToolCall

TEXT = frozenset({"response.output_text.delta"})
REFUSAL = frozenset({"response.refusal.delta"})
CALLS = frozenset(
    {
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
        "response.mcp_call_arguments.delta",
        "response.code_interpreter_call_code.delta",
    }
)
THOUGHTS = frozenset(
    {
        "response.reasoning.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary.delta",
        "response.reasoning_summary_text.delta",
    }
)
ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_BROKEN_OFF = frozenset({"failed", "cancelled"})
_ENDED = frozenset({"completed", "incomplete"}) | _BROKEN_OFF


class Response(msgspec.Struct, gc=False):
    """The answer; also what its last event holds."""

    status: object = None
    output: object = None
    usage: object = None
    error: object = None
    incomplete_details: object = None

    @property
    def ended(self) -> bool:
        """Whether it says that nothing more comes."""
        return self.status in _ENDED

    @property
    def limited(self) -> bool:
        """Whether a limit ended it, or a filter, and not the model."""
        return self.status == "incomplete"

    def said_wrong(self, data: bytes) -> Said | None:
        """The error in place of an answer, whose JSON this is."""
        if self.status in _BROKEN_OFF:
            return said_of(self.error) if self.error else Said(f"the response's status is {self.status!r}")
        return error_in(Chunk([] if self.output is not None else None, None, self.error), data)

    def parts(self) -> "Parts":
        """What its items say."""
        return _parts(self)


class Event(msgspec.Struct, gc=False):
    """One event of the stream."""

    type: object = None
    delta: object = None
    response: Response | None = None
    error: object = None
    message: object = None
    code: object = None

    def said_wrong(self) -> Said | None:
        """The error that this event is."""
        if self.type in {"response.failed", "response.cancelled"}:
            said = self.response.said_wrong(b"{}") if self.response is not None else None
            return said or Said(str(self.type))
        if self.type == "error" or (self.error and not self.type):
            return said_of(self.error) if self.error else said_of({"message": self.message, "code": self.code})
        return None


class Parts(msgspec.Struct):
    """What the items of an answer say, by kind."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: tuple[ToolCall, ...] = ()
    logprobs: list[msgspec.Raw] = []
    """In the form of a chat."""


T = TypeVar("T", bound=msgspec.Struct)


def _encode(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


_decode_event = msgspec.json.Decoder(Event).decode
_decode_response = msgspec.json.Decoder(Response).decode


def decode_event(data: bytes) -> Event:
    """Raises one of `UNREADABLE`."""
    try:
        return _decode_event(data)
    except UNREADABLE as error:
        value = _object(data, error)
        event = _filled(Event(), value)
        event.response = _filled(Response(), mapping_of(value.get("response")))
        return event


def decode_response(data: bytes) -> Response:
    """Raises one of `UNREADABLE`."""
    try:
        return _decode_response(data)
    except UNREADABLE as error:
        return _filled(Response(), _object(data, error))


def _object(data: bytes, problem: Exception) -> Mapping[str, Any]:
    value = loads(data, problem)
    if not isinstance(value, Mapping):
        raise problem
    return value


def _filled(struct: T, values: Mapping[str, Any]) -> T:
    for field in msgspec.structs.fields(struct):
        if field.encode_name in values:
            setattr(struct, field.name, values[field.encode_name])
    return struct


def _parts(response: Response) -> Parts:
    found = Parts()
    calls = []
    for item in mappings_of(response.output):
        kind = item.get("type")
        content = mappings_of(item.get("content"))
        if kind == "reasoning":
            found.reasoning += text_of(item.get("content")) or text_of(item.get("summary"))
        elif kind == "message" or (kind is None and content):
            found.text += "".join(text_of(part.get("text")) for part in content)
            found.refusal += "".join(text_of(part.get("refusal")) for part in content)
            found.logprobs += [_encode({"content": told}) for part in content if (told := part.get("logprobs"))]
            if isinstance(item.get("content"), str):
                found.text += item["content"]
        elif "arguments" in item or "input" in item:
            call_id, name = item.get("call_id") or item.get("id"), item.get("name")
            given = json_text_of(item.get("arguments", item.get("input")))
            calls.append(ToolCall(str(call_id or ""), name if isinstance(name, str) else "", given))
    found.calls = tuple(calls)
    return found


def _finish(response: Response, parts: Parts) -> FinishReason:
    if response.limited:
        reason = mapping_of(response.incomplete_details).get("reason")
        return "content_filter" if reason == "content_filter" else "length"
    return "tool_calls" if parts.calls else "stop"


def parse_response(body: bytes) -> Answer | Fault:
    """Reads a response that was not streamed."""
    try:
        response = decode_response(body)
    except UNREADABLE as error:
        return malformed(error, body)
    if (said := response.said_wrong(body)) is not None:
        return Fault("reported", said.message, said.code)
    if response.output is None:
        return Fault("malformed", "The answer has no output: " + body[:200].decode("utf-8", "replace"))
    if response.status is not None and not response.ended:
        return Fault("truncated", f"The response is not complete; its status is {response.status!r}.")
    return _answer(response, response.parts())


def _answer(response: Response, parts: Parts) -> Answer:
    return Answer(
        whole(parts.text),
        whole(parts.reasoning) or None,
        _finish(response, parts),
        as_domain(read_usage(response.usage)),
        [],
        tool_calls=parts.calls,
        refusal=whole(parts.refusal) or None,
        logprobs=parts.logprobs,
    )


class StreamedResponse:
    """Puts the events of a streamed response together; see `answer.StreamedAnswer`."""

    __slots__ = ("_done_at", "_first_token_at", "_held", "_last", "_parts")

    def __init__(self) -> None:
        self._parts: dict[str, list[str]] = {"text": [], "reasoning": [], "refusal": []}
        self._last: Response | None = None
        self._first_token_at: float | None = None
        self._done_at: float | None = None
        self._held = 0

    @property
    def held_bytes(self) -> int:
        """What is kept of the stream up to now, a character counted as a byte."""
        return self._held

    @property
    def complete(self) -> bool:
        """Whether the last event has come."""
        return self._last is not None

    @property
    def done(self) -> bool:
        """Whether nothing more comes: this API has no end mark of its own."""
        return self._last is not None

    def add(self, payload: bytes, at_s: float) -> Fault | None:
        """Takes the data of one event that came at `at_s`; `None` unless it makes the answer a failure."""
        if self._last is not None or not (payload := payload.strip()) or payload == b"[DONE]":
            return None
        try:
            event = decode_event(payload)
        except UNREADABLE as error:
            return malformed(error, payload)
        if (said := event.said_wrong()) is not None:
            return Fault("reported", said.message, said.code)
        if event.type in ENDS:
            self._last, self._done_at = event.response or Response(), at_s
            if self._last.status not in _ENDED:
                self._last.status = str(event.type).rpartition(".")[2]
        elif kind := _kind(event.type):
            text = json_text_of(event.delta)
            if text:
                self._held += len(text)
                self._first_token_at = self._first_token_at or at_s
                if kind in self._parts:
                    self._parts[kind].append(text)
        return None

    def end(self) -> Answer | Fault:
        """The answer, now that the stream has ended."""
        if self._last is None:
            chars = sum(map(len, self._parts["text"]))
            return Fault("truncated", f"The stream ended without an end mark, after {chars} characters of text.")
        # The last event says all of it again; where a server leaves that out, there are the pieces.
        parts = self._last.parts()
        pieces = {kind: "".join(found) for kind, found in self._parts.items()}
        parts.text = pieces["text"] or parts.text
        parts.reasoning = pieces["reasoning"] or parts.reasoning
        parts.refusal = pieces["refusal"] or parts.refusal
        answer = _answer(self._last, parts)
        answer.first_token_at, answer.done_at = self._first_token_at, self._done_at
        return answer


def _kind(event_type: object) -> str:
    if event_type in TEXT:
        return "text"
    if event_type in REFUSAL:
        return "refusal"
    if event_type in THOUGHTS:
        return "reasoning"
    return "call" if event_type in CALLS else ""


def input_items(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Chat messages in the form of this API: parts have other names, calls and their results are items of their own."""
    return [item for message in messages for item in _items(message)]


def _items(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if message.get("role") == "tool":
        return [{"type": "function_call_output", "call_id": message.get("tool_call_id", ""), "output": content}]
    found = []
    if content or not message.get("tool_calls"):
        if isinstance(content, list | tuple):
            content = [_part(part) if isinstance(part, Mapping) else part for part in content]
        others = {key: value for key, value in message.items() if key != "tool_calls"}
        found.append({**others, "content": content})
    for call in message.get("tool_calls") or ():
        function = call["function"]
        found.append({"type": "function_call", "call_id": call["id"], **function})
    return found


def _part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    if part.get("type") == "text":
        return {"type": "input_text", "text": part.get("text")}
    if part.get("type") == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        return {"type": "input_image", "image_url": url}
    return part
