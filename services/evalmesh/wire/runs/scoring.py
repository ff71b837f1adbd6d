"""Scores of the public API."""

from dataclasses import dataclass
from typing import cast

from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score, ScoreState
from evalmesh.v1 import scoring_pb2 as pb

MAX_SCORING_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class ScoringItem:
    """A completion and what it should have been."""

    id: str
    text: str
    target: tuple[str, ...]
    choices: tuple[str, ...] = ()


def item_to_proto(item: ScoringItem) -> pb.ScoringItem:
    """One item of a ScoreCompletions call."""
    return pb.ScoringItem(id=item.id, text=item.text, target=item.target, choices=item.choices)


def items_from_proto(request: pb.ScoreCompletionsRequest) -> list[tuple[Sample, Completion]]:
    """What a shape scores; raises `InvalidInput` for too many items, or one without an id or a target."""
    if len(request.items) > MAX_SCORING_ITEMS:
        raise InvalidInput(
            f"items: {len(request.items)} are too many for one call; send at most {MAX_SCORING_ITEMS}, or use "
            f"ImportCompletions and a run.",
            {"field": "items"},
        )
    pairs = []
    for index, item in enumerate(request.items):
        if not item.id or not item.target:
            missing = "target" if item.id else "id"
            field = f"items[{index}].{missing}"
            raise InvalidInput(
                f"{field}: empty; every item needs an id and at least one accepted answer.", {"field": field}
            )
        sample = Sample(
            id=item.id, index=index, subset="default", input="", target=tuple(item.target), choices=tuple(item.choices)
        )
        pairs.append((sample, Completion(sample_id=item.id, repeat=0, digest="", text=item.text)))
    return pairs


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
