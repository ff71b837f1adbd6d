"""Which level comes next: those that were asked for, or those a search wants to see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from evalmesh.domain.load_test import LoadLevel, LoadTestSpec

Document = Mapping[str, Any]
"""A level's document (docs/perf-schema.md)."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The next level."""

    level: LoadLevel
    repeat: int = 0
    note: str = ""


class Programme(Protocol):
    """The order of levels."""

    def next(self, documents: Sequence[Document]) -> Planned | None:
        """What comes after the levels that these documents describe; `None`: nothing."""
        ...


class Sweep:
    """Every level once, then all of them again for each repeat: a drift of the server then hits all levels alike."""

    def __init__(self, spec: LoadTestSpec) -> None:
        self._planned = [Planned(level, repeat) for repeat in range(spec.repeats) for level in spec.levels]

    def next(self, documents: Sequence[Document]) -> Planned | None:
        return self._planned[len(documents)] if len(documents) < len(self._planned) else None


def programme_of(spec: LoadTestSpec) -> Programme:
    """What the spec asks for."""
    return Sweep(spec)
