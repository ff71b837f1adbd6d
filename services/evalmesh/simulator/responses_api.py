"""OpenAI's responses API: what is read of requests, and its events."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from evalmesh.domain.errors import InvalidInput
from evalmesh.simulator.schema import (
    ChatBody,
    ChatMessage,
    Choice,
    Content,
    GenerationBody,
    Head,
    Usage,
    check_common,
    pieces,
)
from evalmesh.simulator.shapes import Frame, Script, error_event, halved
from evalmesh.simulator.tools import Call, demanded

_encode = msgspec.json.Encoder().encode


class ResponsesBody(GenerationBody):
    """`POST /v1/responses`."""

    input: str | list[dict[str, Any]] = ""
    instructions: str | None = None
    max_output_tokens: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(ResponsesBody)


def read_responses(data: bytes) -> ChatBody:
    """The chat that such a request asks for. Raises `InvalidInput` with the sentence the client gets."""
    try:
        body = _decoder.decode(data)
        messages = [ChatMessage("system", body.instructions)] if body.instructions else []
        if isinstance(body.input, str):
            messages.append(ChatMessage("user", body.input))
        else:
            messages += [turn for item in body.input if (turn := _turn(item)) is not None]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The request body cannot be read: {error}.") from None
    if not body.input or not messages:
        raise InvalidInput("The field input is empty; send a text or at least one message.", {"field": "input"})
    check_common(body)
    tools = [{"type": "function", "function": tool} for tool in body.tools or ()]
    choice = body.tool_choice
    choice = choice.get("name") if isinstance(choice, dict) else choice
    demanded(tools, choice)
    return ChatBody(
        tools=tools,
        tool_choice=choice,
        model=body.model,
        stream=body.stream,
        seed=body.seed,
        temperature=body.temperature,
        stop=body.stop,
        ignore_eos=body.ignore_eos,
        messages=messages,
        max_completion_tokens=body.max_output_tokens if body.max_output_tokens is not None else body.max_tokens,
    )


def _turn(item: dict[str, Any]) -> ChatMessage | None:
    """Calls of tools, and thoughts, are no turns that are read."""
    if item.get("type") == "function_call_output":
        return ChatMessage("tool", item.get("output"))
    return msgspec.convert(item, ChatMessage) if "role" in item else None


@dataclass(frozen=True, slots=True)
class ResponsesShape:
    """Responses, whole and as events."""

    head: Head
    chunk_tokens: int

    def whole(self, choices: Sequence[Choice], usage: Usage) -> bytes:
        return _encode(self._response(choices[0], _status(choices[0]), usage))

    def unfinished(self, choices: Sequence[Choice]) -> bytes:
        return _encode(self._response(halved(choices[0]), "in_progress", None))

    def script(self, choice: Choice, usage: Usage, frame: Frame) -> Script:
        numbered = _Numbered(frame)
        started = self._response(Choice("", None), "in_progress", None) | {"output": []}
        opening = numbered.frame("response.created", {"response": started})
        opening += numbered.frame("response.in_progress", {"response": started})
        contents: list[Content] = []
        place = {"output_index": 0, "content_index": 0}
        closing = b""
        if choice.reasoning:
            place_of = place | {"item_id": f"rs-{self.head.id}"}
            thinking: dict[str, Any] = {"id": place_of["item_id"], "type": "reasoning", "summary": [], "content": []}
            opening += numbered.frame("response.output_item.added", {"output_index": 0, "item": thinking})
            contents += numbered.deltas("response.reasoning_text.delta", place_of, choice.reasoning, self.chunk_tokens)
            closing += numbered.event("response.reasoning_text.done", place_of | {"text": choice.reasoning})
            place["output_index"] = 1
        if choice.calls:
            return self._script_of_calls(choice, usage, numbered, opening, frame)
        item = self._message("", "in_progress") | {"content": []}
        added = numbered.event("response.output_item.added", {"output_index": place["output_index"], "item": item})
        place_of = place | {"item_id": item["id"]}
        added += numbered.event("response.content_part.added", place_of | {"part": _part("")})
        if contents:
            last, n_tokens = contents[-1]
            contents[-1] = (last + closing + added, n_tokens)
        else:
            opening += frame(added)
        contents += numbered.deltas("response.output_text.delta", place_of, choice.text, self.chunk_tokens)
        end = numbered.frame("response.output_text.done", place_of | {"text": choice.text})
        end += numbered.frame("response.content_part.done", place_of | {"part": _part(choice.text)})
        done = {"output_index": place["output_index"], "item": self._message(choice.text, "completed")}
        end += numbered.frame("response.output_item.done", done)
        status = _status(choice)
        mark = numbered.event(f"response.{status}", {"response": self._response(choice, status, usage)})
        return Script(opening, contents, end + frame(mark), mark, frame(error_event(is_typed=True)))

    def _script_of_calls(
        self, choice: Choice, usage: Usage, numbered: "_Numbered", opening: bytes, frame: Frame
    ) -> Script:
        contents: list[Content] = []
        closing = b""
        for index, call in enumerate(choice.calls):
            item = _call(call, "in_progress") | {"arguments": ""}
            begin = closing + numbered.event("response.output_item.added", {"output_index": index, "item": item})
            place = {"output_index": index, "item_id": item["id"]}
            kind = "response.function_call_arguments"
            deltas = numbered.deltas(f"{kind}.delta", place, call.arguments, self.chunk_tokens)
            if deltas:
                contents += [(begin + deltas[0][0], deltas[0][1] + 1), *deltas[1:]]
            closing = numbered.event(f"{kind}.done", place | {"arguments": call.arguments})
            done = {"output_index": index, "item": _call(call, "completed")}
            closing += numbered.event("response.output_item.done", done)
        mark = numbered.event("response.completed", {"response": self._response(choice, "completed", usage)})
        return Script(opening, contents, frame(closing) + frame(mark), mark, frame(error_event(is_typed=True)))

    def _response(self, choice: Choice, status: str, usage: Usage | None) -> dict[str, Any]:
        output: list[dict[str, Any]] = []
        if choice.reasoning:
            thoughts = [{"type": "reasoning_text", "text": choice.reasoning}]
            output.append({"id": f"rs-{self.head.id}", "type": "reasoning", "summary": [], "content": thoughts})
        if choice.text or not choice.calls:
            output.append(self._message(choice.text, "completed" if choice.finish_reason else "in_progress"))
        output += [_call(call, "completed") for call in choice.calls]
        is_cut = status == "incomplete"
        return {
            "id": self.head.id,
            "object": "response",
            "created_at": self.head.created,
            "model": self.head.model,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": output,
            "usage": None if usage is None else _usage(usage),
        }

    def _message(self, text: str, status: str) -> dict[str, Any]:
        return {
            "id": f"msg-{self.head.id}",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [_part(text)],
        }


class _Numbered:
    """Makes events; each tells its place in the stream."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._count = 0

    def event(self, kind: str, body: dict[str, Any]) -> bytes:
        data = _encode({"type": kind, "sequence_number": self._count, **body})
        self._count += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    def frame(self, kind: str, body: dict[str, Any]) -> bytes:
        return self._frame(self.event(kind, body))

    def deltas(self, kind: str, place: dict[str, Any], text: str, size: int) -> list[Content]:
        found = []
        for piece, n_tokens in pieces(text, size):
            found.append((self.event(kind, place | {"delta": piece}), n_tokens))
        return found


def _call(call: Call, status: str) -> dict[str, Any]:
    return {
        "id": f"fc-{call.id}",
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }


def _status(choice: Choice) -> str:
    return "incomplete" if choice.finish_reason == "length" else "completed"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
