"""95 % intervals of figures of one level, whose requests are not independent of each other.

Requests that wait in one queue are late together: taken as independent, a thousand of them look far more certain than
they are. Everything here therefore starts from batch means: the series, in order of time, is cut into equal batches,
and the spread of the batches' means is what a mean of one batch's length varies by. What correlation is left between
neighbouring batches is corrected for by (1 + r) / (1 - r), r being their lag-one autocorrelation (the correction of
Skart: Tafazzoli, Wilson, Lada, Steiger, INFORMS J. on Computing 23, 2011). A share gets Wilson's interval at
`n / inflation` requests, inflation being by how much its variance exceeds that of independent ones. A percentile gets
the order statistics at the ends of the interval of "what share lies below it", which needs no density.

Where the effective number of requests is too small, there is no interval: `None`, not a narrow guess. Whether a share
is beyond a bound needs none: `Beyond` is held against it by the exact binomial test.
"""

import math
from dataclasses import dataclass
from typing import Literal

from evalmesh.load.measure.table import Flags, Floats
from evalmesh.scoring.statistics import binomial_tails, t_interval, t_quantile, wilson_interval

Interval = tuple[float, float]
BATCHES = 20
LEAST_BATCHES = 10
LEAST_BEYOND = 4
"""Effective requests on the thin side of a percentile before an interval is told."""
LEAST_EFFECTIVE = 15
"""Effective requests before an interval of a mean is told."""
_P = 0.975
_WRONG = 0.05
"""How often a verdict may be wrong, at the bound itself."""
FAR = 2.0
"""Times as far from the median as any value strayed that way: from there on a limit is none that values come near."""
_MOST_CORRELATION = 0.9


@dataclass(frozen=True, slots=True)
class Spread:
    """How uncertain a mean is."""

    stderr: float
    df: int

    def around(self, mean: float) -> Interval:
        """Student's interval. Times and rates are at least 0, so it does not go below."""
        low, high = t_interval(mean, self.stderr, self.df)
        return max(0.0, low), high


@dataclass(frozen=True, slots=True)
class Beyond:
    """How many values lie beyond a limit, and how many independent ones would tell as much."""

    count: int
    n: int
    effective: float

    @property
    def share(self) -> float:
        """Of all values; NaN without any."""
        return self.count / self.n if self.n else math.nan

    def against(self, allowed: float) -> Literal["met", "missed", "undecided"]:
        """Whether at most the allowed share is beyond, by the exact binomial test, one-sided at 5 % each way."""
        if not self.n:
            return "undecided"
        if allowed <= 0:
            return "missed" if self.count else "met"
        at_most, at_least = binomial_tails(self.share * self.effective, self.effective, allowed)
        return "missed" if at_least <= _WRONG else "met" if at_most <= _WRONG else "undecided"


