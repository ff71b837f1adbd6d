"""What is evaluated: one row of a data set, made ready for a benchmark."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sample:
    """One row to evaluate."""

    id: str
    """Unique within its benchmark and stable across runs: `{subset}/{index}` unless the row brings its own."""
    index: int
    """0-based row number within the subset's split, as in the source file."""
    subset: str
    input: str
    target: tuple[str, ...]
    """Accepted answers, best first. For multiple choice: the letters."""
    choices: tuple[str, ...] = ()
    """Option texts in letter order (A, B, ...); empty when the benchmark has none."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Columns worth keeping for analysis (subject, level, ...); never used for scoring."""
