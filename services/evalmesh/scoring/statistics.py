"""Uncertainty of scores: intervals, standard errors and the k-of-n estimators. Exact where exactness is cheap."""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from statistics import NormalDist

CONFIDENCE = 0.95
_Z95 = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
_LARGE_DF = 2000


def mean_and_stderr(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and its standard error (sample standard deviation / sqrt n); no error for a single value."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)


def clustered_mean_and_stderr(clusters: Sequence[Sequence[float]]) -> tuple[float, float | None]:
    """Mean over all values and its error when values of one cluster (repeats of one sample) are not independent.

    The mean is the ratio of the clusters' sums to their sizes; its variance is the usual linearisation
    C/(C-1) * sum((s_c - mean * m_c)^2) / (sum m_c)^2 (W. G. Cochran, Sampling Techniques, 3rd ed., section 6.3).
    """
    sums = [math.fsum(cluster) for cluster in clusters if cluster]
    sizes = [len(cluster) for cluster in clusters if cluster]
    total, count = sum(sizes), len(sizes)
    mean = math.fsum(sums) / total
    if count < 2:
        return mean, None
    squares = math.fsum((s - mean * m) ** 2 for s, m in zip(sums, sizes, strict=True))
    return mean, math.sqrt(count / (count - 1) * squares) / total


def wilson_interval(successes: float, n: float, z: float = _Z95) -> tuple[float, float]:
    """Score interval of a proportion (E. B. Wilson, JASA 22, 1927); 95 % by default."""
    p = successes / n
    z2 = z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low = 0.0 if successes <= 0 else max(0.0, centre - half)
    high = 1.0 if successes >= n else min(1.0, centre + half)
    return low, high


def t_interval(mean: float, stderr: float, df: int) -> tuple[float, float]:
    """95 % interval of a mean with `df` degrees of freedom."""
    half = t_quantile(0.5 + CONFIDENCE / 2, df) * stderr
    return mean - half, mean + half


@lru_cache(maxsize=4096)
def t_quantile(p: float, df: int) -> float:
    """Quantile of Student's t distribution for p in (0.5, 1).

    Solved by bisection on the regularised incomplete beta function: P(|T| > t) = I_x(df/2, 1/2) with
    x = df / (df + t^2) (NIST DLMF 8.17; Abramowitz and Stegun 26.7.1). From 2000 degrees of freedom on, the expansion
    of Abramowitz and Stegun 26.7.5 is accurate to more than ten digits.
    """
    if df > _LARGE_DF:
        return _t_expansion(NormalDist().inv_cdf(p), df)
    tail = 2 * (1 - p)
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        if _incomplete_beta(middle, df / 2, 0.5) < tail:
            low = middle
        else:
            high = middle
    x = (low + high) / 2
    return math.sqrt(df * (1 - x) / x)


def t_tails(t: float, df: float) -> float:
    """P(|T| >= t) of Student's t distribution with `df` (not necessarily whole) degrees of freedom, for t >= 0."""
    return _incomplete_beta(df / (df + t * t), df / 2, 0.5)


def binomial_tails(hits: float, n: float, share: float) -> tuple[float, float]:
    """P(X <= hits) and P(X >= hits) of a binomial count of `n` with this share of hits.

    By the regularised incomplete beta function (NIST DLMF 8.17.5), so that neither count need be a whole number: what
    requests that are late together are worth as independent ones seldom is. A share whose first tail is at most 5 % is
    below the exact one-sided 95 % bound of C. J. Clopper and E. S. Pearson (Biometrika 26, 1934); with no hit at all
    that is the rule of three.
    """
    at_most = 1.0 if hits >= n else _incomplete_beta(1 - share, n - hits, hits + 1)
    at_least = 1.0 if hits <= 0 else _incomplete_beta(share, hits, n - hits + 1)
    return at_most, at_least


def _t_expansion(z: float, df: int) -> float:
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / df ** (power + 1) for power, term in enumerate(terms))


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function by its continued fraction (NIST DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    return front / a / _continued_fraction(x, a, b)


def _continued_fraction(x: float, a: float, b: float) -> float:
    """1 + d1/(1 + d2/(1 + ...)), evaluated by the modified Lentz method (Thompson and Barnett, 1986)."""
    tiny = 1e-300
    value = c = 1.0
    d = 0.0
    for m in range(1, 3000):
        half = m // 2
        if m % 2 == 0:
            step = half * (b - half) * x / ((a + m - 1) * (a + m))
        else:
            step = -(a + half) * (a + b + half) * x / ((a + m - 1) * (a + m))
        d = 1 + step * d or tiny
        d = 1 / d
        c = 1 + step / c or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return value


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value, corrected for there being so many (S. Holm, Scandinavian J. of Statistics 6, 1979)."""
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, p_values[at] * (len(p_values) - rank)))
        corrected[at] = least
    return corrected


def pass_at_k(n: int, correct: int, k: int) -> Fraction:
    """Chance that at least one of k tries succeeds, given `correct` of n: 1 - C(n-c, k) / C(n, k).

    The unbiased estimator of M. Chen et al., arXiv:2107.03374, section 2.1; 1 <= k <= n.
    """
    return 1 - Fraction(math.comb(n - correct, k), math.comb(n, k))


def pass_hat_k(n: int, correct: int, k: int) -> Fraction:
    """Chance that all of k tries succeed: C(c, k) / C(n, k) (S. Yao et al., arXiv:2406.12045, section 3)."""
    return Fraction(math.comb(correct, k), math.comb(n, k))


def majority_at_k(votes: Sequence[tuple[object, Fraction]]) -> Fraction:
    """Value of the most frequent answer; `votes` holds (answer, value of that answer).

    Answers that tie for the first place share it, as if one were drawn at random.
    """
    groups: dict[object, list[Fraction]] = {}
    for answer, value in votes:
        groups.setdefault(answer, []).append(value)
    most = max(map(len, groups.values()))
    leaders = [sum(values, Fraction()) / len(values) for values in groups.values() if len(values) == most]
    return sum(leaders, Fraction()) / len(leaders)
