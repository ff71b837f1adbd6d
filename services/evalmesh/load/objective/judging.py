"""Whether a level meets its objective, and which of its requests do.

A percentile is held against its limit by counting: "p99 is at most 500 ms" says the same as "at most 1 % lie beyond
500 ms", which the exact binomial test decides long before the percentile itself has an interval: of 299 independent
requests none beyond is enough (rule of three), and so are a few of which all are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evalmesh.domain.load_test import SloTerm
from evalmesh.load.measure.distributions import number, pair
from evalmesh.load.measure.intervals import Beyond, Interval
from evalmesh.load.measure.measured import Measured
from evalmesh.load.measure.table import Flags, Floats, Rows, tpot_s
from evalmesh.load.objective.slo import LATENCIES, MOST_ERRORS, SHARES, Decision, probability


@dataclass(frozen=True, slots=True)
class Judged:
    """One term, held against a level."""

    term: SloTerm
    source: str
    value: float | None
    interval: Interval | None
    decision: Decision
    allowed: float | None = None
    """Share of values that may be beyond the limit: of percentiles and shares."""
    beyond: Beyond | None = None
    implied: bool = False
    """Nobody asked for it; told where it decides."""

    @property
    def within(self) -> bool:
        """Whether the figure alone keeps the limit."""
        if self.value is None:
            return False
        lower_bound = self.term.metric not in LATENCIES and self.term.metric not in SHARES
        return self.value >= self.term.limit if lower_bound else self.value <= self.term.limit


def judge(measured: Measured) -> list[Judged]:
    """Each term of the level's objective.

    Open loop: a latency from send would hide what a late send costs, so `ttft` and `e2e` are taken from the due time.
    Latencies are those of successes, so an objective that says nothing of failures allows `MOST_ERRORS` of them.
    """
    terms = measured.inputs.slo
    judged = [_judge(term, measured) for term in terms]
    if terms and not any(term.metric == "error_rate" for term in terms):
        implied = replace(_judge(SloTerm("error_rate", "", MOST_ERRORS), measured), implied=True)
        # Few failures hinder nothing; that there are as few in the long run is not asked.
        judged += [] if implied.within or implied.value is None else [implied]
    return judged


def _judge(term: SloTerm, measured: Measured) -> Judged:
    if term.metric not in LATENCIES:
        return _judge_rate(term, measured)
    metric = judged_metric(term.metric, open_loop=measured.open_loop)
    of = measured.distributions[metric]
    source = f"{metric}_ms.{term.statistic}"
    if not of.n:
        return Judged(term, source, None, None, "undecided")
    value, interval = of.value(term.statistic), of.interval(term.statistic)
    drift = max(0.0, measured.window.drift or 0.0)
    if term.statistic == "mean":
        found = Judged(term, source, value, interval, _below(interval, term.limit))
    else:
        allowed = round(1 - probability(term.statistic), 9)
        beyond = of.beyond(term.limit, growing=drift > 0)
        found = Judged(term, source, value, interval, beyond.against(allowed), allowed, beyond)
    return replace(found, decision=_while_growing(found, measured, drift)) if drift else found


def _while_growing(found: Judged, measured: Measured, drift: float) -> Decision:
    """A longer run would only have been worse: beyond the limit it is missed, and what is near it has no end yet.

    With a schedule a queue grows without bounds; in closed loop never beyond the requests in flight, so that what is
    within the limit by more than it grew stays so.
    """
    if not found.within:
        return "missed"
    bounded = not measured.open_loop and (found.value or 0.0) * (1 + drift) <= found.term.limit
    return found.decision if bounded else "undecided"


def judged_metric(metric: str, *, open_loop: bool) -> str:
    """The distribution a latency term is held against."""
    return f"{metric}_due" if open_loop and metric in {"ttft", "e2e"} else metric


def _judge_rate(term: SloTerm, measured: Measured) -> Judged:
    rate = measured.rates[term.metric]
    if rate.value is None:
        return Judged(term, term.metric, None, None, "undecided")
    if rate.beyond is not None:
        decision = rate.beyond.against(term.limit)
        if (
            decision == "undecided"
            and replace(rate.beyond, effective=float(rate.beyond.n)).against(term.limit) == "missed"
        ):
            # Failures of one outage are no few failures.
            decision = "missed"
        return Judged(term, term.metric, rate.value, rate.interval, decision, term.limit, rate.beyond)
    negated = None if rate.interval is None else (-rate.interval[1], -rate.interval[0])
    return Judged(term, term.metric, rate.value, rate.interval, _below(negated, -term.limit))


def _below(interval: Interval | None, limit: float) -> Decision:
    if interval is None or interval[0] <= limit < interval[1]:
        return "undecided"
    return "met" if interval[1] <= limit else "missed"


def slo_document(judged: Sequence[Judged]) -> dict[str, Any] | None:
    """`slo` of a level's document."""
    if not judged:
        return None
    whole = of_all([one.decision for one in judged])
    return {"met": _flag(whole), "decision": whole, "terms": [_term(one) for one in judged]}


def of_all(decisions: Sequence[Decision]) -> Decision:
    """One that was missed decides, and then one that is open."""
    return "missed" if "missed" in decisions else "undecided" if "undecided" in decisions else "met"


def _flag(decision: Decision) -> bool | None:
    return None if decision == "undecided" else decision == "met"


def _term(one: Judged) -> dict[str, Any]:
    beyond = one.beyond
    return {
        "metric": one.term.metric,
        "statistic": one.term.statistic,
        "limit": one.term.limit,
        "unit": _unit(one.term.metric),
        "source": one.source,
        "value": None if one.value is None else number(one.value),
        "interval": pair(one.interval),
        "beyond": None
        if beyond is None
        else {"count": beyond.count, "n": beyond.n, "effective": number(beyond.effective), "allowed": one.allowed},
        "implied": one.implied,
        "met": _flag(one.decision),
        "decision": one.decision,
    }


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
