"""Request bodies. What is the same for all requests of a benchmark is serialised once."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from evalmesh.adapters.openai.target import Target, check_extra_body
from evalmesh.adapters.openai.ways import Media
from evalmesh.dialect.bodies import merged
from evalmesh.dialect.responses import input_items
from evalmesh.domain.content import ContentPart, ToolDefinition
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import GenerationConfig, Message, Request, RequestKind
from evalmesh.domain.run import ModelSpec

_REMEMBERED = 256
_REMEMBERED_BYTES = 16 << 10
"""Of one message: a long document comes once, and many of them would fill the process."""
_TOOL_CHOICES = frozenset({"auto", "none", "required"})
_SAME_NAME = (
    "max_tokens",
    "temperature",
    "top_p",
    # top_k and repetition_penalty are no OpenAI fields; vLLM, SGLang and others take them at the top level.
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "reasoning_effort",
)
_AUDIO_FORMATS = {"audio/mpeg": "mp3", "audio/mp4": "m4a"}
"""What the API calls them, where that is not the second half of the mime type."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class _Frame:
    """A body up to its prompt, and the seed that ends it."""

    config: GenerationConfig
    """Kept so that its id stays taken."""
    head: bytes
    seed: int | None
    brings_tools: bool
    """Whether the options of the user hold tools."""


class BodyEncoder:
    """Turns requests into bytes for one model."""

    __slots__ = ("_extra_body", "_frames", "_model", "_responses", "_turns")

    def __init__(self, model: ModelSpec, target: Target) -> None:
        self._model = model
        self._responses = target.address.call == "responses"
        self._extra_body = target.extra_body
        # By identity: comparing or hashing a config for every request costs more than serialising it.
        self._frames: dict[tuple[int, RequestKind], _Frame] = {}
        self._turns: dict[int, tuple[Message, bytes]] = {}
        """Likewise: solved examples come again with every request. The message is kept so that its id stays taken."""

    def encode(self, request: Request, config: GenerationConfig, media: Media | None = None) -> bytes:
        """The JSON body, with the bytes of all media. Raises `InvalidInput` for options that cannot be sent."""
        frame = self._frames.get((id(config), request.kind))
        if frame is None:
            frame = self._remember(request.kind, config)
        try:
            prompt = self._prompt(request, media or {})
            if request.tools:
                prompt += self._tools(request, frame)
        except ValueError as error:  # A lone surrogate, which UTF-8 cannot say.
            raise InvalidInput(f"The prompt of {request.id} cannot be sent as JSON: {error}") from error
        if frame.seed is None:
            return b"%b%b}" % (frame.head, prompt)
        return b'%b%b,"seed":%d}' % (frame.head, prompt, frame.seed + request.repeat)

    def _prompt(self, request: Request, media: Media) -> bytes:
        if request.kind == "chat":
            return b"[%b]" % b",".join([self._turn(message, media) for message in request.messages])
        return _encode(request.prompt)

    def _turn(self, message: Message, media: Media) -> bytes:
        known = self._turns.get(id(message))
        if known is not None:
            return known[1]
        turn = _turn(message, media)
        items = input_items([turn]) if self._responses else [turn]
        encoded = b",".join(map(_encode, items))
        if len(encoded) <= _REMEMBERED_BYTES:
            if len(self._turns) >= _REMEMBERED:
                self._turns.clear()
            self._turns[id(message)] = (message, encoded)
        return encoded

    def _remember(self, kind: RequestKind, config: GenerationConfig) -> _Frame:
        check_extra_body(config.extra_body, "generation.extra_body")
        fields = self._fields(kind, config)
        said = self._extra_body.keys() | config.extra_body.keys()
        seed = None if "seed" in said else config.seed
        try:
            head = _encode(fields)[:-1]
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"generation.extra_body or model.args.extra_body holds what JSON cannot say: {error}",
                {"field": "generation.extra_body"},
            ) from error
        head += b',"%b":' % (b"prompt" if kind != "chat" else b"input" if self._responses else b"messages")
        frame = _Frame(config, head, seed, brings_tools=bool({"tools", "tool_choice"} & fields.keys()))
        if len(self._frames) >= _REMEMBERED:
            del self._frames[next(iter(self._frames))]
        self._frames[id(config), kind] = frame
        return frame

    def _tools(self, request: Request, frame: _Frame) -> bytes:
        if frame.brings_tools:
            raise InvalidInput(
                "generation.extra_body or model.args.extra_body sets tools or tool_choice, and the benchmark brings "
                "its own; remove them there.",
                {"field": "generation.extra_body"},
            )
        tools = b',"tools":' + _encode([self._as_tool(_function(tool)) for tool in request.tools])
        choice = request.tool_choice
        if not choice:
            return tools
        named = self._as_tool({"name": choice})
        return tools + b',"tool_choice":' + _encode(choice if choice in _TOOL_CHOICES else named)

    def _as_tool(self, function: Mapping[str, object]) -> dict[str, object]:
        return {"type": "function", **(function if self._responses else {"function": function})}

    def _fields(self, kind: RequestKind, config: GenerationConfig) -> dict[str, object]:
        fields: dict[str, object] = {"model": self._model.name}
        for name in _SAME_NAME:
            if (value := getattr(config, name)) is not None:
                fields[name] = value
        if config.top_logprobs is not None:
            chat = {"logprobs": True, "top_logprobs": config.top_logprobs}
            fields |= chat if kind == "chat" else {"logprobs": config.top_logprobs}
        if config.stop:
            fields["stop"] = config.stop
        if self._model.stream:
            fields["stream"] = True
            fields["stream_options"] = {"include_usage": True}
        return self._with_extras(_as_responses(fields) if self._responses else fields, config)

    def _with_extras(self, fields: Mapping[str, object], config: GenerationConfig) -> dict[str, object]:
        """The run's own options win over those of the model."""
        return merged(merged(fields, self._extra_body), config.extra_body)