def beyond(values: Floats, ordered: Floats, limit: float, least_inflation: float, *, growing: bool) -> Beyond:
    """Of a series in order of time (`ordered`: the same sorted), how much lies above a limit.

    Values near a limit are beyond it together, and are worth fewer than they are. Where all of them lie on one side,
    and twice as far from it as any of them strayed that way from their median, their likeness says nothing about it:
    then each counts, and none of n beyond is the rule of three. So they do where all are beyond and the series grows.
    """
    n = len(values)
    hits = values > limit
    count = int(hits.sum())
    if 0 < count < n:
        return Beyond(count, n, n / max(inflation_of_share(hits), least_inflation))
    middle, most = float(ordered[n // 2]), float(ordered[0] if count else ordered[-1])
    far = abs(limit - middle) >= FAR * abs(most - middle)
    return Beyond(count, n, float(n) if far or (count and growing) else n / least_inflation)


def beyond_of_share(hits: Flags) -> Beyond:
    """The same of what is counted, not measured: requests that failed."""
    return Beyond(int(hits.sum()), len(hits), len(hits) / inflation_of_share(hits) if len(hits) else 0.0)


def batch_means(values: Floats | Flags, batches: int) -> Floats:
    """Means of equal consecutive parts; what does not fill a batch is left out at the front."""
    size = len(values) // batches
    means: Floats = values[len(values) - size * batches :].reshape(batches, size).mean(axis=1)
    return means


def spread_of_batches(means: Floats) -> Spread | None:
    """How uncertain the mean of all batches is, from their means; `None` below `LEAST_BATCHES`."""
    count = len(means)
    if count < LEAST_BATCHES:
        return None
    off = means - means.mean()
    squares = float(off @ off)
    if squares == 0:
        return Spread(0.0, count - 1)
    raw = float(off[1:] @ off[:-1]) / squares
    # The estimate is biased down by about (1 + 3 r) / n (M. G. Kendall, Biometrika 41, 1954).
    r = min(max(0.0, (raw + 1 / count) / (1 - 3 / count)), _MOST_CORRELATION)
    return Spread(math.sqrt(squares / (count - 1) / count * (1 + r) / (1 - r)), count - 1)


def spread(values: Floats | Flags) -> Spread | None:
    """How uncertain the mean of a series in order of time is."""
    if len(values) < LEAST_BATCHES:
        return None
    return spread_of_batches(batch_means(values, BATCHES if len(values) >= 2 * BATCHES else LEAST_BATCHES))


def inflation(values: Floats) -> float:
    """By how much the variance of the series' mean exceeds that of independent values; at least 1."""
    return _inflation(values, float(values.var()) if len(values) else 0.0)


def inflation_of_share(hits: Flags) -> float:
    """The same for a share of hits."""
    share = float(hits.mean()) if len(hits) else 0.0
    return _inflation(hits, share * (1 - share))


def _inflation(values: Floats | Flags, variance: float) -> float:
    found = spread(values) if variance > 0 else None
    return 1.0 if found is None else max(1.0, found.stderr**2 * len(values) / variance)


def mean_interval(values: Floats) -> Interval | None:
    """Interval of the mean of a series in order of time."""
    found = spread(values)
    if found is None or len(values) / inflation(values) < LEAST_EFFECTIVE:
        return None
    return found.around(float(values.mean()))


def share_interval(hits: Flags) -> Interval | None:
    """Interval of the share of `hits` in a series in order of time."""
    n = len(hits)
    if n < LEAST_BATCHES:
        return None
    return wilson_at(float(hits.mean()), n / inflation_of_share(hits))


def wilson_at(share: float, count: float) -> Interval:
    """Wilson's interval of a share known from `count` effective requests (not necessarily a whole number).

    Student's quantile stands for the normal one, since the effective number is itself estimated from batches.
    """
    whole = max(1, round(count))
    return wilson_interval(share * whole, whole, t_quantile(_P, BATCHES - 1))


def common_inflation(values: Floats, ordered: Floats) -> float:
    """What percentiles of a series are at least widened by: that of its mean, and of "below the median".

    Tails are crossed too rarely to show for how long neighbours stay alike.
    """
    if len(values) < LEAST_BATCHES:
        return 1.0
    return max(inflation(values), inflation_of_share(values <= ordered[(len(values) - 1) // 2]))


def quantile_interval(values: Floats, ordered: Floats, q: float, least_inflation: float) -> Interval | None:
    """Interval of the q-quantile of a series in order of time; `ordered` are the same values sorted."""
    n = len(values)
    if n < LEAST_BATCHES:
        return None
    below = values <= ordered[int(q * (n - 1))]
    count = n / max(inflation_of_share(below), least_inflation)
    if not bounded(q, count):
        return None
    low, high = wilson_at(q, count)
    return float(ordered[max(0, math.floor(low * n) - 1)]), float(ordered[min(n - 1, math.ceil(high * n) - 1)])


def bounded(q: float, count: float) -> bool:
    """Whether `count` independent values say enough about their q-quantile."""
    return min(q, 1 - q) * count >= LEAST_BEYOND
