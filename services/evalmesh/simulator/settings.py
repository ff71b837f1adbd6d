"""How the simulated model behaves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from evalmesh.domain.errors import InvalidInput
from evalmesh.simulator.distribution import ZERO, Distribution, Freeze
from evalmesh.simulator.faults import Fault
from evalmesh.simulator.render import Style
from evalmesh.simulator.skill import Skill

Overload = Literal["queue", "reject"]
DEFAULT_MODEL = "simulated"


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """Everything the simulator's behaviour depends on; two with equal settings behave alike."""

    skill: Skill = field(default_factory=Skill)
    """Its seed also fixes wordings, latencies and faults."""
    style: Style = field(default_factory=Style)
    ttft: Distribution = ZERO
    """Seconds from having a slot to the first token."""
    itl: Distribution = ZERO
    """Seconds between tokens."""
    output_tokens: Distribution | None = None
    """Length of every reply in tokens; an answer that is longer stays whole."""
    max_concurrency: int = 0
    """Requests worked on at a time; 0: no bound."""
    overload: Overload = "queue"
    """What happens to requests beyond that: they wait, or get 429."""
    freeze: Freeze | None = None
    faults: tuple[Fault, ...] = ()
    api_key: str = field(default="", repr=False)
    """Required as bearer token; empty: none is."""
    models: tuple[str, ...] = ()
    """Model names served; empty: every name is."""
    max_body_bytes: int = 32 * 1024 * 1024
    benchmarks: tuple[str, ...] = ()
    """Benchmarks to learn at start."""
    dataset_args: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dataset_dir: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.style.awkwardness <= 1.0:
            raise InvalidInput(f"The awkwardness is {self.style.awkwardness}; use a number from 0 to 1.")
        if self.max_concurrency < 0:
            raise InvalidInput(f"max_concurrency is {self.max_concurrency}; use 0 for no bound, or a positive number.")
