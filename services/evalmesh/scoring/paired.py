"""Two sets of scores of the same samples: by how much they differ, and whether that is more than chance. Pure.

A pair is one sample with a value of either side (with repeats: the mean over them). Three tests:

- `mcnemar`: every value is 0 or 1. Exact: under the null hypothesis each pair that differs is a coin toss (Q. McNemar,
  Psychometrika 12, 1947). The interval is Tango's score interval (T. Tango, Statistics in Medicine 17, 1998), which
  stays honest where few pairs differ, or none.
- `paired-t`: other values; Student's t of the differences.
- `clustered-t`: samples that are not independent come in clusters; t with the clusters' sums (`statistics`).

Where all differences are equal and not zero, their spread says nothing: the p-value is then that of flipping signs.
Sums are exact, so the order of the pairs cannot show, and swapping the sides changes signs and nothing else.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evalmesh.scoring.statistics import CONFIDENCE, t_interval, t_quantile, t_tails

Values = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Test = Literal["mcnemar", "paired-t", "clustered-t"]
Verdict = Literal["better", "worse", "inconclusive"]

SIGNIFICANCE = 1 - CONFIDENCE
POWER = 0.8
_Z95 = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
_EXACT_TOSSES = 1000
_FEWEST_FLIPS = next(n for n in range(1, 64) if 2.0 ** (1 - n) <= SIGNIFICANCE)
"""With fewer flips, all one way, McNemar's p-value cannot be small."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What pairs say of the difference B - A."""

    n: int
    """Pairs."""
    clusters: int
    """Independent ones among them."""
    a: float
    b: float
    """Means over the pairs."""
    difference: float
    stderr: float | None
    ci95: tuple[float, float] | None
    test: Test
    p_value: float | None
    """Two-sided, of this comparison alone; `None` where one pair says nothing about spread."""
    higher: int
    """Pairs in which B's value is the higher one."""
    lower: int
    smallest: float | None
    """The smallest true difference that so many pairs would show at 5 % in four of five cases."""


def paired_effect(a: Values, b: Values, clusters: Codes | None = None) -> Effect | None:
    """The effect of two arrays of finite values, pair by pair; `None` of no pairs.

    Args:
        a: Values of the baseline.
        b: Values of the other side, in the same order.
        clusters: A number per pair; pairs of one number are not independent. `None`: all are.
    """
    n = len(a)
    if n == 0:
        return None
    differences = b - a
    higher, lower = int(np.count_nonzero(differences > 0)), int(np.count_nonzero(differences < 0))
    base = {
        "n": n,
        "a": math.fsum(a) / n,
        "b": math.fsum(b) / n,
        "difference": math.fsum(np.concatenate((b, -a))) / n,
        "higher": higher,
        "lower": lower,
    }
    in_unit = bool(min(a.min(), b.min()) >= 0 and max(a.max(), b.max()) <= 1)
    if clusters is not None and len(np.unique(clusters)) < n:
        return _by_t(base, differences, clusters, in_unit=in_unit)
    if in_unit and bool(np.all((a == 0) | (a == 1)) and np.all((b == 0) | (b == 1))):
        return _by_flips(base)
    return _by_t(base, differences, None, in_unit=in_unit)


def _by_flips(base: dict[str, Any]) -> Effect:
    n, higher, lower = base["n"], base["higher"], base["lower"]
    variance = (higher + lower - (higher - lower) ** 2 / n) / (n - 1) / n if n > 1 else None
    # Under the null hypothesis the variance of the difference is the share of flips over n.
    smallest = max((_Z95 + NormalDist().inv_cdf(POWER)) * math.sqrt(higher + lower), _FEWEST_FLIPS) / n
    return Effect(
        **base,
        clusters=n,
        stderr=None if variance is None else math.sqrt(variance),
        ci95=tango_interval(higher, lower, n),
        test="mcnemar",
        p_value=mcnemar(higher, lower),
        smallest=smallest if smallest <= 1 else None,
    )


def _by_t(base: dict[str, Any], differences: Values, clusters: Codes | None, *, in_unit: bool) -> Effect:
    n, mean = base["n"], base["difference"]
    if clusters is None:
        units, squares = n, math.fsum((differences - mean) ** 2)
    else:
        # Sorted within a cluster as well, so that its sum does not depend on the order of the samples.
        order = np.lexsort((differences, clusters))
        starts = np.unique(clusters[order], return_index=True)[1]
        sums = np.add.reduceat(differences[order], starts)
        sizes = np.diff(np.append(starts, n))
        units, squares = len(starts), math.fsum((sums - mean * sizes) ** 2)
    stderr = math.sqrt(units / (units - 1) * squares) / n if units > 1 else None
    ci95: tuple[float, float] | None = None
    p_value = None if stderr is None else 1.0
    smallest = None
    if stderr:
        ci95 = t_interval(mean, stderr, units - 1)
        ci95 = (max(-1.0, ci95[0]), min(1.0, ci95[1])) if in_unit else ci95
        p_value = t_tails(abs(mean) / stderr, units - 1)
        smallest = stderr * (t_quantile(0.5 + CONFIDENCE / 2, units - 1) + t_quantile(POWER, units - 1))
    elif stderr is not None and mean:
        p_value = 2.0 ** (1 - units)
    elif stderr is not None and in_unit:
        ci95 = tango_interval(0, 0, units)
    test: Test = "paired-t" if clusters is None else "clustered-t"
    return Effect(**base, clusters=units, stderr=stderr, ci95=ci95, test=test, p_value=p_value, smallest=smallest)


def mcnemar(higher: int, lower: int) -> float:
    """Two-sided exact p-value of so many flips each way: twice the smaller tail of Binomial(n, 1/2), at most 1."""
    n, k = higher + lower, min(higher, lower)
    if n <= _EXACT_TOSSES:
        return min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / (1 << n))
    # Terms shrink from the k-th downwards; those that cannot change the sum are left out.
    term = math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
    tail, i = 0.0, k
    while i >= 0 and term > tail * 1e-18:
        tail += term
        term *= i / (n - i + 1)
        i -= 1
    return min(1.0, 2 * tail)


def tango_interval(higher: int, lower: int, n: int) -> tuple[float, float]:
    """95 % score interval of (higher - lower) / n, the difference of two proportions of the same n samples."""
    return _tango_low(higher, lower, n), -_tango_low(lower, higher, n)


def _tango_low(higher: int, lower: int, n: int) -> float:
    low, high = -1.0, (higher - lower) / n
    for _ in range(100):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        if _tango_score(middle, higher, lower, n) > _Z95:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _tango_score(delta: float, higher: int, lower: int, n: int) -> float:
    """How many standard errors the data are above a difference of `delta`, the share of flips at its likeliest."""
    b = -higher - lower + (2 * n - higher + lower) * delta
    c = -lower * delta * (1 - delta)
    share = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    variance = n * (2 * share + delta * (1 - delta))
    return math.inf if variance <= 0 else (higher - lower - n * delta) / math.sqrt(variance)


def verdict(difference: float, p_value: float, *, higher_is_better: bool = True) -> Verdict:
    """What B is, by a p-value that is corrected for all the comparisons made."""
    if p_value > SIGNIFICANCE or difference == 0:
        return "inconclusive"
    return "better" if (difference > 0) == higher_is_better else "worse"
