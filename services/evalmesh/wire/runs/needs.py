"""What benchmarks need and what endpoints can do, and the refusal of a run whose benchmarks need more."""

from collections.abc import Iterable
from typing import cast

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.needs import Capabilities, Modality, Needs
from evalmesh.domain.request import RequestKind
from evalmesh.domain.run import ModelSpec
from evalmesh.v1 import benchmarks_pb2, models_pb2


def needs_to_proto(needs: Needs) -> benchmarks_pb2.ModelNeeds:
    """Every field."""
    return benchmarks_pb2.ModelNeeds(
        benchmark=needs.benchmark,
        request_kind=needs.kind,
        modalities=sorted(needs.modalities),
        logprobs=needs.logprobs,
        tools=needs.tools,
        answer_tokens=needs.context_tokens,
    )


def needs_from_proto(proto: benchmarks_pb2.ModelNeeds) -> Needs:
    """Names that this build does not know stay as they are: no endpoint has them."""
    return Needs(
        proto.benchmark,
        cast("RequestKind", proto.request_kind),
        frozenset(cast("list[Modality]", proto.modalities)),
        proto.logprobs,
        proto.tools,
        proto.answer_tokens if proto.HasField("answer_tokens") else None,
    )


def capabilities_to_proto(
    model: str, capabilities: Capabilities, notes: Iterable[str] = ()
) -> models_pb2.ModelDescription:
    """What the endpoint of `model` can do; what is not known stays absent."""
    return models_pb2.ModelDescription(
        model=model,
        request_kinds=sorted(capabilities.kinds),
        streaming=capabilities.streaming,
        modalities=sorted(capabilities.modalities or ()),
        logprobs=capabilities.logprobs,
        tools=capabilities.tools,
        max_context_tokens=capabilities.max_context_tokens,
        preferred_batch=capabilities.preferred_batch,
        seed=capabilities.seed,
        notes=notes,
        weights=capabilities.weights,
    )


def capabilities_from_proto(proto: models_pb2.ModelDescription) -> Capabilities:
    """What is absent is not known."""
    return Capabilities(
        frozenset(cast("list[RequestKind]", proto.request_kinds)),
        proto.streaming,
        proto.seed if proto.HasField("seed") else True,
        frozenset(cast("list[Modality]", proto.modalities)) or None,
        proto.logprobs if proto.HasField("logprobs") else None,
        proto.tools if proto.HasField("tools") else None,
        proto.max_context_tokens if proto.HasField("max_context_tokens") else None,
        proto.preferred_batch or 1,
        proto.weights,
    )


def check_needs(model: ModelSpec, needs: Iterable[Needs], has: Capabilities) -> None:
    """Raises `InvalidInput` that names the first benchmark whose needs are not met, the need, and what there is."""
    for need in needs:
        lacking = has.lacking(need)
        if lacking is None:
            continue
        wanted, there = lacking
        kind_is_wrong = need.kind not in has.kinds
        way_out = (
            f"ask it as {need.kind} (model.request_kind is {model.kind}; --request-kind) or leave the benchmark out."
            if kind_is_wrong and need.kind in {"chat", "completion"}
            else f"{_shorter(need, has)}name another model, or leave the benchmark out."
        )
        raise InvalidInput(
            f"The benchmark {need.benchmark} needs {wanted}; the endpoint of {model.name} {there}: {way_out}",
            {"field": "model.request_kind" if kind_is_wrong else "model", "benchmark": need.benchmark},
        )


def _shorter(need: Needs, has: Capabilities) -> str:
    most, least = has.max_context_tokens, need.context_tokens
    return "" if most is None or least is None or least < most else "ask for shorter answers (--max-tokens), "
