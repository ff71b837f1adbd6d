"""Models, sampling options, requests and completions of the public API."""

from dataclasses import dataclass
from typing import cast, get_args

from evalmesh.domain.completion import Completion, CompletionError, ErrorClass, FinishReason, Timing, Usage
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import GenerationConfig, Message, Request, Role
from evalmesh.domain.run import Engine, ModelSpec
from evalmesh.v1 import models_pb2 as pb
from evalmesh.wire.values import (
    duration_from_proto,
    duration_to_proto,
    struct_from_proto,
    struct_to_proto,
    timestamp_from_proto,
    timestamp_to_proto,
)

_OPTIONALS = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "seed",
    "reasoning_effort",
)


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What an endpoint can do."""

    model: str
    request_kinds: tuple[str, ...]
    streaming: bool
    modalities: tuple[str, ...] = ()
    """Empty: not known, as is `None` below."""
    logprobs: bool | None = None
    tools: bool | None = None
    max_context_tokens: int | None = None


def one_of(value: str, allowed: tuple[str, ...], field: str) -> str:
    """`value` if it is allowed; raises `InvalidInput` naming the choices."""
    if value not in allowed:
        choices = ", ".join(f"`{choice}`" for choice in allowed)
        raise InvalidInput(f"{field}: {value[:100]!r} is not known; use one of {choices}.", {"field": field})
    return value


def model_to_proto(model: ModelSpec) -> pb.ModelSpec:
    """Every field, set or not."""
    return pb.ModelSpec(
        model=model.name,
        engine=model.engine,
        display_name=model.display_name,
        url=model.url,
        key_ref=model.key_ref,
        request_kind=model.kind,
        stream=model.stream,
        concurrency=model.concurrency,
        max_tries=model.max_tries,
        try_timeout=duration_to_proto(model.try_timeout_s),
        total_timeout=duration_to_proto(model.total_timeout_s),
        headers=model.headers,
        args=struct_to_proto(model.args, "model.args"),
    )


def model_from_proto(model: pb.ModelSpec) -> ModelSpec:
    """Unset fields get the defaults of the domain; names are checked by `wire.runs.checks.check_model`."""
    kind = one_of(model.request_kind or "chat", ("chat", "completion"), "model.request_kind")
    default = ModelSpec(name="")
    return ModelSpec(
        name=model.model,
        engine=cast("Engine", one_of(model.engine or default.engine, get_args(Engine), "model.engine")),
        display_name=model.display_name,
        url=model.url,
        key_ref=model.key_ref,
        kind="completion" if kind == "completion" else "chat",
        stream=model.stream,
        concurrency=model.concurrency or default.concurrency,
        max_tries=model.max_tries or default.max_tries,
        try_timeout_s=(
            duration_from_proto(model.try_timeout) if model.HasField("try_timeout") else default.try_timeout_s
        ),
        total_timeout_s=(
            duration_from_proto(model.total_timeout) if model.HasField("total_timeout") else default.total_timeout_s
        ),
        headers=dict(model.headers),
        args=struct_from_proto(model.args),
    )


def generation_to_proto(config: GenerationConfig) -> pb.GenerationConfig:
    """Absent stays absent."""
    proto = pb.GenerationConfig(
        stop=config.stop, extra_body=struct_to_proto(config.extra_body, "generation.extra_body")
    )
    for name in _OPTIONALS:
        value = getattr(config, name)
        if value is not None:
            setattr(proto, name, value)
    return proto


def generation_from_proto(config: pb.GenerationConfig) -> GenerationConfig:
    """Absent stays absent."""
    set_fields = {name: getattr(config, name) for name in _OPTIONALS if config.HasField(name)}  # type: ignore[arg-type]
    return GenerationConfig(**set_fields, stop=tuple(config.stop), extra_body=struct_from_proto(config.extra_body))


def message_to_proto(message: Message) -> pb.Message:
    """One turn."""
    return pb.Message(role=message.role, content=message.content)


def message_from_proto(message: pb.Message, field: str = "message") -> Message:
    """One turn; raises `InvalidInput` for a role nobody knows."""
    return Message(cast("Role", one_of(message.role, get_args(Role), f"{field}.role")), message.content)


def request_from_proto(request: pb.ModelRequest, field: str = "request") -> Request:
    """The caller's id becomes the sample id of repeat 0; such a request has no digest and is never reused."""
    if not request.id:
        raise InvalidInput(f"{field}.id: an id is needed to tell the completions apart.", {"field": f"{field}.id"})
    if bool(request.messages) == bool(request.prompt):
        raise InvalidInput(f"{field}: give either messages or a prompt.", {"field": field})
    messages = tuple(message_from_proto(m, f"{field}.messages[{i}]") for i, m in enumerate(request.messages))
    return Request(
        sample_id=request.id,
        repeat=0,
        kind="chat" if messages else "completion",
        digest="",
        messages=messages,
        prompt=request.prompt,
    )


def request_to_proto(request: Request) -> pb.ModelRequest:
    """The request's own id (sample and repeat) becomes the caller's id."""
    return pb.ModelRequest(
        id=request.id, messages=[message_to_proto(m) for m in request.messages], prompt=request.prompt
    )


def completion_to_proto(completion: Completion, request_id: str) -> pb.Completion:
    """What came back, under the caller's id."""
    proto = pb.Completion(
        id=request_id,
        text=completion.text,
        reasoning=completion.reasoning or "",
        finish_reason=completion.finish_reason,
        try_count=completion.tries,
    )
    usage, timing, error = completion.usage, completion.timing, completion.error
    if usage is not None and usage.input_tokens is not None:
        proto.input_tokens = usage.input_tokens
    if usage is not None and usage.output_tokens is not None:
        proto.output_tokens = usage.output_tokens
    if timing is not None:
        proto.start_time.CopyFrom(timestamp_to_proto(timing.start_time))
        proto.latency.CopyFrom(duration_to_proto(timing.latency_s))
        if timing.ttft_s is not None:
            proto.ttft.CopyFrom(duration_to_proto(timing.ttft_s))
    if error is not None:
        proto.error_class, proto.error = error.error_class, error.message
    return proto


def completion_from_proto(proto: pb.Completion) -> Completion:
    """The caller's id becomes the sample id of repeat 0."""
    usage = Usage(
        input_tokens=proto.input_tokens if proto.HasField("input_tokens") else None,
        output_tokens=proto.output_tokens if proto.HasField("output_tokens") else None,
    )
    timing = Timing(
        start_time=timestamp_from_proto(proto.start_time),
        latency_s=duration_from_proto(proto.latency),
        ttft_s=duration_from_proto(proto.ttft) if proto.HasField("ttft") else None,
    )
    return Completion(
        sample_id=proto.id,
        repeat=0,
        digest="",
        text=proto.text,
        reasoning=proto.reasoning or None,
        finish_reason=cast("FinishReason", proto.finish_reason or "unknown"),
        usage=None if usage == Usage() else usage,
        timing=timing if proto.HasField("start_time") else None,
        tries=proto.try_count,
        error=CompletionError(cast("ErrorClass", proto.error_class), proto.error) if proto.error_class else None,
    )


def description_from_proto(proto: pb.ModelDescription) -> ModelDescription:
    """What an endpoint can do."""
    return ModelDescription(
        proto.model,
        tuple(proto.request_kinds),
        proto.streaming,
        tuple(proto.modalities),
        proto.logprobs if proto.HasField("logprobs") else None,
        proto.tools if proto.HasField("tools") else None,
        proto.max_context_tokens if proto.HasField("max_context_tokens") else None,
    )
