"""Scores of the public API."""

from dataclasses import dataclass
from typing import Any, cast, get_args

from evalmesh.domain.completion import Completion, ContinuationScore, FinishReason
from evalmesh.domain.content import ToolCall
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score, ScoreState
from evalmesh.v1 import scoring_pb2 as pb
from evalmesh.wire.runs.content import (
    calls_from_proto,
    calls_to_proto,
    reference_from_json,
    reference_to_json,
    scores_from_proto,
    scores_to_proto,
)
from evalmesh.wire.values import one_of

MAX_SCORING_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class ScoringItem:
    """A completion and what it should have been."""

    id: str
    text: str
    target: tuple[str, ...]
    choices: tuple[str, ...] = ()
    reference: Any = None
    """A JSON value, where a text is not enough to score against."""
    tool_calls: tuple[ToolCall, ...] = ()
    continuations: tuple[ContinuationScore, ...] = ()
    """Log-likelihoods, in the order of what was judged."""
    finish_reason: FinishReason = "unknown"
    """`length`: the text was cut, and gets no benefit of the doubt."""


def item_to_proto(item: ScoringItem) -> pb.ScoringItem:
    """One item of a ScoreCompletions call."""
    return pb.ScoringItem(
        id=item.id,
        text=item.text,
        target=item.target,
        choices=item.choices,
        reference_json=reference_to_json(item.reference),
        tool_calls=calls_to_proto(item.tool_calls),
        continuations=scores_to_proto(item.continuations),
        finish_reason=item.finish_reason,
    )


def items_from_proto(request: pb.ScoreCompletionsRequest) -> list[tuple[Sample, Completion]]:
    """What a shape scores; raises `InvalidInput` for too many items, or one without an id or a target."""
    if len(request.items) > MAX_SCORING_ITEMS:
        raise InvalidInput(
            f"items: {len(request.items)} are too many for one call; send at most {MAX_SCORING_ITEMS}, or use "
            f"ImportCompletions and a run.",
            {"field": "items"},
        )
    return [_item_from_proto(index, item) for index, item in enumerate(request.items)]


def _item_from_proto(index: int, item: pb.ScoringItem) -> tuple[Sample, Completion]:
    reference = reference_from_json(item.reference_json, f"items[{index}].reference_json")
    if not item.id or not (item.target or reference is not None):
        field = f"items[{index}].{'target' if item.id else 'id'}"
        raise InvalidInput(
            f"{field}: empty; every item needs an id, and an accepted answer or a reference.", {"field": field}
        )
    sample = Sample(
        id=item.id,
        index=index,
        subset="default",
        input="",
        target=tuple(item.target),
        choices=tuple(item.choices),
        reference=reference,
    )
    finish = one_of(item.finish_reason or "unknown", get_args(FinishReason), f"items[{index}].finish_reason")
    completion = Completion(
        sample_id=item.id,
        repeat=0,
        digest="",
        text=item.text,
        finish_reason=cast("FinishReason", finish),
        continuations=scores_from_proto(item.continuations),
        tool_calls=calls_from_proto(item.tool_calls),
    )
    return sample, completion


def score_to_proto(score: Score) -> pb.Score:
    """A reason for no score travels as the explanation."""
    return pb.Score(
        id=score.sample_id,
        score_state=score.state,
        values=score.values,
        answer=score.answer or "",
        extractor=score.extractor or "",
        explanation=score.explanation or score.reason or "",
    )


def score_from_proto(proto: pb.Score) -> Score:
    """Of repeat 0, under the caller's id."""
    scored = proto.score_state == "scored"
    return Score(
        sample_id=proto.id,
        repeat=0,
        state=cast("ScoreState", proto.score_state),
        values=dict(proto.values),
        answer=proto.answer or None,
        extractor=proto.extractor or None,
        explanation=(proto.explanation or None) if scored else None,
        reason=None if scored else (proto.explanation or None),
    )
