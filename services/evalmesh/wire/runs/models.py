"""Models, sampling options, requests and completions of the public API."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast, get_args

from evalmesh.domain.completion import Completion, CompletionError, ErrorClass, FinishReason, Timing, Usage
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import GenerationConfig, Request, RequestKind
from evalmesh.domain.run import Engine, ModelKind, ModelSpec
from evalmesh.v1 import models_pb2 as pb
from evalmesh.wire.runs.content import (
    calls_from_proto,
    calls_to_proto,
    check_tool_choice,
    message_from_proto,
    message_to_proto,
    part_from_proto,
    part_to_proto,
    scores_from_proto,
    scores_to_proto,
    tokens_from_proto,
    tokens_to_proto,
    tools_from_proto,
    tools_to_proto,
)
from evalmesh.wire.values import (
    duration_from_proto,
    duration_to_proto,
    one_of,
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
    "top_logprobs",
)
_ASKS: Mapping[RequestKind, str] = {
    "chat": "messages",
    "completion": "a prompt",
    "loglikelihood": "a prompt and continuations",
    "embedding": "a prompt or inputs",
    "rerank": "a prompt, which is the query, and inputs, which are the documents",
    "image": "a prompt",
}


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
    notes: tuple[str, ...] = ()
    """What to know although the endpoint answered."""
    weights: str = ""
    """Digest of the files of a model that runs there."""


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
        connection=model.connection,
        ca_file=model.ca_file,
        insecure=not model.verify_tls,
        outage_timeout=duration_to_proto(model.outage_timeout_s),
        weights=model.weights,
    )


def model_from_proto(model: pb.ModelSpec) -> ModelSpec:
    """Unset fields get the defaults of the domain; names are checked by `wire.runs.checks.check_model`."""
    kind = one_of(model.request_kind or "chat", get_args(ModelKind), "model.request_kind")
    default = ModelSpec(name="")
    return ModelSpec(
        name=model.model,
        engine=cast("Engine", one_of(model.engine or default.engine, get_args(Engine), "model.engine")),
        display_name=model.display_name,
        url=model.url,
        key_ref=model.key_ref,
        kind=cast("ModelKind", kind),
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
        connection=model.connection,
        ca_file=model.ca_file,
        verify_tls=not model.insecure,
        outage_timeout_s=(
            duration_from_proto(model.outage_timeout) if model.HasField("outage_timeout") else default.outage_timeout_s
        ),
        weights=model.weights,
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


def request_from_proto(request: pb.ModelRequest, field: str = "request") -> Request:
    """The caller's id becomes the sample id of repeat 0; such a request has no digest and is never reused."""
    if not request.id:
        raise InvalidInput(f"{field}.id: an id is needed to tell the completions apart.", {"field": f"{field}.id"})
    kind = request_kind(request.kind or _kind_of(request), f"{field}.kind")
    _check_parts(request, kind, field)
    tools = tools_from_proto(request.tools, f"{field}.tools")
    return Request(
        sample_id=request.id,
        repeat=0,
        kind=kind,
        digest="",
        messages=tuple(message_from_proto(m, f"{field}.messages[{i}]") for i, m in enumerate(request.messages)),
        prompt=request.prompt,
        continuations=tuple(request.continuations),
        rolling=request.rolling,
        contexts=tuple(request.contexts),
        followups=tuple(request.followups),
        tools=tools,
        tool_choice=check_tool_choice(request.tool_choice, tools, f"{field}.tool_choice"),
        inputs=tuple(request.inputs),
    )


def _kind_of(request: pb.ModelRequest) -> str:
    """Where the request does not say it."""
    if request.messages:
        return "chat"
    if request.inputs:
        return "rerank" if request.prompt else "embedding"
    return "loglikelihood" if request.continuations else "completion"


def request_kind(name: str, field: str) -> RequestKind:
    """Raises `InvalidInput` for one that there is not."""
    return cast("RequestKind", one_of(name, get_args(RequestKind), field))


