"""What was counted so far, as Prometheus reads it."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from evalmesh.runtime.telemetry.instruments import Counter, Gauge, Histogram, Instrument, Labels, watched
from evalmesh.runtime.telemetry.metrics import ALL

Key = tuple[Instrument, str, Labels]
"""Instrument, room, labels."""


@dataclass(slots=True)
class _Values:
    counts: list[int]
    total: float = 0.0


@dataclass(slots=True, eq=False)
class Ledger(Collector):
    """A `Listener` that keeps sums from when it began to listen."""

    _counts: dict[Key, float] = field(default_factory=dict)
    _values: dict[Key, _Values] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def counted(self, counter: Counter, amount: float, room: str, labels: Labels) -> None:
        """See `Listener`."""
        key = (counter, room, labels)
        with self._lock:
            self._counts[key] = self._counts.get(key, 0.0) + amount

    def measured(self, histogram: Histogram, value: float, room: str, labels: Labels) -> None:
        """See `Listener`."""
        key = (histogram, room, labels)
        with self._lock:
            kept = self._values.get(key)
            if kept is None:
                kept = self._values[key] = _Values([0] * (len(histogram.buckets) + 1))
            kept.counts[bisect_left(histogram.buckets, value)] += 1
            kept.total += value

    def text(self) -> bytes:
        """The page: everything here, and what the operating system says of the process."""
        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        with self._lock:
            counts = dict(self._counts)
            values = {key: (list(kept.counts), kept.total) for key, kept in self._values.items()}
        for one in ALL:
            if isinstance(one, Counter):
                family: Any = CounterMetricFamily(_name(one), one.help, labels=_labels(one))
                for (instrument, room, labels), count in counts.items():
                    if instrument is one:
                        family.add_metric([room, *labels], count)
            elif isinstance(one, Histogram):
                family = HistogramMetricFamily(_name(one), one.help, labels=_labels(one))
                for (instrument, room, labels), (in_buckets, total) in values.items():
                    if instrument is one:
                        family.add_metric([room, *labels], _cumulated(one, in_buckets), total)
            else:
                assert isinstance(one, Gauge)  # noqa: S101  (there is no fourth)
                family = GaugeMetricFamily(_name(one), one.help, labels=_labels(one))
                for (room, labels), value in watched(one).items():
                    family.add_metric([room, *labels], value)
            yield family


def _name(one: Instrument) -> str:
    """As the OpenTelemetry collector would call it: underscores, and the unit where it is one."""
    name = one.name.replace(".", "_")
    return f"{name}_seconds" if one.unit == "s" else name


def _labels(one: Instrument) -> list[str]:
    return ["service", *(label.replace(".", "_") for label in one.labels)]


def _cumulated(one: Histogram, in_buckets: list[int]) -> list[tuple[str, float]]:
    found, total = [], 0
    for bound, count in zip((*one.buckets, float("inf")), in_buckets, strict=True):
        total += count
        found.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
    return found
