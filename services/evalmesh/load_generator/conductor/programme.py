"""Which level comes next: those that were asked for, or those a search wants to see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from evalmesh.domain.load_test import LoadLevel, LoadTestSpec, SearchSpec
from evalmesh.load.objective.search import Search, SearchAnswer, observations, probe_level

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


class Hunt:
    """Probes until the highest load that meets the objective is known."""

    def __init__(self, spec: LoadTestSpec, wanted: SearchSpec) -> None:
        self._template = spec.levels[0]
        self._variable = wanted.variable
        self._search = Search(wanted)

    def next(self, documents: Sequence[Document]) -> Planned | None:
        probe = self._search.next(observations(documents, self._variable))
        if isinstance(probe, SearchAnswer):
            return None
        earlier = sum(1 for document in documents if document[self._variable] == probe.value)
        return Planned(probe_level(self._template, self._variable, probe), earlier, probe.note)


def programme_of(spec: LoadTestSpec) -> Programme:
    """What the spec asks for."""
    return Sweep(spec) if spec.search is None else Hunt(spec, spec.search)