def _as_responses(fields: Mapping[str, object]) -> dict[str, object]:
    """The same options by the names of the responses API, whose streams always tell their usage.

    It has no stop sequences: whoever reads the answer cuts it there. It keeps what is asked, unless it is told not to.
    """
    found = {name: value for name, value in fields.items() if name not in {"stream_options", "logprobs", "stop"}}
    found["store"] = False
    if "top_logprobs" in found:
        found["include"] = ["message.output_text.logprobs"]
    if "max_tokens" in found:
        found["max_output_tokens"] = found.pop("max_tokens")
    if "reasoning_effort" in found:
        found["reasoning"] = {"effort": found.pop("reasoning_effort")}
    return found


def _turn(message: Message, media: Media) -> dict[str, object]:
    content = message.content
    turn: dict[str, object] = {
        "role": message.role,
        "content": content if isinstance(content, str) else _parts(content, media),
    }
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["content"] = turn["content"] or None
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return turn


def _parts(parts: Sequence[ContentPart], media: Media) -> list[dict[str, object]]:
    return [_part(part, media) for part in parts]


def _part(part: ContentPart, media: Media) -> dict[str, object]:
    if part.kind == "text":
        return {"type": "text", "text": part.text}
    data = media.get(part.sha256)
    if data is None:
        raise InvalidInput(f"The bytes of the {part.kind} with sha256 {part.sha256} are not at hand.")
    # Base64 needs no escapes, so that megabytes of it need not be looked through for them.
    encoded = base64.b64encode(data)
    if part.kind == "audio":
        form = _AUDIO_FORMATS.get(part.mime) or part.mime.partition("/")[2]
        return {"type": "input_audio", "input_audio": {"data": msgspec.Raw(b'"%b"' % encoded), "format": form}}
    kind = "image_url" if part.kind == "image" else "video_url"
    return {"type": kind, kind: {"url": msgspec.Raw(b'"data:%b;base64,%b"' % (part.mime.encode(), encoded))}}


def _function(tool: ToolDefinition) -> dict[str, object]:
    function: dict[str, object] = {"name": tool.name, "parameters": tool.parameters}
    if tool.description:
        function["description"] = tool.description
    return function
