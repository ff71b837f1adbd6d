"""The messages API's answers: a message of blocks, whole, or as events that build it."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from evalmesh.dialect.answer import Answer, Fault, malformed
from evalmesh.dialect.anthropic.errors import error_under
from evalmesh.dialect.ends import finish_of, reason_of
from evalmesh.dialect.loose import count_of, json_text_of, mapping_of, mappings_of, text_of, whole
from evalmesh.dialect.shapes import UNREADABLE, loads
from evalmesh.domain.completion import Usage
from evalmesh.domain.content import ToolCall

_decode = msgspec.json.Decoder().decode
_SHOWN_BYTES = 200
_COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
_CALLS = frozenset({"tool_use"})
"""What is to be done by who asks; `server_tool_use` was done already."""


def parse_message(body: bytes) -> Answer | Fault:
    """Reads an answer that was not streamed."""
    try:
        value = _object(body)
    except UNREADABLE as error:
        return malformed(error, body)
    if (fault := error_under(value)) is not None:
        return fault
    content = value.get("content")
    if content is None:
        return Fault("malformed", "The answer has no content: " + body[:_SHOWN_BYTES].decode("utf-8", "replace"))
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    built = _Built()
    for block in mappings_of(content):
        built.begin(None, block)
    built.ended_by(value)
    built.used(value.get("usage"))
    return built.answer()


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        value = _decode(data)
    except UNREADABLE as error:
        value = loads(data, error)
    if not isinstance(value, Mapping):
        raise msgspec.DecodeError("it is no object")
    return value


class _Built:
    """A message while its blocks come in."""

    __slots__ = ("blocks", "counts", "held", "places", "reason", "refusal")

    def __init__(self) -> None:
        self.blocks: list[dict[str, Any]] = []
        self.places: dict[int, dict[str, Any]] = {}
        self.reason = ""
        self.refusal = ""
        self.counts: dict[str, int] = {}
        self.held = 0

    def begin(self, index: int | None, block: Mapping[str, Any]) -> bool:
        """A block, or the beginning of one; whether it says something already."""
        given = block.get("input")
        arguments = json.dumps(given, ensure_ascii=False, separators=(",", ":")) if given else ""
        text = text_of(block.get("text")) or text_of(block.get("thinking"))
        opened = {
            "type": block.get("type"),
            "id": block.get("id"),
            "name": block.get("name"),
            "text": [text] if text else [],
            "arguments": [arguments] if arguments else [],
        }
        self.blocks.append(opened)
        if index is not None:
            self.places[index] = opened
        self.held += len(text) + len(arguments)
        return bool(text) or block.get("type") in _CALLS

    def add(self, index: int | None, delta: Mapping[str, Any]) -> bool:
        """A piece of a block; whether it says something."""
        kind = delta.get("type")
        block = self.places.get(index) if index is not None else None
        if block is None:  # Its beginning was left out.
            thought = kind == "thinking_delta"
            self.begin(0 if index is None else index, {"type": "thinking" if thought else "text"})
            block = self.blocks[-1]
        piece = text_of(delta.get("text")) or text_of(delta.get("thinking"))
        arguments = json_text_of(delta.get("partial_json"))
        if piece:
            block["text"].append(piece)
        if arguments:
            block["arguments"].append(arguments)
        self.held += len(piece) + len(arguments)
        return bool(piece or arguments)

    def ended_by(self, message: Mapping[str, Any]) -> None:
        """Why it ended, where the message or the last change of it says so."""
        reason = message.get("stop_reason")
        if reason:
            self.reason = reason_of(reason) or "unknown"
        details = mapping_of(message.get("stop_details"))
        if reason == "refusal" or details.get("type") == "refusal":
            self.refusal = text_of(details.get("explanation")) or text_of(details.get("category"))

    def used(self, usage: object) -> None:
        """Counts, which later events say again or add to."""
        found = mapping_of(usage)
        for name in _COUNTS:
            if (count := count_of(found.get(name))) is not None:
                self.counts[name] = count
        thought = count_of(mapping_of(found.get("output_tokens_details")).get("thinking_tokens"))
        if thought is not None:
            self.counts["thinking"] = thought

    def answer(self) -> Answer:
        calls = tuple(
            ToolCall(str(block["id"] or ""), str(block["name"] or ""), whole("".join(block["arguments"])) or "{}")
            for block in self.blocks
            if block["type"] in _CALLS
        )
        return Answer(
            self._text("text", None),
            self._text("thinking") or None,
            finish_of(self.reason),
            self._usage(),
            [],
            tool_calls=calls,
            refusal=whole(self.refusal) or None,
        )

    def _text(self, *kinds: str | None) -> str:
        return whole("".join("".join(block["text"]) for block in self.blocks if block["type"] in kinds))

    def _usage(self) -> Usage | None:
        get = self.counts.get
        if not self.counts:
            return None
        # What was read from or written to a cache is not among `input_tokens`.
        parts = [get(name) for name in _COUNTS[:3]]
        read = None if parts == [None, None, None] else sum(one or 0 for one in parts)
        return Usage(read, get("output_tokens"), get("thinking"), get("cache_read_input_tokens"))


class StreamedMessage:
    """Puts the events of a streamed message together; see `answer.StreamedAnswer`."""

    __slots__ = ("_built", "_done_at", "_first_token_at")

    def __init__(self) -> None:
        self._built = _Built()
        self._first_token_at: float | None = None
        self._done_at: float | None = None

    @property
    def held_bytes(self) -> int:
        """What is kept of the stream up to now, a character counted as a byte."""
        return self._built.held

    @property
    def complete(self) -> bool:
        """Whether the server said how the answer ended; only usage may be missing then."""
        return bool(self._built.reason) or self._done_at is not None

    @property
    def done(self) -> bool:
        """Whether the last event has come."""
        return self._done_at is not None

    def add(self, payload: bytes, at_s: float) -> Fault | None:
        """Takes the data of one event that came at `at_s`; `None` unless it makes the answer a failure."""
        if self._done_at is not None or not (payload := payload.strip()):
            return None
        if payload == b"[DONE]":  # Of gateways; this API has none.
            self._done_at = at_s if self._built.reason else None
            return None
        fault = self._add(payload, at_s)
        # How the answer ended is known: what goes wrong after that is not its fault.
        return None if self.complete else fault

    def _add(self, payload: bytes, at_s: float) -> Fault | None:
        try:
            event = _object(payload)
        except UNREADABLE as error:
            return malformed(error, payload)
        kind, says = event.get("type"), False
        index = count_of(event.get("index"))
        if kind == "message_start":
            self._started(mapping_of(event.get("message")))
        elif kind == "content_block_start":
            says = self._built.begin(index, mapping_of(event.get("content_block")))
        elif kind == "content_block_delta":
            says = self._built.add(index, mapping_of(event.get("delta")))
        elif kind == "message_delta":
            self._built.used(event.get("usage"))
            self._built.ended_by(mapping_of(event.get("delta")))
        elif kind == "message_stop":
            self._done_at = at_s
        else:
            return error_under(event)
        if says and self._first_token_at is None:
            self._first_token_at = at_s
        return None

    def _started(self, message: Mapping[str, Any]) -> None:
        self._built.used(message.get("usage"))
        self._built.ended_by(message)
        for block in mappings_of(message.get("content")):
            self._built.begin(len(self._built.blocks), block)

    def end(self) -> Answer | Fault:
        """The answer, now that the stream has ended."""
        if not self.complete:
            chars = sum(len(piece) for block in self._built.blocks for piece in block["text"])
            return Fault("truncated", f"The stream ended without an end mark, after {chars} characters of text.")
        answer = self._built.answer()
        answer.first_token_at, answer.done_at = self._first_token_at, self._done_at
        return answer
