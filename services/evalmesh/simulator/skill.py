"""How good the simulated model is: a pure function, so the score of a run is known before it starts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.sample import Sample
from evalmesh.simulator.entropy import unit


@dataclass(frozen=True, slots=True)
class KnownSample:
    """A sample the simulated model has learnt."""

    benchmark: str
    sample: Sample

    @property
    def key(self) -> str:
        """`{benchmark}/{sample id}`, as faults name it."""
        return f"{self.benchmark}/{self.sample.id}"


@dataclass(frozen=True, slots=True)
class Skill:
    """The probability of a right answer."""

    seed: int = 0
    default: float = 0.75
    by_benchmark: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("default", self.default), *self.by_benchmark.items()):
            if not 0.0 <= value <= 1.0:
                raise InvalidInput(
                    f"The skill of {name} is {value}, which is no probability; use a number from 0 to 1.",
                    {"field": "skill"},
                )

    def probability(self, benchmark: str) -> float:
        """In [0, 1]."""
        return self.by_benchmark.get(benchmark, self.default)


def is_right(skill: Skill, benchmark: str, sample_id: str, request_seed: int | None = None) -> bool:
    """Whether the simulated model answers this request right. No seed in the request counts as seed 0."""
    return unit(skill.seed, "skill", benchmark, sample_id, request_seed or 0) < skill.probability(benchmark)


def expected_right(skill: Skill, samples: Iterable[KnownSample], request_seed: int | None = None) -> int:
    """How many of these samples are answered right when each is asked once with this seed.

    Exact where no two samples show the model the same question and options; `Knowledge.expected_right` is exact
    for data sets that have such twins.
    """
    return sum(is_right(skill, known.benchmark, known.sample.id, request_seed) for known in samples)
