"""How late the client was, against what it measured: by how much a figure may be wrong, and whether that is chance.

Lateness is held against each quantile of a latency by counting, as objectives are: more than 1 % of the moments later
than a tenth of the p99 means a p99 that may be wrong by a tenth. Three things must hold for it to count: the level has
requests enough for the quantile (the p99 of eight requests is their slowest one); the lateness is more than the figure
is uncertain by anyway; and a client in time would show it less often than once in a thousand levels, by the exact
binomial test again.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from evalmesh.load.measure.distributions import Distribution
from evalmesh.load.measure.histogram import Histogram
from evalmesh.load.measure.inputs import GeneratorHealth
from evalmesh.load.measure.measured import Measured
from evalmesh.scoring.statistics import binomial_tails

NOTED = 0.10
"""From this share of a latency on lateness is told."""
UNUSABLE = 0.30
"""From here on the figures are not the server's."""
CLOCK_MS = 1.0
"""No client can promise less than this: a system wakes a process that late without being overloaded."""
_QUANTILES = {"p50": 0.50, "p75": 0.75, "p90": 0.90, "p99": 0.99}
_LEAST = {"p50": 8, "p75": 16}
"""Requests before the middle of them is looked at, with an interval or without."""
_BY_CHANCE = 0.001
_LEAST_STOPS = 12
"""Late probes (20 ms each) before they count for the mean: machines that others use as well stop for a tenth of a
second now and then, which is chance."""


@dataclass(frozen=True, slots=True)
class Late:
    """One way in which the client was late."""

    unusable: bool
    what: str
    """`answers were seen late in {share} of the time`, in which `{share}` stands for how often."""
    share: float
    by_ms: float
    of: str
    """What this is `NOTED` or `UNUSABLE` of: `TTFT p99`."""

    def __str__(self) -> str:
        often = self.what.format(share=_percent(self.share))
        part = f"more than {UNUSABLE if self.unusable else NOTED:.0%}"
        return f"{often} by more than {self.by_ms:.3g} ms, {part} of the {self.of}."


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 0.1 else f"{share:.0%}"


_SEEN = "Answers were seen late in {share} of the time,"
_SENT = "{share} of the requests were sent late,"


def tolerated_ms(value_ms: float, share: float = NOTED) -> float:
    """Lateness that leaves a latency what it is."""
    return max(CLOCK_MS, share * value_ms)


def saw_late(measured: Measured, one: GeneratorHealth) -> Late | None:
    """Whether a generator's event loop was late enough to show in latencies: all its times are of that loop."""
    lags = one.loop_lags
    if lags is None or not lags.n:
        return _by_percentile(measured, one)
    found = _worst(measured, "ttft", _SEEN, lambda ms: (lags.beyond(ms / 1000), lags.n))
    return found or _by_mean(measured, lags)


def _by_percentile(measured: Measured, one: GeneratorHealth) -> Late | None:
    """Of a generator that told no more than its p99."""
    of, lag_ms = measured.distributions["ttft"], one.loop_lag_p99_ms
    if lag_ms is None or not of.n:
        return None
    for share in (UNUSABLE, NOTED):
        if lag_ms > (by_ms := tolerated_ms(of.value("p99"), share)):
            return Late(share == UNUSABLE, _SEEN, 0.01, by_ms, "TTFT p99")
    return None


def _by_mean(measured: Measured, lags: Histogram) -> Late | None:
    """A stop that a level of few requests shows in its mean alone; smaller ones are a matter of quantiles."""
    of = measured.distributions["ttft"]
    if not of.n:
        return None
    by_ms = max(tolerated_ms(of.value("mean"), UNUSABLE), _uncertain_ms(of, "mean") or 0.0)
    stops = lags.beyond(by_ms / 1000)
    if stops < _LEAST_STOPS or lags.mean * 1000 <= by_ms:
        return None
    return Late(unusable=True, what=_SEEN, share=stops / lags.n, by_ms=by_ms, of="mean TTFT")


def sent_late(measured: Measured) -> Late | None:
    """Whether requests left late enough to show: with a schedule in latencies from it, else in throughput."""
    lag = measured.distributions["send_lag"]
    if not lag.n:
        return None
    if measured.open_loop:
        return _worst(measured, "ttft_due", _SENT, lambda ms: (lag.beyond(ms).count, lag.n), lag)
    of = measured.distributions["e2e"]
    if not of.n:
        return None
    for share in (UNUSABLE, NOTED):
        # A slot that waits for its next request is idle: that is throughput lost.
        by_ms = tolerated_ms(of.value("mean"), share)
        if lag.value("mean") > by_ms and _more_than(lag.beyond(by_ms).count, lag.n, 0.01):
            return Late(share == UNUSABLE, _SENT, lag.beyond(by_ms).share, by_ms, "mean E2E")
    return None


def _worst(
    measured: Measured,
    metric: str,
    what: str,
    beyond: Callable[[float], tuple[int, int]],
    lag: Distribution | None = None,
) -> Late | None:
    """The quantile that suffers most; `lag`: is part of the metric, and nothing is held against itself."""
    of = measured.distributions[metric]
    if not of.n:
        return None
    where = "TTFT from schedule" if metric.endswith("_due") else "TTFT"
    for share in (UNUSABLE, NOTED):
        for name, q in _QUANTILES.items():
            if (uncertain_ms := _uncertain_ms(of, name)) is None:
                continue
            own_ms = of.value(name) - (lag.value(name) if lag is not None else 0.0)
            by_ms = tolerated_ms(max(own_ms, measured.distributions["ttft"].value(name)), share)
            by_ms = max(by_ms, uncertain_ms)
            count, n = beyond(by_ms)
            if _more_than(count, n, 1 - q):
                return Late(share == UNUSABLE, what, count / n, by_ms, f"{where} {name}")
    return None


def _uncertain_ms(of: Distribution, statistic: str) -> float | None:
    """By how much a figure may be higher; `None` where it says nothing, since there are too few requests.

    In the middle that is no reason to look away: latencies drift, or swing, where a client falls behind.
    """
    interval = of.interval(statistic)
    if interval is None:
        return 0.0 if of.n >= _LEAST.get(statistic, math.inf) else None
    return max(0.0, interval[1] - of.value(statistic))


def _more_than(count: int, n: int, share: float) -> bool:
    return binomial_tails(count, n, share)[1] <= _BY_CHANCE
