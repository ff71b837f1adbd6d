"""Times and counts that vary: how long until the first token, between tokens, how many tokens."""

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from evalmesh.domain.errors import InvalidInput

Unit = Literal["duration", "count"]

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m)?")
_PLAIN = {"sigma", "alpha", "share"}
_PARAMETERS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "constant": (frozenset({"value"}), frozenset()),
    "uniform": (frozenset({"low", "high"}), frozenset()),
    "exponential": (frozenset({"mean"}), frozenset({"max"})),
    "lognormal": (frozenset({"median", "sigma"}), frozenset({"max"})),
    "pareto": (frozenset({"min", "alpha"}), frozenset({"max"})),
    "bursty": (frozenset({"base", "burst", "share"}), frozenset()),
}


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution of non-negative numbers (seconds, or tokens)."""

    kind: str = "constant"
    """`constant`, `uniform`, `exponential`, `lognormal`, `pareto` (heavy tail), `bursty` (`burst` with probability
    `share`, else `base`)."""
    parameters: Mapping[str, float] = field(default_factory=lambda: {"value": 0.0})

    @property
    def is_zero(self) -> bool:
        """Whether every draw is 0."""
        return self.kind == "constant" and self.parameters["value"] == 0

    def draw(self, rng: random.Random) -> float:
        """One value."""
        p = self.parameters
        match self.kind:
            case "uniform":
                return rng.uniform(p["low"], p["high"])
            case "exponential":
                value = rng.expovariate(1.0 / p["mean"]) if p["mean"] else 0.0
            case "lognormal":
                value = p["median"] * math.exp(rng.gauss(0.0, p["sigma"]))
            case "pareto":
                value = p["min"] * rng.paretovariate(p["alpha"])
            case "bursty":
                return p["burst"] if rng.random() < p["share"] else p["base"]
            case _:
                return p["value"]
        return min(value, p.get("max", math.inf))

    def total(self, rng: random.Random, count: int) -> float:
        """The sum of `count` draws."""
        if self.kind == "constant":
            return self.parameters["value"] * count
        return math.fsum(self.draw(rng) for _ in range(count))


ZERO = Distribution()


def constant(value: float) -> Distribution:
    """Always this value."""
    return Distribution("constant", {"value": value})


@dataclass(frozen=True, slots=True)
class Freeze:
    """The whole server says nothing for the last `pause_s` of every `period_s`, counted from its start."""

    pause_s: float
    period_s: float

    def remaining_s(self, elapsed_s: float) -> float:
        """How long the server stays frozen; 0 when it is not."""
        phase = elapsed_s % self.period_s
        return self.period_s - phase if phase >= self.period_s - self.pause_s else 0.0


def parse_duration(text: str, what: str) -> float:
    """Seconds of `200ms`, `1.5s`, `2m`, `0`. Raises `InvalidInput`, naming `what`."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or (found[2] is None and float(found[1]) != 0):
        raise InvalidInput(f"{what}: {text!r} is no duration; write a number with us, ms, s or m, as in 200ms.")
    return float(found[1]) * _SECONDS[found[2] or "s"]


def parse_distribution(text: str, what: str, unit: Unit = "duration") -> Distribution:
    """Reads `200ms` or `lognormal:median=200ms,sigma=0.5`. Raises `InvalidInput`, naming `what`."""
    kind, colon, rest = text.strip().partition(":")
    if not colon:
        return constant(_parse_value("value", kind, what, unit))
    if kind not in _PARAMETERS:
        raise InvalidInput(f"{what}: {kind!r} is no distribution; use one of {', '.join(_PARAMETERS)}.")
    parameters: dict[str, float] = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        parameters[name] = _parse_value(name, value, what, unit)
    required, optional = _PARAMETERS[kind]
    if not required <= parameters.keys() <= required | optional:
        wanted = ", ".join(sorted(required)) + "".join(f" [{name}]" for name in sorted(optional))
        raise InvalidInput(f"{what}: {kind} takes {wanted}, but {text!r} gives {', '.join(sorted(parameters))}.")
    return Distribution(kind, parameters)


def _parse_value(name: str, text: str, what: str, unit: Unit) -> float:
    if unit == "duration" and name not in _PLAIN:
        return parse_duration(text, what)
    try:
        value = float(text)
    except ValueError:
        raise InvalidInput(f"{what}: {name} is {text!r}; write a number.") from None
    if not math.isfinite(value) or value < 0:
        raise InvalidInput(f"{what}: {name} is {text}; write a number that is not negative.")
    return value


def parse_freeze(text: str) -> Freeze:
    """Reads `1s/5s`: frozen for 1 s in every 5 s. Raises `InvalidInput`."""
    pause, slash, period = text.partition("/")
    if not slash:
        raise InvalidInput(f"freeze: {text!r} is not understood; write PAUSE/PERIOD, as in 1s/5s.")
    freeze = Freeze(parse_duration(pause, "freeze"), parse_duration(period, "freeze"))
    if not 0 < freeze.pause_s < freeze.period_s:
        raise InvalidInput(f"freeze: the pause in {text!r} must be longer than 0 and shorter than the period.")
    return freeze
