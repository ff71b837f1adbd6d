"""Stored scores, also those of before values had to be numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from evalmesh.domain.errors import InternalError
from evalmesh.domain.score import Score, ScoreState
from evalmesh.wire.codec import decode_rows


@dataclass(frozen=True, slots=True)
class _OldScore:
    """As `Score`, where a value that was no finite number has become null."""

    sample_id: str
    repeat: int
    state: ScoreState
    values: Mapping[str, float | None] | None = None
    answer: str | None = None
    extractor: str | None = None
    explanation: str | None = None
    reason: str | None = None

    def healed(self) -> Score:
        values = self.values or {}
        lost = [name for name, value in values.items() if value is None]
        unscored = bool(lost) and self.state == "scored"
        return Score(
            self.sample_id,
            self.repeat,
            "unscored" if unscored else self.state,
            {} if lost else {name: value for name, value in values.items() if value is not None},
            self.answer,
            self.extractor,
            self.explanation,
            f"the value {lost[0]!r} was no finite number" if unscored else self.reason,
        )


def decode_scores(data: bytes, key: str = "") -> list[Score]:
    """The scores of a shard. Raises `InternalError`."""
    try:
        return decode_rows(Score, data, key)
    except InternalError:
        return [score.healed() for score in decode_rows(_OldScore, data, key)]
