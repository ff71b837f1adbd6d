"""The judgement on one completion."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ScoreState = Literal["scored", "unscored", "errored"]


@dataclass(frozen=True, slots=True)
class Score:
    """Values for one completion, or the reason why there are none.

    `scored`: `values` holds every metric of the benchmark, wrong answers included as 0.
    `unscored`: a completion exists and the scorer could not judge it (deadline, unusable verdict).
    `errored`: there is no completion to judge.
    """

    sample_id: str
    repeat: int
    state: ScoreState
    values: Mapping[str, float] = field(default_factory=dict)
    answer: str | None = None
    """What the extractor took out of the completion; `None` when nothing was found."""
    extractor: str | None = None
    """Which extractor of the cascade fired."""
    explanation: str | None = None
    reason: str | None = None
    """Why unscored or errored."""
    outcome: str = ""
    """Of `scored`: why no answer was found, or `answered_cut`; empty for a plain answer (`scoring.outcomes`)."""
