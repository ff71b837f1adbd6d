"""Messages, tools and what continuations are worth, of the public API."""

import json
from collections.abc import Iterable
from typing import Any, cast, get_args

from evalmesh.domain.completion import ContinuationScore, TokenLogprob
from evalmesh.domain.content import Content, ContentKind, ContentPart, ToolCall, ToolDefinition
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import Message, Role
from evalmesh.v1 import models_pb2 as pb
from evalmesh.wire.values import one_of, struct_from_proto, struct_to_proto


def part_to_proto(part: ContentPart) -> pb.ContentPart:
    """Text, or media by digest."""
    return pb.ContentPart(
        kind=part.kind, text=part.text, sha256=part.sha256, mime_type=part.mime, size_bytes=part.size_bytes
    )


def part_from_proto(part: pb.ContentPart, field: str = "part") -> ContentPart:
    """Text, or media by digest; raises `InvalidInput` for anything else."""
    kind = cast("ContentKind", one_of(part.kind or "text", get_args(ContentKind), f"{field}.kind"))
    try:
        return ContentPart(kind, part.text, part.sha256, part.mime_type, part.size_bytes)
    except ValueError as error:
        raise InvalidInput(f"{field}: {error}; upload media first.", {"field": field}) from error


def calls_to_proto(calls: Iterable[ToolCall]) -> list[pb.ToolCall]:
    """In their order."""
    return [pb.ToolCall(id=call.id, name=call.name, arguments=call.arguments) for call in calls]


def calls_from_proto(calls: Iterable[pb.ToolCall]) -> tuple[ToolCall, ...]:
    """In their order."""
    return tuple(ToolCall(call.id, call.name, call.arguments) for call in calls)


def message_to_proto(message: Message) -> pb.Message:
    """One turn."""
    content = message.content
    return pb.Message(
        role=message.role,
        content=content if isinstance(content, str) else "",
        parts=[] if isinstance(content, str) else map(part_to_proto, content),
        tool_calls=calls_to_proto(message.tool_calls),
        tool_call_id=message.tool_call_id,
    )


def message_from_proto(message: pb.Message, field: str = "message") -> Message:
    """One turn; raises `InvalidInput` for a role nobody knows, and for parts that are none."""
    content: Content = message.content
    if message.parts:
        if content:
            raise InvalidInput(f"{field}: give either content or parts.", {"field": field})
        content = tuple(part_from_proto(part, f"{field}.parts[{i}]") for i, part in enumerate(message.parts))
    return Message(
        cast("Role", one_of(message.role, get_args(Role), f"{field}.role")),
        content,
        calls_from_proto(message.tool_calls),
        message.tool_call_id,
    )


def tools_to_proto(tools: Iterable[ToolDefinition]) -> list[pb.ToolDefinition]:
    """In their order."""
    return [
        pb.ToolDefinition(
            name=tool.name,
            description=tool.description,
            parameters=struct_to_proto(tool.parameters, f"tools.{tool.name}.parameters"),
        )
        for tool in tools
    ]


def tools_from_proto(tools: Iterable[pb.ToolDefinition], field: str = "tools") -> tuple[ToolDefinition, ...]:
    """In their order; raises `InvalidInput` for one without a name."""
    found = []
    for place, tool in enumerate(tools):
        if not tool.name:
            raise InvalidInput(f"{field}[{place}].name is empty; a tool is called by its name.", {"field": field})
        found.append(ToolDefinition(tool.name, tool.description, struct_from_proto(tool.parameters)))
    return tuple(found)


def check_tool_choice(choice: str, tools: tuple[ToolDefinition, ...], field: str) -> str:
    """Raises `InvalidInput` for a choice that no tool can meet."""
    if not choice or choice == "none":
        return choice
    if not tools:
        raise InvalidInput(f"{field} = {choice[:100]!r} needs tools, and there are none.", {"field": field})
    return one_of(choice, ("auto", "required", *(tool.name for tool in tools)), field)


def scores_to_proto(scores: Iterable[ContinuationScore]) -> list[pb.ContinuationScore]:
    """In their order."""
    return [
        pb.ContinuationScore(
            logprob=score.logprob, token_count=score.n_tokens, byte_count=score.n_bytes, greedy=score.is_greedy
        )
        for score in scores
    ]


def scores_from_proto(scores: Iterable[pb.ContinuationScore]) -> tuple[ContinuationScore, ...]:
    """In their order."""
    return tuple(ContinuationScore(one.logprob, one.token_count, one.byte_count, one.greedy) for one in scores)


def tokens_to_proto(tokens: Iterable[TokenLogprob]) -> list[pb.TokenLogprob]:
    """In their order."""
    return [
        pb.TokenLogprob(
            token=one.token,
            logprob=one.logprob,
            top=[pb.TokenLogprob(token=token, logprob=logprob) for token, logprob in one.top],
        )
        for one in tokens
    ]


def tokens_from_proto(tokens: Iterable[pb.TokenLogprob]) -> tuple[TokenLogprob, ...]:
    """In their order."""
    return tuple(
        TokenLogprob(one.token, one.logprob, tuple((other.token, other.logprob) for other in one.top)) for one in tokens
    )


def reference_to_json(reference: Any) -> str:
    """What a sample is scored against; empty for nothing. As text: a number keeps its digits, and any depth passes."""
    return "" if reference is None else json.dumps(reference, ensure_ascii=False)


def reference_from_json(text: str, field: str) -> Any:
    """The value again. Raises `InvalidInput` for what is no JSON."""
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{field}: this is no JSON: {error}.", {"field": field}) from error
