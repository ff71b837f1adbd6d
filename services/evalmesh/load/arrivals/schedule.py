"""When requests are due: one process for the whole load test, computed alike at every seat from its seed.

The process is drawn in *operational time*, in which arrivals come at rate 1, and mapped to seconds through the inverse
of the integrated rate. A constant rate divides by it; stages with a changing rate need the root of a quadratic. So a
ramp of Poisson arrivals is exactly the Poisson process of that changing rate (Cinlar, Introduction to Stochastic
Processes, 1975, section 4.7), and constant arrivals in a ramp come where the integrated rate passes whole numbers.

A level that says how much load it wants gets it: with `number` or a duration, Poisson and gamma arrivals are drawn
*given* their count. For Poisson these are the sorted uniform times; in general the gaps between n arrivals and both
ends of the level are Dirichlet distributed, which is drawn gap by gap (stick breaking, each a Beta of what remains).
So n requests at rate r take n / r seconds, not that and a chance part of 1 / sqrt(n), and gaps keep their law.

Everything is lazy: memory does not depend on the length of a level.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice, repeat
from random import Random

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import ArrivalSpec, LoadLevel, Stage

_ROUNDING = 1e-9
"""A product such as 0.1 x 30 may be above 3 by its rounding; that is no fourth request."""


@dataclass(frozen=True, slots=True)
class Share:
    """One seat's part of the global schedule: indices with `index % seats == seat`."""

    seat: int = 0
    seats: int = 1

    def of(self, due_s: Iterable[float]) -> Iterator[tuple[int, float]]:
        """(index, due time) of this seat's requests."""
        return islice(enumerate(due_s), self.seat, None, self.seats)


def is_open(level: LoadLevel, arrival: ArrivalSpec) -> bool:
    """Whether requests have due times; else `parallel` of them are kept in flight."""
    return arrival.kind == "trace" or (arrival.kind != "closed" and (level.rate > 0 or bool(level.stages)))


def duration_s(level: LoadLevel) -> float:
    """Nothing is due after this; infinite for a level that is bounded by its number alone."""
    bounds = [level.duration_s] if level.duration_s > 0 else []
    if level.stages:
        bounds.append(sum(stage.duration_s for stage in level.stages))
    return min(bounds, default=math.inf)


def planned(level: LoadLevel, arrival: ArrivalSpec, warmup: int = 0) -> int:
    """Requests of a level, warm-up included; 0: unknown, because only a duration or the trace bounds it."""
    asked = level.number + warmup if level.number else 0
    if arrival.kind == "trace" or not is_open(level, arrival):
        return asked
    most = _most_arrivals(level, arrival)
    if math.isinf(most):
        return asked
    return min(asked, int(most)) if asked else int(most)


def due_times(
    level: LoadLevel, arrival: ArrivalSpec, seed: int, warmup: int = 0, offsets_s: Iterable[float] = ()
) -> Iterator[float]:
    """Due times of all requests of a level over all seats, in seconds since its start; NaN in closed loop.

    The first `warmup` of them are the warm-up: they come on top of `level.number`, and within a duration. `offsets_s`
    are those of a trace, ascending. Endless when nothing bounds the level.
    """
    number = planned(level, arrival, warmup)
    if arrival.kind == "trace":
        return _bounded(_replay(offsets_s, arrival.speed), number, duration_s(level))
    if not is_open(level, arrival):
        return repeat(math.nan, number) if number else repeat(math.nan)
    if arrival.kind == "constant":
        units: Iterator[float] = map(float, range(number) if number else count())
    else:
        shape = arrival.burstiness if arrival.kind == "gamma" else 1.0
        if shape <= 0:
            raise InvalidInput(
                f"arrival.burstiness is {shape}; it is the shape of a gamma distribution and must be above 0 (1 is "
                "Poisson).",
                {"field": "arrival.burstiness"},
            )
        rng = Random(seed)  # noqa: S311 - a reproducible load, no secret
        units = _given(number, _span(level, number, warmup), shape, rng) if number else _endless(shape, rng)
    if level.stages:
        return _through(level.stages, units)
    rate = level.rate
    return (unit / rate for unit in units)


