"""What is asked of the messages API: the system prompt apart, turns of blocks, tools with schemas.

Options that it has not are refused by name, for leaving them out would be another question.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from evalmesh.domain.content import ContentPart, ToolDefinition, content_text
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import GenerationConfig, Message, Request

MOST_TOKENS = 4096
"""Asked for where nobody says how long an answer may be: this API demands to be told."""
_NONE_OF_ITS_OWN = ("frequency_penalty", "presence_penalty", "repetition_penalty", "top_logprobs")
_SAME_NAME = ("temperature", "top_p", "top_k")
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})

Block = dict[str, Any]


def option_fields(config: GenerationConfig) -> dict[str, Any]:
    """Everything but the conversation. Raises `InvalidInput` for an option that this API has not."""
    for name in _NONE_OF_ITS_OWN:
        if getattr(config, name) is not None:
            raise InvalidInput(
                f"generation.{name}: the messages API (engine anthropic) has no such option; leave it out.",
                {"field": f"generation.{name}"},
            )
    fields: dict[str, Any] = {"max_tokens": config.max_tokens or MOST_TOKENS}
    fields |= {name: value for name in _SAME_NAME if (value := getattr(config, name)) is not None}
    if stops := [stop for stop in config.stop if stop.strip()]:
        # It refuses sequences of nothing but white space; who reads the answer cuts it there (`cut_at`).
        fields["stop_sequences"] = stops
    if config.reasoning_effort is not None:
        fields["output_config"] = {"effort": config.reasoning_effort}
    return fields


def conversation(request: Request, media: Mapping[str, bytes]) -> dict[str, Any]:
    """Turns, system prompt and tools. Raises `InvalidInput` for a medium that this API does not take."""
    system = [content_text(message.content) for message in request.messages if message.role == "system"]
    fields: dict[str, Any] = {"messages": _turns(request.messages, media)}
    if system:
        fields["system"] = "\n\n".join(system)
    if request.tools:
        fields["tools"] = [_tool(tool) for tool in request.tools]
    if request.tools and request.tool_choice:
        known = _CHOICES.get(request.tool_choice)
        fields["tool_choice"] = {"type": known} if known else {"type": "tool", "name": request.tool_choice}
    return fields


def _turns(messages: Sequence[Message], media: Mapping[str, bytes]) -> list[Block]:
    """Results of tools are what the user says; what one role says in a row is one turn."""
    turns: list[Block] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        content = _content(message, media)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] = [*_blocks(turns[-1]["content"]), *_blocks(content)]
        else:
            turns.append({"role": role, "content": content})
    return turns


def _content(message: Message, media: Mapping[str, bytes]) -> str | list[Block]:
    content = message.content
    said: str | list[Block] = (
        content if isinstance(content, str) else [_part(part, media) for part in content if part.text or part.sha256]
    )
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id, "content": said}]
    if not message.tool_calls:
        return said
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _arguments(call.arguments)}
        for call in message.tool_calls
    ]
    return [*_blocks(said), *calls]


def _blocks(content: str | list[Block]) -> list[Block]:
    """Text blocks may not be empty."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content


def _part(part: ContentPart, media: Mapping[str, bytes]) -> Block:
    if part.kind == "text":
        return {"type": "text", "text": part.text}
    if part.kind != "image" or part.mime not in _IMAGES:
        raise InvalidInput(
            f"The messages API (engine anthropic) takes images of {', '.join(sorted(_IMAGES))}, and no {part.mime}."
        )
    data = media.get(part.sha256)
    if data is None:
        raise InvalidInput(f"The bytes of the {part.kind} with sha256 {part.sha256} are not at hand.")
    # Base64 needs no escapes, so that megabytes of it need not be looked through for them.
    encoded = msgspec.Raw(b'"%b"' % base64.b64encode(data))
    return {"type": "image", "source": {"type": "base64", "media_type": part.mime, "data": encoded}}


def _arguments(text: str) -> Mapping[str, Any]:
    """An object, which is all that this API takes; what a model wrote wrongly goes back as a text."""
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        value = text
    return value if isinstance(value, dict) else {"arguments": value}


def _tool(tool: ToolDefinition) -> Block:
    found: Block = {"name": tool.name, "input_schema": dict(tool.parameters) or {"type": "object"}}
    if tool.description:
        found["description"] = tool.description
    return found
