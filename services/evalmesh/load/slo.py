"""Service level objectives: how they are written, whether a level meets one, and which requests do."""

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import SloTerm
from evalmesh.load.intervals import LEAST_EFFECTIVE, Interval
from evalmesh.load.measured import Measured
from evalmesh.load.samples import number, pair, probability
from evalmesh.load.table import Flags, Floats, Rows, tpot_s

Decision = Literal["pass", "fail", "undecided"]
LATENCIES = ("ttft", "itl", "tpot", "e2e")
SHARES = ("error_rate",)
RATES = ("request_rate", "output_token_rate")
TAIL_FROM = 0.9
"""A term of a percentile from here on holds a request to its own 99th percentile of gaps, below to their mean."""
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_AMOUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([a-zµ%]*)")
_EXAMPLE = "an objective looks like `ttft:p99:500ms,itl:p99:50ms,e2e:mean:2s,error_rate:0.01,request_rate:10`"


def parse_slo(text: str) -> tuple[SloTerm, ...]:
    """Reads an objective as it is written on the command line. Raises `InvalidInput`, naming the term that is wrong."""
    terms = tuple(_term(part.strip()) for part in text.split(",") if part.strip())
    if not terms:
        raise _wrong(text, "It is empty")
    seen: set[tuple[str, str]] = set()
    for term in terms:
        if (term.metric, term.statistic) in seen:
            raise _wrong(text, f"It bounds `{term.metric}` {term.statistic} twice".replace("  ", " "))
        seen.add((term.metric, term.statistic))
    return terms


def check_slo(terms: tuple[SloTerm, ...]) -> None:
    """Raises `InvalidInput` for terms, made elsewhere, that mean nothing."""
    for term in terms:
        _check(term, term_text(term))


def term_text(term: SloTerm) -> str:
    """The term as it is written."""
    if term.metric in LATENCIES:
        return f"{term.metric}:{term.statistic}:{term.limit:g}ms"
    return f"{term.metric}:{term.limit:g}"


def _wrong(text: str, why: str) -> InvalidInput:
    return InvalidInput(f"slo: {text!r} cannot be used. {why}; {_EXAMPLE}.", {"field": "slo"})


def _term(text: str) -> SloTerm:
    metric, *rest = (part.strip() for part in text.split(":"))
    if metric in LATENCIES:
        if len(rest) != 2:
            raise _wrong(text, f"`{metric}` needs a statistic and a limit, as in `{metric}:p99:500ms`")
        term = SloTerm(metric, rest[0], _limit(text, rest[1], latency=True))
    elif metric in (*SHARES, *RATES):
        if len(rest) != 1:
            raise _wrong(text, f"`{metric}` needs a limit and nothing else, as in `{metric}:0.5`")
        term = SloTerm(metric, "", _limit(text, rest[0], latency=False))
    else:
        raise _wrong(text, f"There is no metric {metric!r}: use one of {', '.join((*LATENCIES, *SHARES, *RATES))}")
    _check(term, text)
    return term


def _limit(text: str, written: str, *, latency: bool) -> float:
    match = _AMOUNT.fullmatch(written)
    if not match:
        raise _wrong(text, f"{written!r} is no limit")
    amount, unit = float(match[1]), match[2].replace("µ", "u")
    if latency:
        if unit not in _UNITS_MS:
            raise _wrong(text, f"{written!r} needs a unit: `us`, `ms` or `s`")
        return amount * _UNITS_MS[unit]
    if unit == "%" and text.startswith(SHARES):
        return amount / 100
    if unit:
        raise _wrong(text, f"{written!r} has the unit {unit!r} where a plain number is expected")
    return amount


def _check(term: SloTerm, text: str) -> None:
    if term.metric in LATENCIES:
        try:
            known = term.statistic == "mean" or 0 < probability(term.statistic) < 1
        except ValueError:
            known = False
        if not known:
            raise _wrong(text, f"{term.statistic!r} is no statistic: use `mean`, or a percentile such as `p99`")
    elif term.metric not in (*SHARES, *RATES):
        raise _wrong(text, f"There is no metric {term.metric!r}")
    if not 0 <= term.limit < float("inf") or (term.metric not in SHARES and term.limit == 0):
        raise _wrong(text, "The limit must be a positive number")
    if term.metric in SHARES and term.limit > 1:
        raise _wrong(text, "A share is at most 1; one in a hundred is `0.01` or `1%`")


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


def per_request(terms: tuple[SloTerm, ...]) -> dict[str, float]:
    """The bounds one request is held to, by metric (`itl_mean` and `itl_p99` apart), in ms; the strictest counts."""
    bounds: dict[str, float] = {}
    for term in terms:
        if term.metric not in LATENCIES:
            continue
        name = term.metric
        if name == "itl":
            tail = term.statistic != "mean" and probability(term.statistic) >= TAIL_FROM
            name = "itl_p99" if tail else "itl_mean"
        bounds[name] = min(term.limit, bounds.get(name, term.limit))
    return bounds


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