def _bounded(times_s: Iterator[float], number: int, end_s: float) -> Iterator[float]:
    for time_s in islice(times_s, number or None):
        if time_s >= end_s:
            return
        yield time_s


def _replay(offsets_s: Iterable[float], speed: float) -> Iterator[float]:
    if speed <= 0:
        raise InvalidInput(
            f"arrival.speed is {speed}; it must be above 0 (2 replays twice as fast).", {"field": "arrival.speed"}
        )
    return (offset_s / speed for offset_s in offsets_s)


def _integrated(level: LoadLevel) -> float:
    """Expected arrivals within the level's duration; infinite without one."""
    end_s = duration_s(level)
    if not level.stages:
        return level.rate * end_s
    total, left_s = 0.0, end_s
    for stage in level.stages:
        part_s = min(stage.duration_s, left_s)
        slope = (stage.end - stage.start) / stage.duration_s if stage.duration_s > 0 else 0.0
        total += part_s * (stage.start + slope * part_s / 2)
        left_s -= part_s
    return total


def _most_arrivals(level: LoadLevel, arrival: ArrivalSpec) -> float:
    """Arrivals within the duration; at least one, or a short level at a low rate would measure nothing."""
    total = _integrated(level)
    if math.isinf(total):
        return total
    # Constant arrivals start at 0, so that each begun gap has one.
    return max(1, math.ceil(total - _ROUNDING) if arrival.kind == "constant" else round(total))


def _span(level: LoadLevel, number: int, warmup: int) -> float:
    """Operational time that `number` arrivals are spread over: the whole duration where that is the bound."""
    total = _integrated(level)
    if math.isinf(total) or (level.number and level.number + warmup <= number < total):
        return float(number)
    return total


def _given(number: int, span: float, shape: float, rng: Random) -> Iterator[float]:
    """Operational times of `number` arrivals within `span`: their gaps are Dirichlet(shape, ..., shape)."""
    left = 1.0  # share of the span that is left; the error of a product stays relative to it
    if shape == 1.0:
        for remaining in range(number, 0, -1):
            # Beta(1, remaining) by its inverse: what is left is the largest of `remaining` uniforms.
            left *= (1.0 - rng.random()) ** (1.0 / remaining)
            yield span * (1.0 - left)
        return
    for remaining in range(number, 0, -1):
        left *= 1.0 - rng.betavariate(shape, shape * remaining)
        yield span * (1.0 - left)


def _endless(shape: float, rng: Random) -> Iterator[float]:
    """Operational times of a renewal process in equilibrium: a first gap is what is left of one under way.

    Without that, bursty arrivals would begin with a burst: (CV^2 - 1) / 2 arrivals more than the rate says.
    """
    scale = 1.0 / shape
    unit = rng.random() * rng.gammavariate(shape + 1.0, scale)
    while True:
        yield unit
        unit += -math.log(1.0 - rng.random()) if shape == 1.0 else rng.gammavariate(shape, scale)


def _through(stages: tuple[Stage, ...], units: Iterator[float]) -> Iterator[float]:
    """Maps ascending operational times through the inverse of the integrated rate; ends with the last stage."""
    at_s, before = 0.0, 0.0
    remaining = iter(stages)
    stage = next(remaining)
    for unit in units:
        while unit >= before + _arrivals(stage):
            at_s, before = at_s + stage.duration_s, before + _arrivals(stage)
            following = next(remaining, None)
            if following is None:
                return
            stage = following
        yield at_s + _into(stage, unit - before)


def _arrivals(stage: Stage) -> float:
    return stage.duration_s * (stage.start + stage.end) / 2


def _into(stage: Stage, units: float) -> float:
    """Seconds into the stage at which its integrated rate reaches `units`."""
    slope = (stage.end - stage.start) / stage.duration_s
    root = math.sqrt(max(0.0, stage.start * stage.start + 2 * slope * units))
    # The form of the quadratic's root that loses nothing when the slope is small.
    return 2 * units / (stage.start + root) if units > 0 else 0.0