def _check_parts(request: pb.ModelRequest, kind: RequestKind, field: str) -> None:
    """Raises `InvalidInput` unless exactly what the kind needs is given."""
    given = request.prompt or request.continuations or request.contexts or request.inputs
    if bool(request.messages) == bool(given):
        raise InvalidInput(f"{field}: give either messages or a prompt.", {"field": field})
    if (kind == "chat") != bool(request.messages):
        raise InvalidInput(f"{field}: a {kind} request has {_ASKS[kind]}.", {"field": field})
    if (kind == "loglikelihood") != bool(request.continuations):
        raise InvalidInput(f"{field}: loglikelihood requests have continuations, and only they.", {"field": field})
    if request.rolling and (kind != "loglikelihood" or request.prompt):
        raise InvalidInput(
            f"{field}.rolling: only loglikelihood requests without a prompt are rolling.", {"field": f"{field}.rolling"}
        )
    if request.contexts and (request.rolling or len(request.contexts) != len(request.continuations)):
        raise InvalidInput(
            f"{field}.contexts: give one for each of the continuations, or none.", {"field": f"{field}.contexts"}
        )
    if request.followups and kind != "chat":
        raise InvalidInput(
            f"{field}.followups: only chat requests have several turns.", {"field": f"{field}.followups"}
        )
    _check_inputs(request, kind, field)
    if request.tools and kind != "chat":
        raise InvalidInput(f"{field}.tools: only chat requests have tools.", {"field": f"{field}.tools"})


def _check_inputs(request: pb.ModelRequest, kind: RequestKind, field: str) -> None:
    takes_inputs = kind in {"embedding", "rerank"}
    if (request.inputs and not takes_inputs) or (kind == "rerank" and not (request.inputs and request.prompt)):
        raise InvalidInput(f"{field}.inputs: a {kind} request has {_ASKS[kind]}.", {"field": f"{field}.inputs"})
    if kind == "embedding" and request.inputs and request.prompt:
        raise InvalidInput(f"{field}: give either a prompt or inputs.", {"field": field})


def request_to_proto(request: Request) -> pb.ModelRequest:
    """The request's own id (sample and repeat) becomes the caller's id."""
    return pb.ModelRequest(
        id=request.id,
        messages=[message_to_proto(m) for m in request.messages],
        prompt=request.prompt,
        kind=request.kind,
        continuations=request.continuations,
        rolling=request.rolling,
        contexts=request.contexts,
        followups=request.followups,
        tools=tools_to_proto(request.tools),
        tool_choice=request.tool_choice,
        inputs=request.inputs,
    )


def completion_to_proto(completion: Completion, request_id: str) -> pb.Completion:
    """What came back, under the caller's id."""
    proto = pb.Completion(
        id=request_id,
        text=completion.text,
        reasoning=completion.reasoning or "",
        finish_reason=completion.finish_reason,
        try_count=completion.tries,
        turns=completion.turns,
        continuations=scores_to_proto(completion.continuations),
        tool_calls=calls_to_proto(completion.tool_calls),
        refusal=completion.refusal or "",
        media=[part_to_proto(part) for part in completion.media],
        top_logprobs=tokens_to_proto(completion.top_logprobs),
        embeddings=[pb.Embedding(values=vector) for vector in completion.embeddings],
        scores=completion.scores,
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
        turns=tuple(proto.turns),
        continuations=scores_from_proto(proto.continuations),
        tool_calls=calls_from_proto(proto.tool_calls),
        refusal=proto.refusal or None,
        media=tuple(part_from_proto(part) for part in proto.media),
        top_logprobs=tokens_from_proto(proto.top_logprobs),
        embeddings=tuple(tuple(vector.values) for vector in proto.embeddings),
        scores=tuple(proto.scores),
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
        tuple(proto.notes),
        proto.weights,
    )
