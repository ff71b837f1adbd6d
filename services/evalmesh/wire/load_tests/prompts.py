"""What a load test asks: `PromptSpec` and its parts of the public API."""

from typing import cast, get_args

from evalmesh.domain.load_test import ImageMode, ImageSpec, LengthKind, Lengths, PromptSpec, TurnSpec
from evalmesh.v1 import load_tests_pb2 as pb
from evalmesh.wire.values import duration_from_proto, duration_to_proto, one_of, struct_from_proto, struct_to_proto


def prompts_to_proto(prompts: PromptSpec) -> pb.PromptSpec:
    """Absent stays absent. Raises `InvalidInput` for what JSON cannot carry."""
    images, turns = prompts.images, prompts.turns
    proto = pb.PromptSpec(
        dataset=prompts.dataset,
        file_digest=prompts.file_digest,
        file_name=prompts.file_name,
        tokenizer_digest=prompts.tokenizer_digest,
        prompt=prompts.prompt,
        template=prompts.template,
        input_tokens=_lengths_to_proto(prompts.input_tokens),
        output_tokens=_lengths_to_proto(prompts.output_tokens),
        min_tokens=prompts.min_tokens,
        prefix_tokens=prompts.prefix_tokens,
        prefix_count=prompts.prefix_count,
        apply_chat_template=prompts.apply_chat_template,
        tokenize=prompts.tokenize,
        offset=prompts.offset,
        document_count=prompts.documents,
        body=struct_to_proto(prompts.body, "prompts.body"),
        args=struct_to_proto(prompts.args, "prompts.args"),
    )
    if images is not None:
        image = pb.ImageSpec(count=images.count, width=images.width, height=images.height, mode=images.mode)
        proto.images.CopyFrom(image)
    if turns is not None:
        think = duration_to_proto(turns.think_mean_s)
        proto.turns.CopyFrom(pb.TurnSpec(low=turns.low, high=turns.high, think_mean=think))
    return proto


def prompts_from_proto(proto: pb.PromptSpec) -> PromptSpec:
    """Absent stays absent; raises `InvalidInput` for a kind or mode nobody knows."""
    default = PromptSpec()
    apply_chat_template = proto.apply_chat_template if proto.HasField("apply_chat_template") else True
    return PromptSpec(
        dataset=proto.dataset or default.dataset,
        file_digest=proto.file_digest,
        file_name=proto.file_name,
        tokenizer_digest=proto.tokenizer_digest,
        prompt=proto.prompt,
        template=proto.template,
        input_tokens=_lengths(proto.input_tokens, "input_tokens") if proto.HasField("input_tokens") else None,
        output_tokens=_lengths(proto.output_tokens, "output_tokens") if proto.HasField("output_tokens") else None,
        min_tokens=proto.min_tokens if proto.HasField("min_tokens") else None,
        prefix_tokens=proto.prefix_tokens,
        prefix_count=proto.prefix_count or default.prefix_count,
        apply_chat_template=apply_chat_template,
        tokenize=proto.tokenize,
        offset=proto.offset,
        documents=proto.document_count,
        images=_images(proto.images) if proto.HasField("images") else None,
        turns=_turns(proto.turns) if proto.HasField("turns") else None,
        body=struct_from_proto(proto.body),
        args=struct_from_proto(proto.args),
    )


def _lengths_to_proto(lengths: Lengths | None) -> pb.Lengths | None:
    if lengths is None:
        return None
    return pb.Lengths(kind=lengths.kind, low=lengths.low, high=lengths.high, mean=lengths.mean, spread=lengths.spread)


def _lengths(proto: pb.Lengths, field: str) -> Lengths:
    default = Lengths()
    low = proto.low or default.low
    return Lengths(
        kind=cast("LengthKind", one_of(proto.kind or default.kind, get_args(LengthKind), f"prompts.{field}.kind")),
        low=low,
        high=proto.high or low,
        mean=proto.mean,
        spread=proto.spread,
    )


def _images(proto: pb.ImageSpec) -> ImageSpec:
    default = ImageSpec()
    return ImageSpec(
        count=proto.count or default.count,
        width=proto.width or default.width,
        height=proto.height or default.height,
        mode=cast("ImageMode", one_of(proto.mode or default.mode, get_args(ImageMode), "prompts.images.mode")),
    )


def _turns(proto: pb.TurnSpec) -> TurnSpec:
    low = proto.low or TurnSpec().low
    return TurnSpec(low=low, high=proto.high or low, think_mean_s=duration_from_proto(proto.think_mean))
