"""Goodput: requests that succeeded and kept every bound of the objective."""

from typing import Any

from evalmesh.load.measure.distributions import number, pair
from evalmesh.load.measure.intervals import share_interval
from evalmesh.load.measure.measured import Measured
from evalmesh.load.measure.rates import rate
from evalmesh.load.measure.records import Outcome
from evalmesh.load.measure.table import is_ok
from evalmesh.load.objective.judging import is_good
from evalmesh.load.objective.slo import per_request

_WORDS = {
    "ttft": "TTFT at most {limit:g} ms",
    "tpot": "TPOT at most {limit:g} ms",
    "e2e": "E2E at most {limit:g} ms",
    "itl_p99": "the 99th percentile of its own token gaps at most {limit:g} ms",
    "itl_mean": "the mean of its own token gaps at most {limit:g} ms",
}


def goodput_document(measured: Measured) -> dict[str, Any] | None:
    """`goodput` of a level's document; `None` without an objective.

    The share is of all requests that were due in the window and were not given up by the client itself. The rate is
    counted like that of all requests.
    """
    if not measured.inputs.slo:
        return None
    bounds = per_request(measured.inputs.slo)
    ended = measured.due.where(measured.due["outcome"] != Outcome.CANCELLED)
    good = is_ok(ended) & is_good(ended, bounds, open_loop=measured.open_loop)
    share = float(good.mean()) if len(ended) else None
    every = measured.figures.where(is_ok(measured.figures))
    kept = every.where(is_good(every, bounds, open_loop=measured.open_loop))
    credit = measured.window.credit(kept)
    kept_rate = rate(float(credit.sum()), credit, kept, measured.window)
    told = [_WORDS[name].format(limit=limit) for name, limit in bounds.items()]
    return {
        "rate": None if kept_rate.value is None else number(kept_rate.value),
        "share": None if share is None else number(share),
        "good": int(good.sum()),
        "requests": len(ended),
        "ci95": {"rate": pair(kept_rate.interval), "share": pair(share_interval(good))},
        "terms": ["succeeded", *(_from_due(words) if measured.open_loop else words for words in told)],
    }


def _from_due(words: str) -> str:
    return f"{words} from the scheduled time" if words.startswith(("TTFT", "E2E")) else words
