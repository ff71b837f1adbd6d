"""Counters, histograms and gauges that tell whoever listens: the page `/metrics`, an OTLP exporter, or nobody.

A name is that of OpenTelemetry, with dots. Labels are few and of few values: never a run, a sample or a shard. What
would make too many series all the same (models named by users) is counted as `other`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from evalmesh.runtime.telemetry.rooms import current_room

Labels = tuple[str, ...]
"""Values in the order of the instrument's labels; empty: it has none here."""
Read = Callable[[], Mapping[Labels, float]]
MOST_SERIES = 500
"""Of one instrument in one process."""
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""The boundaries that the GenAI conventions give for durations."""
TOKENS = tuple(float(4**power) for power in range(14))


@dataclass(frozen=True, slots=True, eq=False)
class Instrument:
    """What is measured, and how it is told apart."""

    name: str
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    _known: set[Labels] = field(default_factory=set, repr=False)

    def bounded(self, labels: Labels) -> Labels:
        """The labels, or those of all that are too many."""
        if labels not in self._known:
            if len(self._known) >= MOST_SERIES:
                return ("other",) * len(self.labels)
            self._known.add(labels)
        return labels


class Listener(Protocol):
    """Hears what is counted and measured."""

    def counted(self, counter: "Counter", amount: float, room: str, labels: Labels) -> None:
        """Something happened."""
        ...

    def measured(self, histogram: "Histogram", value: float, room: str, labels: Labels) -> None:
        """Something was this long or large."""
        ...


_listeners: list[Listener] = []


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """The listener hears what is told while the block lasts."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def measuring() -> bool:
    """Whether anybody listens; what costs something to find out need not be otherwise."""
    return bool(_listeners)


class Counter(Instrument):
    """How often."""

    __slots__ = ()
    kind: Literal["counter"] = "counter"

    def add(self, amount: float, *labels: str) -> None:
        """So many more."""
        if _listeners and amount:
            bounded = self.bounded(labels)
            for one in _listeners:
                one.counted(self, amount, current_room(), bounded)


class Histogram(Instrument):
    """How long, how many."""

    __slots__ = ()
    kind: Literal["histogram"] = "histogram"

    def record(self, value: float, *labels: str) -> None:
        """One more value; what is no number is left out."""
        if _listeners and math.isfinite(value):
            bounded = self.bounded(labels)
            for one in _listeners:
                one.measured(self, value, current_room(), bounded)


class Gauge(Instrument):
    """How many now: looked at when somebody wants to know."""

    __slots__ = ()
    kind: Literal["gauge"] = "gauge"

    def watch(self, read: Read, room: str = "") -> Callable[[], None]:
        """From now on `read` is a part of it, until the function that is returned is called; of the room at work."""
        entry = (self, room or current_room(), read)
        _watched.append(entry)
        return lambda: _watched.remove(entry)


_watched: list[tuple[Gauge, str, Read]] = []


def watched(gauge: Gauge) -> dict[tuple[str, Labels], float]:
    """What it is now, by room and labels: the sum of all that watch the same."""
    found: dict[tuple[str, Labels], float] = defaultdict(float)
    for one, room, read in tuple(_watched):  # a thread of the SDK reads it
        if one is gauge:
            for labels, value in read().items():
                found[room, gauge.bounded(labels)] += value
    return found


def attributes(instrument: Instrument, labels: Sequence[str]) -> dict[str, str | int]:
    """The labels by name, without those that have no value here; ports are numbers, as the conventions have it."""
    named = zip(instrument.labels, labels, strict=True)
    return {name: int(value) if name == "server.port" and value.isdigit() else value for name, value in named if value}
