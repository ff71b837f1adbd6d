"""Distributions and how they are told: exact values of requests here, histograms of token gaps in `gaps`."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from evalmesh.load.measure import intervals
from evalmesh.load.measure.intervals import Beyond, Interval
from evalmesh.load.measure.table import Floats, Rows
from evalmesh.load.objective.slo import probability

PERCENTILES = {
    "p25": 0.25, "p50": 0.50, "p75": 0.75, "p90": 0.90, "p95": 0.95, "p99": 0.99, "p99.9": 0.999,
}  # fmt: skip
WITH_INTERVAL = ("p50", "p90", "p95", "p99")
_BODY = np.linspace(0.0, 0.99, 166)
_TAIL = 1 - np.geomspace(0.0095, 0.0001, 33)
PROBABILITIES: Floats = np.concatenate([_BODY, _TAIL, [1.0]])
"""Where distributions are told for plots: 200 points, denser towards 1."""


def number(value: float) -> float | None:
    """A finite number, to seven significant digits; `None` for NaN and infinity. Documents hold no others."""
    value = float(value)
    return float(f"{value:.7g}") if math.isfinite(value) else None


def pair(interval: Interval | None) -> list[float | None] | None:
    """An interval as documents have it."""
    return None if interval is None else [number(interval[0]), number(interval[1])]


class Distribution(Protocol):
    """What is asked of a distribution, however it is stored."""

    @property
    def n(self) -> int:
        """Number of values."""

    def value(self, statistic: str) -> float:
        """`mean`, `std`, `min`, `max` or a percentile; NaN without values."""

    def interval(self, statistic: str) -> Interval | None:
        """Of the mean or a percentile."""

    def beyond(self, limit: float, *, growing: bool = False) -> Beyond:
        """How many values lie above the limit; `growing`: latencies grew over the window."""

    def inflation(self) -> float:
        """What its percentiles are at least widened by."""

    def quantiles(self, probabilities: Floats) -> Floats:
        """Several quantiles at once."""


def summary(of: Distribution) -> dict[str, Any]:
    """A distribution as documents have it."""
    told: dict[str, Any] = {"n": of.n}
    for name in ("mean", "std", "min", *PERCENTILES, "max"):
        told[name] = number(of.value(name)) if of.n else None
    told["ci95"] = {name: pair(of.interval(name)) for name in ("mean", *WITH_INTERVAL)}
    return told


@dataclass(slots=True)
class ExactDistribution:
    """Exact values, one a request, in order of time; NaN values must have been left out."""

    values: Floats
    _ordered: Floats | None = None
    _inflation: float | None = None

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def ordered(self) -> Floats:
        """The values sorted, which is done once."""
        if self._ordered is None:
            self._ordered = np.sort(self.values)
        return self._ordered

    def value(self, statistic: str) -> float:
        if not self.n:
            return math.nan
        match statistic:
            case "mean":
                return float(self.values.mean())
            case "std":
                return float(self.values.std(ddof=1)) if self.n > 1 else math.nan
            case "min":
                return float(self.ordered[0])
            case "max":
                return float(self.ordered[-1])
        return float(self.quantiles(np.array([probability(statistic)]))[0])

    def quantiles(self, probabilities: Floats) -> Floats:
        """Linear interpolation between the two values next to rank `q (n - 1)`."""
        ranks = probabilities * (self.n - 1)
        low = np.floor(ranks).astype(np.intp)
        high = np.minimum(low + 1, self.n - 1)
        below, above = self.ordered[low], self.ordered[high]
        found: Floats = below + (above - below) * (ranks - low)
        return found

    def inflation(self) -> float:
        if self._inflation is None:
            self._inflation = intervals.common_inflation(self.values, self.ordered)
        return self._inflation

    def interval(self, statistic: str) -> Interval | None:
        if statistic == "mean":
            return intervals.mean_interval(self.values)
        return intervals.quantile_interval(self.values, self.ordered, probability(statistic), self.inflation())

    def beyond(self, limit: float, *, growing: bool = False) -> Beyond:
        if not self.n:
            return Beyond(0, 0, 0.0)
        return intervals.beyond(self.values, self.ordered, limit, self.inflation(), growing=growing)


def exact(values: Floats) -> ExactDistribution:
    """The values, in ms, that exist (are not NaN), to the nanosecond: beyond that, equal times differ by arithmetic."""
    exists = ~np.isnan(values)
    return ExactDistribution(np.round(values if exists.all() else values[exists], 6))


def token_summary(records: Rows, name: str) -> dict[str, Any]:
    """Token counts of requests; 0 means unknown for `input_tokens`, and is a number for all others."""
    counts = records[name].astype(np.float64)
    known = ExactDistribution(counts[counts > 0] if name == "input_tokens" else counts)
    told: dict[str, Any] = {"n": known.n, "total": int(known.values.sum())}
    for statistic in ("mean", "std", "min", "p50", "p90", "p99", "max"):
        told[statistic] = number(known.value(statistic)) if known.n else None
    return told
