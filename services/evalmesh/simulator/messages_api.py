"""Anthropic's messages API: what is read of requests, its answers, events and errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from evalmesh.domain.errors import InvalidInput
from evalmesh.simulator.schema import ChatBody, ChatMessage, Choice, Content, Head, Usage, pieces
from evalmesh.simulator.shapes import ERROR, Frame, Script, halved
from evalmesh.simulator.tools import demanded

_encode = msgspec.json.Encoder().encode
_KINDS = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_MORE_KINDS = {403: "permission_error", 413: "request_too_large", 504: "timeout_error", 529: "overloaded_error"}
_CHOICES = {"auto": "auto", "none": "none", "any": "required"}


class MessagesBody(msgspec.Struct):
    """`POST /v1/messages`."""

    model: str = ""
    max_tokens: int | None = None
    messages: list[ChatMessage] = []
    system: str | list[dict[str, Any]] | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(MessagesBody)


def read_messages(data: bytes) -> ChatBody:
    """The chat that such a request asks for. Raises `InvalidInput` with the sentence the client gets."""
    try:
        body = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The request body cannot be read: {error}.") from None
    if body.max_tokens is None or body.max_tokens < 1:
        raise InvalidInput("max_tokens: Field required, and at least 1.", {"field": "max_tokens"})
    if not body.messages:
        raise InvalidInput("messages: at least one message is required.", {"field": "messages"})
    if wrong := [message.role for message in body.messages if message.role not in {"user", "assistant"}]:
        raise InvalidInput(f"messages: Unexpected role {wrong[0]!r}; the system prompt is a parameter of its own.")
    if not all(stop.strip() for stop in body.stop_sequences or ()):
        raise InvalidInput("stop_sequences: each stop sequence must contain non-whitespace.")
    chat = ChatBody(
        model=body.model,
        stream=body.stream,
        stop=body.stop_sequences,
        messages=[*_system(body.system), *(turn for message in body.messages for turn in _turns(message))],
        max_tokens=body.max_tokens,
        tools=[_tool(tool) for tool in body.tools or ()],
        tool_choice=_choice(body.tool_choice),
    )
    demanded(chat.tools or (), chat.tool_choice)
    return chat


def _system(given: str | list[dict[str, Any]] | None) -> list[ChatMessage]:
    return [ChatMessage("system", given)] if given else []


def _turns(message: ChatMessage) -> list[ChatMessage]:
    """Results of tools are turns of their own elsewhere."""
    parts = message.content if isinstance(message.content, list) else []
    results = [part for part in parts if part.get("type") == "tool_result"]
    others = [part for part in parts if part.get("type") != "tool_result"]
    if not results:
        return [message]
    turns = [ChatMessage("tool", part.get("content")) for part in results]
    return [*turns, ChatMessage(message.role, others)] if others else turns


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": tool.get("name"), "parameters": tool.get("input_schema")}}


def _choice(given: Mapping[str, Any] | None) -> str | None:
    if given is None:
        return None
    return str(given["name"]) if given.get("type") == "tool" else _CHOICES.get(str(given.get("type")))


def messages_error(status: int, message: str) -> bytes:
    """An error as this API words it."""
    kind = (_KINDS | _MORE_KINDS).get(status, "invalid_request_error" if status < 500 else "api_error")
    return _encode({"type": "error", "error": {"type": kind, "message": message}, "request_id": None})


@dataclass(frozen=True, slots=True)
class MessagesShape:
    """Messages, whole and as events."""

    head: Head
    chunk_tokens: int
    stops: tuple[str, ...] = ()

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        return _encode(self._message(choices[0], usage))

    def unfinished(self, choices: Sequence[Choice]) -> bytes:
        # Without content it cannot be taken for an answer.
        return _encode({"id": self.head.id, "type": "message", "stop_reason": None, "half": halved(choices[0]).text})

    def script(self, choice: Choice, usage: Usage, frame: Frame) -> Script:
        started = self._message(Choice("", None), Usage(usage.prompt_tokens, 1, 0, usage.cached_tokens))
        opening = frame(_event("message_start", {"message": started | {"content": []}}))
        opening += frame(_event("ping", {}))
        contents: list[Content] = []
        ending = b""
        for index, block in enumerate(_blocks(choice)):
            empty, deltas = self._deltas(index, block)
            begin = ending + _event("content_block_start", {"index": index, "content_block": empty})
            if contents:
                last, n_tokens = contents[-1]
                contents[-1] = (last + begin, n_tokens)
            else:
                opening += frame(begin)
            contents += deltas
            ending = _event("content_block_stop", {"index": index})
        change = {"stop_reason": _reason(choice), "stop_sequence": None}
        end = ending + _event("message_delta", {"delta": change, "usage": _usage(usage)})
        mark = _event("message_stop", {})
        error = b"event: error\ndata: " + messages_error(529, ERROR) + b"\n\n"
        return Script(opening, contents, frame(end) + frame(mark), mark, frame(error))

    def _deltas(self, index: int, block: dict[str, Any]) -> tuple[dict[str, Any], list[Content]]:
        """The block as it begins, and the events that fill it."""
        if block["type"] == "thinking":
            empty, text, kind = block | {"thinking": "", "signature": ""}, block["thinking"], "thinking"
        elif block["type"] == "tool_use":
            empty, text, kind = block | {"input": {}}, _encode(block["input"]).decode(), "partial_json"
        else:
            empty, text, kind = block | {"text": ""}, block["text"], "text"
        delta = "input_json_delta" if kind == "partial_json" else f"{kind}_delta"
        return empty, [
            (_event("content_block_delta", {"index": index, "delta": {"type": delta, kind: piece}}), n_tokens)
            for piece, n_tokens in pieces(text, self.chunk_tokens)
        ]

    def _message(self, choice: Choice, usage: Usage) -> dict[str, Any]:
        return {
            "id": self.head.id,
            "type": "message",
            "role": "assistant",
            "model": self.head.model,
            "content": _blocks(choice),
            "stop_reason": _reason(choice) if choice.finish_reason else None,
            "stop_sequence": None,
            "usage": _usage(usage),
        }


def _event(kind: str, body: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind, **body}))


def _blocks(choice: Choice) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if choice.reasoning:
        blocks.append({"type": "thinking", "thinking": choice.reasoning, "signature": "c2lnbmVk"})
    if choice.text:
        blocks.append({"type": "text", "text": choice.text})
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": msgspec.json.decode(call.arguments)}
        for call in choice.calls
    ]
    return blocks


def _reason(choice: Choice) -> str:
    if choice.calls:
        return "tool_use"
    return "max_tokens" if choice.finish_reason == "length" else "end_turn"


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }
