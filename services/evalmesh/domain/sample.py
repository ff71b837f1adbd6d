"""What is evaluated: one row of a data set, made ready for a benchmark."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evalmesh.domain.content import ContentPart, ToolDefinition
from evalmesh.domain.request import Message

WHERE = "where"
"""Of the metadata, for data of the user's own: file and line, for people."""


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
    reference: Any = None
    """What to score against where a text is not enough, as a JSON value: test code, checks with their arguments,
    accepted spans, rubrics."""
    messages: tuple[Message, ...] = ()
    """Turns of a conversation that come before `input`; the conversation alone where `input` is empty."""
    followups: tuple[str, ...] = ()
    """What the user says after `input`, one after the other, each once the model has answered what came before."""
    media: tuple[ContentPart, ...] = ()
    """Media of the question. `<image 1>`, `<audio 2>`, ... in `input` say where the n-th of its kind stands; media that
    are not named there stand before the text."""
    tools: tuple[ToolDefinition, ...] = ()
    """What the model may call."""
    group: str = ""
    """Samples of one group are not independent (one passage, several questions); empty: independent."""
    tags: tuple[str, ...] = ()
