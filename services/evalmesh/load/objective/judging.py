"""Whether a level meets its objective, and which of its requests do."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from evalmesh.domain.load_test import SloTerm
from evalmesh.load.measure.distributions import number, pair
from evalmesh.load.measure.intervals import LEAST_EFFECTIVE, Interval
from evalmesh.load.measure.measured import Measured
from evalmesh.load.measure.table import Flags, Floats, Rows, tpot_s
from evalmesh.load.objective.slo import LATENCIES, SHARES, Decision, probability


@dataclass(frozen=True, slots=True)
class Judged:
    """One term, held against a level."""

    term: SloTerm
    source: str
    value: float | None
    interval: Interval | None
    met: bool | None
    decision: Decision


def judge(measured: Measured) -> list[Judged]:
    """Each term of the level's objective.

    Open loop: a latency from send would hide what a late send costs, so `ttft` and `e2e` are taken from the due time.
    """
    return [_judge(term, measured) for term in measured.inputs.slo]


def _judge(term: SloTerm, measured: Measured) -> Judged:
    if term.metric not in LATENCIES:
        return _judge_rate(term, measured)
    metric = judged_metric(term.metric, open_loop=measured.open_loop)
    of = measured.distributions[metric]
    source = f"{metric}_ms.{term.statistic}"
    if not of.n:
        return Judged(term, source, None, None, None, "undecided")
    value, interval = of.value(term.statistic), of.interval(term.statistic)
    if term.statistic == "mean":
        return Judged(term, source, value, interval, value <= term.limit, _below(interval, term.limit))
    # "At most 1 % lie above the limit" says the same as "p99 is at most the limit", and can be decided at the limit
    # itself, even where the percentile has no interval yet.
    allowed = 1 - probability(term.statistic)
    _, of_share = of.share_above(term.limit)
    decision = _below(of_share, allowed) if of.n / of.inflation() >= LEAST_EFFECTIVE else "undecided"
    return Judged(term, source, value, interval, value <= term.limit, decision)


def judged_metric(metric: str, *, open_loop: bool) -> str:
    """The distribution a latency term is held against."""
    return f"{metric}_due" if open_loop and metric in {"ttft", "e2e"} else metric


def _judge_rate(term: SloTerm, measured: Measured) -> Judged:
    rate = measured.rates[term.metric]
    if rate.value is None:
        return Judged(term, term.metric, None, None, None, "undecided")
    if term.metric in SHARES:
        met = rate.value <= term.limit
        return Judged(term, term.metric, rate.value, rate.interval, met, _below(rate.interval, term.limit))
    negated = None if rate.interval is None else (-rate.interval[1], -rate.interval[0])
    return Judged(term, term.metric, rate.value, rate.interval, rate.value >= term.limit, _below(negated, -term.limit))


def _below(interval: Interval | None, limit: float) -> Decision:
    if interval is None or interval[0] <= limit < interval[1]:
        return "undecided"
    return "pass" if interval[1] <= limit else "fail"


def slo_document(judged: list[Judged]) -> dict[str, Any] | None:
    """`slo` of a level's document."""
    if not judged:
        return None
    decisions = [one.decision for one in judged]
    whole = "fail" if "fail" in decisions else "undecided" if "undecided" in decisions else "pass"
    terms = [
        {
            "metric": one.term.metric,
            "statistic": one.term.statistic,
            "limit": one.term.limit,
            "unit": _unit(one.term.metric),
            "source": one.source,
            "value": None if one.value is None else number(one.value),
            "interval": pair(one.interval),
            "met": one.met,
            "decision": one.decision,
        }
        for one in judged
    ]
    return {"met": all(one.met is True for one in judged), "decision": whole, "terms": terms}


def _unit(metric: str) -> str:
    if metric in LATENCIES:
        return "ms"
    return "" if metric in SHARES else "1/s"


def is_good(records: Rows, bounds: dict[str, float], *, open_loop: bool) -> Flags:
    """Which successes keep every bound. What a request does not have (gaps, with one token) cannot break a bound."""
    good = np.ones(len(records), bool)
    for name, limit in bounds.items():
        values = _values(records, name, open_loop=open_loop) * 1000
        good &= ~(values > limit)
    return good


def _values(records: Rows, name: str, *, open_loop: bool) -> Floats:
    begin = records["due_s"] if open_loop else records["send_s"]
    values: Floats
    match name:
        case "ttft":
            values = records["first_s"] - begin
        case "e2e":
            values = records["last_s"] - begin
        case "tpot":
            values = tpot_s(records)
        case _:
            values = records[f"{name}_s"].astype(np.float64)
    return values
