"""Service level objectives: how they are written, and what they mean for one request.

Without numpy: a command line reads them before anything else is loaded.
"""

import re
from typing import Literal

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import SloTerm

Decision = Literal["met", "missed", "undecided"]
"""What became of an objective: the same word in documents, tables, pages and messages."""
LATENCIES = ("ttft", "itl", "tpot", "e2e")
SHARES = ("error_rate",)
RATES = ("request_rate", "output_token_rate")
METRICS = (*LATENCIES, *SHARES, *RATES)
TAIL_FROM = 0.9
"""A term of a percentile from here on holds a request to its own 99th percentile of gaps, below to their mean."""
MOST_ERRORS = 0.01
"""Share of requests that may fail where the objective does not bound failures itself."""
_HIGHEST = 1e9
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


def flaw_of(term: SloTerm) -> tuple[str, str] | None:
    """The field of a term that means nothing, and what to give instead; `None` for a term that can be judged."""
    if term.metric not in METRICS:
        return "metric", f"use one of {', '.join(METRICS)}"
    if term.metric not in LATENCIES and term.statistic:
        return "statistic", f"`{term.metric}` is one number; leave the statistic empty"
    if term.metric in LATENCIES and not _is_statistic(term.statistic):
        return "statistic", "use `mean`, or a percentile from `p50` to `p99.9`"
    if not 0 <= term.limit <= _HIGHEST or (term.metric not in SHARES and term.limit == 0):
        return "limit", "the limit must be a positive number"
    if term.metric in SHARES and term.limit > 1:
        return "limit", "a share is at most 1; one in a hundred is `0.01` or `1%`"
    return None


def _is_statistic(text: str) -> bool:
    try:
        return text == "mean" or 50 <= 100 * probability(text) <= 99.9 + 1e-9
    except ValueError:
        return False


def _wrong(text: str, why: str) -> InvalidInput:
    return InvalidInput(f"slo: {text!r} cannot be used. {why}; {_EXAMPLE}.", {"field": "slo"})


def _term(text: str) -> SloTerm:
    metric, *rest = (part.strip() for part in text.split(":"))
    if metric in LATENCIES:
        if len(rest) != 2:
            raise _wrong(text, f"`{metric}` needs a statistic and a limit, as in `{metric}:p99:500ms`")
        term = SloTerm(metric, rest[0], _limit(text, rest[1], latency=True))
    elif metric in METRICS:
        if len(rest) != 1:
            raise _wrong(text, f"`{metric}` needs a limit and nothing else, as in `{metric}:0.5`")
        term = SloTerm(metric, "", _limit(text, rest[0], latency=False))
    else:
        raise _wrong(text, f"There is no metric {metric!r}: use one of {', '.join(METRICS)}")
    flaw = flaw_of(term)
    if flaw is not None:
        field, way_out = flaw
        raise _wrong(text, f"{getattr(term, field)!r} is no {field}: {way_out}")
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


def probability(statistic: str) -> float:
    """0.999 for `p99.9`. Raises `ValueError` for what is no percentile."""
    if not statistic.startswith("p"):
        raise ValueError(statistic)
    q = float(statistic[1:]) / 100
    if not 0 < q < 1:
        raise ValueError(statistic)
    return q
