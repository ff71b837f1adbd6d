"""Which of all runs are meant."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from evalmesh.domain.run import Run
from evalmesh.domain.state import State


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Runs that fulfil all of it; what is empty is fulfilled by each."""

    states: frozenset[State] = frozenset()
    model: str = ""
    """Part of the model's name or label, whatever the case."""
    benchmark: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    display_name: str = ""
    """Part of it, whatever the case."""
    since: float = 0.0
    """Accepted then or later; Unix seconds."""
    word: str = ""
    """Beginning or end of the id, or the whole display name."""

    def matches(self, run: Run) -> bool:
        """Whether the run does."""
        spec = run.spec
        names = f"{spec.model.name}\n{spec.model.label}".casefold()
        return (
            (not self.states or run.state in self.states)
            and self.model.casefold() in names
            and (not self.benchmark or self.benchmark in {one.name for one in spec.benchmarks})
            and self.labels.items() <= spec.labels.items()
            and self.display_name.casefold() in spec.display_name.casefold()
            and run.create_time >= self.since
            and (not self.word or self.word == spec.display_name or _is_end(self.word, run.id))
        )


def _is_end(word: str, id_: str) -> bool:
    return id_.startswith(word) or id_.endswith(word)
