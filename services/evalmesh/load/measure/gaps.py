"""Histograms of many seconds as one array: distributions of token gaps over a window, and how they change in time."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalmesh.load.measure.histogram import RELATIVE_ERROR, Histogram
from evalmesh.load.measure.inputs import Second
from evalmesh.load.measure.intervals import (
    BATCHES,
    FAR,
    LEAST_BATCHES,
    LEAST_EFFECTIVE,
    Beyond,
    Interval,
    Spread,
    bounded,
    spread_of_batches,
    wilson_at,
)
from evalmesh.load.measure.table import Floats
from evalmesh.load.objective.slo import probability

_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_TO_MS = 1000.0
_ALIKE = 1e-6
"""Of the mean: what differs by less differs by arithmetic."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """Counts of gaps by time (rows) and bucket (columns), over all generators."""

    counts: NDArray[np.int64]
    first_bucket: int
    totals: Floats
    """Sum of the gaps of each row, exact, in seconds; likewise the extremes."""
    lows: Floats
    highs: Floats

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Gaps in each row."""
        sizes: NDArray[np.int64] = self.counts.sum(axis=1)
        return sizes

    def rows(self, first: int, last: int) -> "Gaps":
        """The rows from `first` up to `last`, that one left out."""
        part = slice(max(0, first), max(0, last))
        return Gaps(self.counts[part], self.first_bucket, self.totals[part], self.lows[part], self.highs[part])


