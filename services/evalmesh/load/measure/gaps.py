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
    LEAST_BATCHES,
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


@dataclass(slots=True)
class GapDistribution:
    """The distribution of all gaps, in milliseconds; within `RELATIVE_ERROR`, its mean and extremes exact."""

    gaps: Gaps
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
        if statistic == "mean":
            found = self._spread(self.gaps.totals * _TO_MS)
            return None if found is None else found.around(self.value("mean"))
        q = probability(statistic)
        column = int(np.searchsorted(self.cumulated, q * (self.n - 1), side="right")) if self.n else 0
        below = self.gaps.counts[:, : column + 1].sum(axis=1)
        count = self._effective(below.astype(np.float64))
        if count is None or not bounded(q, count):
            return None
        low, high = self.quantiles(np.array(wilson_at(q, count)))
        return float(low), float(high)

    def share_above(self, limit: float, least_inflation: float = 1.0) -> tuple[float, Interval | None]:
        if not self.n:
            return math.nan, None
        edge = math.ceil(math.log(max(limit / _TO_MS, 1e-6)) / math.log(_GAMMA)) - self.gaps.first_bucket
        hits = self.gaps.counts[:, max(0, edge + 1) :].sum(axis=1).astype(np.float64)
        share = float(hits.sum()) / self.n
        count = self._effective(hits)
        if count is None:
            return share, None
        return share, wilson_at(share, count / least_inflation)

    def _spread(self, sums: Floats) -> Spread | None:
        """How uncertain `sum of sums / number of gaps` is: a ratio, linearised, in batches of equal time."""
        sizes = self.gaps.sizes
        used = np.flatnonzero(sizes)
        if len(used) < LEAST_BATCHES:
            return None
        batches = min(BATCHES, len(used))
        size = len(used) // batches
        rows = used[len(used) - size * batches :]
        ratio = float(sums.sum()) / self.n
        off = (sums[rows] - ratio * sizes[rows]).reshape(batches, size).sum(axis=1)
        per_batch = float(sizes[rows].sum()) / batches
        return spread_of_batches(off / per_batch)

    def _effective(self, hits: Floats) -> float | None:
        """Independent gaps that would tell the share of `hits` as surely; at most one per second and stream is new."""
        found = self._spread(hits)
        if found is None:
            return None
        share = float(hits.sum()) / self.n
        if found.stderr == 0 or share in {0.0, 1.0}:
            return float(self.n)
        return min(float(self.n), share * (1 - share) / found.stderr**2)


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
