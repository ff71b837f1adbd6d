"""Steady state: where the start-up ends, and whether latencies still drift after it.

The start-up is looked for with MSER-5 (K. P. White, Simulation 69, 1997): means of batches of five, cut where the
standard error of the mean of the rest is least. That rule alone would also cut a random or periodic excursion that
happens to lie at the beginning, so a cut is made only when no later stretch of equal length is nearly as far from the
rest as the beginning is. Drift is Mann-Kendall's trend test on twenty batch means, together with its size: a
significant drift that is too small to matter is none.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from evalmesh.load.measure.intervals import batch_means
from evalmesh.load.measure.table import Floats, Rows

LEAST_REQUESTS = 100
LEAST_DIFFERENCE = 0.05
"""A start-up must differ from the rest by this share of the rest's mean."""
LEAST_DRIFT = 0.10
"""Likewise a drift, over the whole window."""
_BATCH = 5
_MOST_BATCHES = 1000
_CLEARLY = 1.5
_SIGNIFICANCE = 0.01
_TREND_BATCHES = 20


@dataclass(frozen=True, slots=True)
class Steadiness:
    """What was found."""

    cut_s: float | None
    """Requests that were due before belong to the start-up; `None`: there is none."""
    steady: bool | None
    """`None`: too little to tell."""
    note: str
    drift: float | None = None
    """Change over the window as a share of the median, where there is a significant one."""


def steadiness(ok: Rows) -> Steadiness:
    """Of successes in order of when they were due."""
    if len(ok) < LEAST_REQUESTS:
        return Steadiness(None, None, f"Too few requests ({len(ok)}) to tell whether a steady state was reached.")
    series = {"TTFT": ok["first_s"] - ok["send_s"], "E2E": ok["last_s"] - ok["send_s"]}
    series = {name: values for name, values in series.items() if not np.isnan(values).any()}
    cut = max((startup(values) for values in series.values()), default=0)
    drifts = {name: drift(values[cut:]) for name, values in series.items()}
    told = []
    if cut:
        told.append(f"The first {cut} requests are left out: a start-up unlike everything after it.")
    drifting = {name: size for name, size in drifts.items() if size is not None}
    for name, size in drifting.items():
        told.append(f"{name} {'grew' if size > 0 else 'fell'} by {abs(size):.0%} over the window: no steady state.")
    if not drifting:
        told.append("Steady: latencies show no trend.")
    largest = max(drifting.values(), key=abs, default=None)
    return Steadiness(float(ok["due_s"][cut]) if cut else None, not drifting, " ".join(told), largest)


def startup(values: Floats) -> int:
    """How many values at the beginning are start-up; at most half of them."""
    size = max(_BATCH, math.ceil(len(values) / _MOST_BATCHES))
    count = len(values) // size
    means = values[: count * size].reshape(count, size).mean(axis=1)
    cut = _least_error(means)
    if not cut or not _unlike_the_rest(means, cut):
        return 0
    return cut * size


def _least_error(means: Floats) -> int:
    """The cut at which the standard error of the mean of the rest is least, among the first half."""
    count = len(means)
    # From the end: sums and squares of what is left after each cut. Centred first, for the sake of precision.
    centred = means - means.mean()
    left = np.arange(count, 0, -1)
    sums = np.cumsum(centred[::-1])[::-1]
    squares = np.cumsum((centred**2)[::-1])[::-1]
    errors = (squares - sums**2 / left) / left**2
    return int(np.argmin(errors[: count // 2 + 1]))


def _unlike_the_rest(means: Floats, cut: int) -> bool:
    rest = means[cut:]
    middle = float(rest.mean())
    off = abs(float(means[:cut].mean()) - middle)
    if off <= LEAST_DIFFERENCE * abs(middle):
        return False
    cumulated = np.concatenate([[0.0], np.cumsum(rest)])
    stretches = (cumulated[cut:] - cumulated[:-cut]) / cut
    return off > _CLEARLY * float(np.abs(stretches - middle).max())


def drift(values: Floats) -> float | None:
    """Change over the whole series as a share of its median, when it is significant and matters; else `None`."""
    if len(values) < LEAST_REQUESTS // 2:
        return None
    means = batch_means(values, _TREND_BATCHES)
    count = len(means)
    later, earlier = np.triu_indices(count, 1)[::-1]
    differences = means[later] - means[earlier]
    score = float(np.sign(differences).sum())
    deviation = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    if abs(score) <= NormalDist().inv_cdf(1 - _SIGNIFICANCE / 2) * deviation:
        return None
    slope = float(np.median(differences / (later - earlier)))
    size = slope * (count - 1) / max(float(np.median(means)), 1e-9)
    return size if abs(size) >= LEAST_DRIFT else None