def gaps_of(seconds: Iterable[Second], metric: str, rows: int, step: int) -> Gaps:
    """Adds up the histograms of one metric in `rows` steps of `step` seconds."""
    parts = [(second.second // step, second.histograms[metric]) for second in seconds if metric in second.histograms]
    parts = [(row, histogram) for row, histogram in parts if histogram.n and 0 <= row < rows]
    totals, lows, highs = np.zeros(rows), np.full(rows, np.inf), np.full(rows, -np.inf)
    if not parts:
        return Gaps(np.zeros((rows, 1), np.int64), 0, totals, lows, highs)
    first = min(min(histogram.counts) for _, histogram in parts)
    last = max(max(histogram.counts) for _, histogram in parts)
    counts = np.zeros((rows, last - first + 1), np.int64)
    for row, histogram in parts:
        _add(counts[row], histogram, first)
        totals[row] += histogram.total
        lows[row] = min(lows[row], histogram.min)
        highs[row] = max(highs[row], histogram.max)
    return Gaps(counts, first, totals, lows, highs)


def _add(row: NDArray[np.int64], histogram: Histogram, first: int) -> None:
    length = len(histogram.counts)
    buckets = np.fromiter(histogram.counts.keys(), np.int64, length)
    row[buckets - first] += np.fromiter(histogram.counts.values(), np.int64, length)


@dataclass(frozen=True, slots=True)
class Clusters:
    """How many gaps each request had, and their sum in ms; in order of time."""

    sizes: Floats
    sums: Floats

    @property
    def requests(self) -> float:
        """What the gaps are worth as independent ones where those of one request are all alike.

        `(sum of sizes)^2 / sum of squares` (L. Kish, Survey Sampling, 1965, with an intra-class correlation of 1): the
        number of requests, where they are equally long.
        """
        squares = float(self.sizes @ self.sizes)
        return float(self.sizes.sum()) ** 2 / squares if squares else 0.0

    @property
    def effective(self) -> float:
        """Less than that, where neighbouring requests are alike, too."""
        found = self.spread()
        mean = float(self.sums.sum()) / max(1.0, float(self.sizes.sum()))
        if found is None or found.stderr <= _ALIKE * mean:
            return self.requests
        off = self.sums - mean * self.sizes
        alone = float(off @ off) / float(self.sizes.sum()) ** 2
        return self.requests / max(1.0, found.stderr**2 / alone)

    def spread(self) -> Spread | None:
        """How uncertain the mean gap is: a ratio, linearised, in batches of requests."""
        return _ratio_spread(self.sums, self.sizes, float(self.sums.sum()) / max(1.0, float(self.sizes.sum())))


@dataclass(slots=True)
class GapDistribution:
    """The distribution of all gaps, in milliseconds; within `RELATIVE_ERROR`, its mean and extremes exact.

    Gaps of one request are alike, so the number of gaps says little. From ten seconds on the spread between seconds
    tells how sure a share is; before, and where it shows none, gaps count as often as there were requests (`clusters`).
    """

    gaps: Gaps
    clusters: Clusters | None = None
    _cumulated: NDArray[np.int64] | None = None

    @property
    def n(self) -> int:
        return int(self.cumulated[-1])

    @property
    def cumulated(self) -> NDArray[np.int64]:
        """Gaps up to each bucket, that one included."""
        if self._cumulated is None:
            self._cumulated = np.cumsum(self.gaps.counts.sum(axis=0))
        return self._cumulated

    @property
    def middles(self) -> Floats:
        """The value each bucket stands for, in ms."""
        buckets = np.arange(self.gaps.counts.shape[1]) + self.gaps.first_bucket
        middles: Floats = np.float_power(_GAMMA, buckets) * (2 / (_GAMMA + 1) * _TO_MS)
        return middles

    def value(self, statistic: str) -> float:
        if not self.n:
            return math.nan
        match statistic:
            case "mean":
                return float(self.gaps.totals.sum()) / self.n * _TO_MS
            case "std":
                weights = self.gaps.counts.sum(axis=0)
                return math.sqrt(float(weights @ (self.middles - self.value("mean")) ** 2) / max(1, self.n - 1))
            case "min":
                return float(self.gaps.lows.min()) * _TO_MS
            case "max":
                return float(self.gaps.highs.max()) * _TO_MS
        return float(self.quantiles(np.array([probability(statistic)]))[0])

    def quantiles(self, probabilities: Floats) -> Floats:
        at = np.searchsorted(self.cumulated, probabilities * (self.n - 1), side="right")
        found = self.middles[np.minimum(at, len(self.cumulated) - 1)]
        found[probabilities >= 1] = self.value("max")
        clipped: Floats = np.clip(found, self.value("min"), self.value("max"))
        return clipped

    def inflation(self) -> float:
        return 1.0

    def interval(self, statistic: str) -> Interval | None:
        if not self.n:
            return None
        if statistic == "mean":
            return self._mean_interval()
        q = probability(statistic)
        column = int(np.searchsorted(self.cumulated, q * (self.n - 1), side="right"))
        below = self.gaps.counts[:, : column + 1].sum(axis=1)
        count = self._effective(below.astype(np.float64))
        if count is None or not bounded(q, count):
            return None
        low, high = self.quantiles(np.array(wilson_at(q, count)))
        return float(low), float(high)

    def beyond(self, limit: float, *, growing: bool = False) -> Beyond:
        del growing  # gaps are of answers that go on; what waits in a queue has none
        if not self.n:
            return Beyond(0, 0, 0.0)
        edge = math.ceil(math.log(max(limit / _TO_MS, 1e-6)) / math.log(_GAMMA)) - self.gaps.first_bucket
        hits = self.gaps.counts[:, max(0, edge + 1) :].sum(axis=1).astype(np.float64)
        count = int(hits.sum())
        if not count and self.clusters is not None and self._is_far(limit):
            return Beyond(0, self.n, min(float(self.n), self.clusters.requests))
        return Beyond(count, self.n, self._effective(hits) or 0.0)

    def _is_far(self, limit: float) -> bool:
        middle = self.value("p50")
        return limit - middle >= FAR * (self.value("max") - middle)

    def _mean_interval(self) -> Interval | None:
        found = self._spread(self.gaps.totals * _TO_MS)
        if found is None and self.clusters is not None and self.clusters.effective >= LEAST_EFFECTIVE:
            found = self.clusters.spread()
        return None if found is None else found.around(self.value("mean"))

    def _spread(self, sums: Floats) -> Spread | None:
        """How uncertain `sum of sums / number of gaps` is: a ratio, linearised, in batches of equal time."""
        sizes = self.gaps.sizes
        used = np.flatnonzero(sizes)
        return _ratio_spread(sums[used], sizes[used].astype(np.float64), float(sums.sum()) / self.n)

    def _effective(self, hits: Floats) -> float | None:
        """Independent gaps that would tell the share of `hits` as surely; at most one per second and stream is new."""
        found, share = self._spread(hits), float(hits.sum()) / self.n
        if found is not None and found.stderr > 0 and 0 < share < 1:
            return min(float(self.n), share * (1 - share) / found.stderr**2)
        return None if self.clusters is None else min(float(self.n), self.clusters.effective)


def _ratio_spread(sums: Floats, sizes: Floats, ratio: float) -> Spread | None:
    """How uncertain `ratio`, that of the sums to the sizes, is; in order of time."""
    if len(sizes) < LEAST_BATCHES:
        return None
    batches = min(BATCHES, len(sizes))
    size = len(sizes) // batches
    kept = slice(len(sizes) - size * batches, None)
    off = (sums[kept] - ratio * sizes[kept]).reshape(batches, size).sum(axis=1)
    return spread_of_batches(off / (float(sizes[kept].sum()) / batches))


def quantiles_by_row(gaps: Gaps, probabilities: Sequence[float]) -> list[list[float | None]]:
    """For each probability one list over the rows, in ms; `None` where a row has no gaps."""
    cumulated = np.cumsum(gaps.counts, axis=1)
    sizes = cumulated[:, -1]
    middles = GapDistribution(gaps).middles
    told = []
    for q in probabilities:
        # The first bucket whose cumulated count exceeds the rank, for all rows at once.
        column = (cumulated <= (q * (sizes - 1))[:, None]).sum(axis=1)
        values = middles[np.minimum(column, len(middles) - 1)]
        told.append([float(value) if size else None for value, size in zip(values, sizes, strict=True)])
    return told
