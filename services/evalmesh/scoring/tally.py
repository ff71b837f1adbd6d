"""From scores to metrics through sums that merge: shards are tallied apart, added up in any order, and finished once.

All sums are exact (`Fraction`), so how the samples were cut into shards can never show in a reported number. An
accumulator has a fixed size whatever the number of samples, and consists of strings, integers and booleans only.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.metric import Metric
from evalmesh.domain.run import OnError
from evalmesh.domain.score import Score
from evalmesh.scoring.numbers import parse_number
from evalmesh.scoring.statistics import (
    CONFIDENCE,
    majority_at_k,
    pass_at_k,
    pass_hat_k,
    t_interval,
    t_quantile,
    wilson_interval,
)

_TWO_SIDED = 0.5 + CONFIDENCE / 2
KINDS = ("mean", "amount", "perplexity", "pass_at_k", "majority_at_k", "pass_hat_k")
AMOUNTS = frozenset({"amount", "perplexity"})
"""Kinds whose values have no best and no worst: what has no score stays out of them, whatever `on_error` says."""


@dataclass(frozen=True, slots=True)
class MetricRule:
    """How per-completion values become one metric."""

    name: str
    score_key: str
    kind: str = "mean"
    """`mean`: over all repeats of all samples. `pass_at_k`, `majority_at_k`, `pass_hat_k`: one value per sample.

    `amount`: a mean of values that are no shares of 1. `perplexity`: 2 to the power of such a mean, of bits.
    """
    k: int = 0
    """Tries counted by the kinds with a k; 0: all repeats of a sample."""
    weight: str = ""
    """Of the means: the key of the (whole) number that says how often a value counts; empty: once."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Exact sums over samples of (s, w): s the sum of a sample's values, w how many there are.

    Fractions are kept as text (`3`, `-7/4`), which any serialiser can carry without loss.
    """

    samples: int = 0
    s: str = "0"
    w: int = 0
    ss: str = "0"
    sw: str = "0"
    ww: int = 0
    binary: bool = True
    """Whether all of it was made of values that are 0 or 1: then the value is a proportion."""
    low: str = "0"
    """The smallest value or 0; likewise `high`: the largest or 1. They tell whether values leave [0, 1].

    Amounts always do: -1.
    """
    high: str = "1"


@dataclass(frozen=True, slots=True)
class Accumulator:
    """Everything one metric needs to know about the samples seen so far; counts are of requests."""

    n_scored: int = 0
    n_errored: int = 0
    n_unscored: int = 0
    n_samples: int = 0
    scored: Moments = field(default_factory=Moments)
    """Over what was scored."""
    zeroed: Moments = field(default_factory=Moments)
    """Over everything, what has no score counted as 0."""
    best: Moments = field(default_factory=Moments)
    """Over everything, what has no score counted as 1."""


@dataclass(slots=True)
class _Sums:
    """Mutable twin of `Moments` while a shard is counted."""

    samples: int = 0
    s: Fraction | int = 0
    w: int = 0
    ss: Fraction | int = 0
    sw: Fraction | int = 0
    ww: int = 0
    binary: bool = True
    low: Fraction | int = 0
    high: Fraction | int = 1

    def add(self, values: Sequence[Fraction | int], *, binary: bool, weights: Sequence[int] = ()) -> None:
        """Adds one sample; one without values does not count. `binary`: whether its scores were all 0 or 1."""
        w = sum(weights) if weights else len(values)
        if not w:
            return
        s = sum(value * weight for value, weight in zip(values, weights, strict=True)) if weights else sum(values)
        self.samples += 1
        self.s += s
        self.w += w
        self.ss += s * s
        self.sw += s * w
        self.ww += w * w
        self.binary = self.binary and binary
        self.low = min(self.low, *values)
        self.high = max(self.high, *values)

    def freeze(self) -> Moments:
        return Moments(
            self.samples, str(self.s), self.w, str(self.ss), str(self.sw), self.ww,
            self.binary, str(self.low), str(self.high),
        )  # fmt: skip


def tally_shard(rules: Sequence[MetricRule], rows: Iterable[Sequence[Score]]) -> dict[str, Accumulator]:
    """Accumulators by metric name; each row holds all scores (repeats) of one sample."""
    counters = [_Counter(rule) for rule in rules]
    for row in rows:
        for counter in counters:
            counter.add(row)
    return {counter.rule.name: counter.freeze() for counter in counters}


def merge(a: Accumulator, b: Accumulator) -> Accumulator:
    """The accumulator of the samples of both; exactly associative and commutative."""
    return Accumulator(
        n_scored=a.n_scored + b.n_scored,
        n_errored=a.n_errored + b.n_errored,
        n_unscored=a.n_unscored + b.n_unscored,
        n_samples=a.n_samples + b.n_samples,
        scored=_merge_moments(a.scored, b.scored),
        zeroed=_merge_moments(a.zeroed, b.zeroed),
        best=_merge_moments(a.best, b.best),
    )


def finish(rule: MetricRule, acc: Accumulator, on_error: OnError) -> Metric:
    """The metric with its uncertainty, denominators and bounds.

    `exclude` and `fail` look at what was scored (under `fail` the run itself has failed, and this is what it knew);
    `zero` counts everything without a score as 0, in the value and in its error. Of amounts nothing can be 0.
    """
    acc = _with_missing(acc) if rule.weight and rule.kind not in AMOUNTS else acc
    zero = on_error == "zero" and rule.kind not in AMOUNTS
    moments = acc.zeroed if zero else acc.scored
    requests = acc.n_scored + (acc.n_errored + acc.n_unscored if zero else 0)
    value, stderr, interval = _estimate(moments, requests)
    if rule.kind == "perplexity" and value is not None:
        value, stderr, interval = _power(value, stderr, interval)
    return Metric(
        name=rule.name,
        value=value,
        stderr=stderr,
        ci95=interval,
        n_scored=acc.n_scored,
        n_errored=acc.n_errored,
        n_unscored=acc.n_unscored,
        bounds=_bounds(acc),
        n_samples=moments.samples,
    )


def _with_missing(acc: Accumulator) -> Accumulator:
    """What has no score has no weight either: it counts as much as the others do on average."""
    missing, of = acc.n_errored + acc.n_unscored, acc.scored
    w = round(Fraction(of.w * missing, acc.n_scored)) if acc.n_scored else missing
    ww = w * w // missing if missing else 0
    zeroed = replace(of, samples=of.samples + missing, w=of.w + w, ww=of.ww + ww)
    best = replace(zeroed, s=_add(of.s, str(w)), ss=_add(of.ss, str(ww)), sw=_add(of.sw, str(ww)))
    return replace(acc, zeroed=zeroed, best=best)


def _power(
    value: float, stderr: float | None, interval: tuple[float, float] | None
) -> tuple[float | None, float | None, tuple[float, float] | None]:
    """Of bits to a perplexity: the interval by its ends, the error by the slope (the delta method)."""
    try:
        ends = None if interval is None else (2.0 ** interval[0], 2.0 ** interval[1])
        return 2.0**value, None if stderr is None else 2.0**value * math.log(2) * stderr, ends
    except OverflowError:
        return None, None, None


def _merge_moments(a: Moments, b: Moments) -> Moments:
    return Moments(
        samples=a.samples + b.samples,
        s=_add(a.s, b.s),
        w=a.w + b.w,
        ss=_add(a.ss, b.ss),
        sw=_add(a.sw, b.sw),
        ww=a.ww + b.ww,
        binary=a.binary and b.binary,
        low=min(a.low, b.low, key=Fraction),
        high=max(a.high, b.high, key=Fraction),
    )


def _add(a: str, b: str) -> str:
    return str(Fraction(a) + Fraction(b)) if "/" in a or "/" in b else str(int(a) + int(b))


class _Counter:
    """Counts one metric over the samples of one shard."""

    def __init__(self, rule: MetricRule) -> None:
        if rule.kind not in KINDS:
            raise InvalidInput(
                f"Metric {rule.name!r} has the unknown kind {rule.kind!r}; use one of {', '.join(KINDS)}."
            )
        self.rule = rule
        self.states = {"scored": 0, "errored": 0, "unscored": 0}
        self.n_samples = 0
        self.scored, self.zeroed, self.best = _Sums(), _Sums(), _Sums()
        self.scored.low = -1 if rule.kind in AMOUNTS else 0

    def add(self, row: Sequence[Score]) -> None:
        """Counts the repeats of one sample."""
        if not row:
            return
        self.n_samples += 1
        key = self.rule.score_key
        have: list[Score] = []
        for score in row:
            state = score.state
            if state == "scored" and not (math.isfinite(score.values.get(key, math.nan)) and self._weighs(score)):
                state = "unscored"
            self.states[state] += 1
            if state == "scored":
                have.append(score)
        values = [_exact(score.values[key]) for score in have]
        missing = len(row) - len(have)
        weights = [int(score.values[self.rule.weight]) for score in have] if self.rule.weight else []
        if self.rule.weight or self.rule.kind in AMOUNTS:
            self.scored.add(values, binary=False, weights=weights)
        elif self.rule.kind == "mean":
            binary = all(value in {0, 1} for value in values)
            self.scored.add(values, binary=binary)
            self.zeroed.add(values + [0] * missing, binary=binary)
            self.best.add(values + [1] * missing, binary=binary)
        elif self.rule.kind == "majority_at_k":
            self._add_majority(have, values, missing)
        else:
            self._add_k_of_n(values, missing)

    def _weighs(self, score: Score) -> bool:
        """Whether there is a weight, where one is needed."""
        weight = score.values.get(self.rule.weight, -1.0) if self.rule.weight else 1.0
        return weight >= 0 and weight.is_integer()

    def freeze(self) -> Accumulator:
        return Accumulator(
            n_scored=self.states["scored"],
            n_errored=self.states["errored"],
            n_unscored=self.states["unscored"],
            n_samples=self.n_samples,
            scored=self.scored.freeze(),
            zeroed=self.zeroed.freeze(),
            best=self.best.freeze(),
        )

    def _add_k_of_n(self, values: list[Fraction | int], missing: int) -> None:
        estimate = pass_at_k if self.rule.kind == "pass_at_k" else pass_hat_k
        correct = sum(value == 1 for value in values)
        for sums, n, c in (
            (self.scored, len(values), correct),
            (self.zeroed, len(values) + missing, correct),
            (self.best, len(values) + missing, correct + missing),
        ):
            k = self.rule.k or len(values) + missing
            if n >= k:  # fewer tries than k allow no estimate: the sample does not count
                sums.add([_small(estimate(n, c, k))], binary=True)

    def _add_majority(self, have: list[Score], values: list[Fraction | int], missing: int) -> None:
        votes = [(ballot(score.answer), Fraction(value)) for score, value in zip(have, values, strict=True)]
        binary = all(value in {0, 1} for value in values)
        value = _small(majority_at_k(votes)) if votes else 0
        if votes:
            self.scored.add([value], binary=binary)
        self.zeroed.add([value], binary=binary)
        if missing:
            right = sum(v == 1 for v in values) + missing
            wrong: dict[object, int] = {}
            for vote_of, vote in votes:
                if vote != 1:
                    wrong[vote_of] = wrong.get(vote_of, 0) + 1
            value = 1 if right >= max(wrong.values(), default=0) else value
        self.best.add([value], binary=binary)


def ballot(answer: str | None) -> object:
    """What makes two answers the same vote: the number they write, or their text in one case."""
    if answer is None:
        return None
    number = parse_number(answer)
    return answer.strip().casefold() if number is None else number


def _exact(value: float) -> Fraction | int:
    return int(value) if value in {0, 1} else _small(Fraction(value))


def _small(value: Fraction) -> Fraction | int:
    return value.numerator if value.denominator == 1 else value


def _estimate(m: Moments, requests: int) -> tuple[float | None, float | None, tuple[float, float] | None]:
    """Value, standard error and interval.

    A proportion has Wilson's interval at the effective number of answers, so that metrics of one benchmark with the
    same value and error have the same interval, whichever way they count repeats. Where all samples agree, their
    spread of 0 says nothing: there is no standard error then, and the number of samples makes the interval.
    """
    if m.samples == 0:
        return None, None, None
    mean = Fraction(m.s) / m.w
    value, variance = float(mean), Fraction(0)
    if m.samples > 1:
        # The linearised variance of a ratio (see statistics.clustered_mean_and_stderr), expanded so that it needs sums
        # only; in exact arithmetic the expansion loses no digits.
        squares = Fraction(m.ss) - 2 * mean * Fraction(m.sw) + mean * mean * m.ww
        variance = squares * m.samples / (m.samples - 1) / m.w**2
    stderr = math.sqrt(variance) if variance else None
    within = Fraction(m.low) >= 0 and Fraction(m.high) <= 1
    if m.binary or (within and stderr is None):
        n = _effective_size(mean, variance, m.samples, requests)
        return value, stderr, wilson_interval(value * n, n)
    if stderr is None:
        return value, None, None
    low, high = t_interval(value, stderr, m.samples - 1)
    return value, stderr, (max(0.0, low), min(1.0, high)) if within else (low, high)


def _effective_size(mean: Fraction, variance: Fraction, samples: int, requests: int) -> float:
    """How many independent answers would leave a proportion as uncertain as these samples do.

    The sample size over the design effect, at most the requests there were, made smaller where few samples tell what
    the design effect is (E. L. Korn, B. I. Graubard, Survey Methodology 24, 1998). One request per sample gives the
    number of samples, and so do repeats that always agree.
    """
    if not variance:
        return samples
    size = float(min(Fraction(requests), mean * (1 - mean) * samples / (samples - 1) / variance))
    if size <= samples:
        return size
    widened = t_quantile(_TWO_SIDED, int(size) - 1) / t_quantile(_TWO_SIDED, samples - 1)
    return max(samples, size * widened * widened)


def _bounds(acc: Accumulator) -> tuple[float, float] | None:
    """`None` where values leave [0, 1], since then no value is the worst or the best."""
    low, high = acc.zeroed, acc.best
    if not low.w or not high.w or Fraction(low.low) < 0 or Fraction(low.high) > 1:
        return None
    return float(Fraction(low.s) / low.w), float(Fraction(high.s) / high.w)
