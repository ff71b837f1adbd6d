"""Goodput: requests that succeeded and kept every bound of the objective."""

from typing import Any

import numpy as np

from evalmesh.load.intervals import BATCHES, share_interval, spread_of_batches
from evalmesh.load.measured import Measured
from evalmesh.load.records import Outcome
from evalmesh.load.samples import number, pair
from evalmesh.load.slo import is_good, per_request
from evalmesh.load.table import is_ok

_WORDS = {
    "ttft": "TTFT at most {limit:g} ms",
    "tpot": "TPOT at most {limit:g} ms",
    "e2e": "E2E at most {limit:g} ms",
    "itl_p99": "the 99th percentile of its own token gaps at most {limit:g} ms",
    "itl_mean": "the mean of its own token gaps at most {limit:g} ms",
}


def goodput_document(measured: Measured) -> dict[str, Any] | None:
    """`goodput` of a level's document; `None` without an objective.

    The share is of all requests that were due in the window and were not given up by the client itself. The rate counts
    those that completed in it.
    """
    if not measured.inputs.slo:
        return None
    bounds = per_request(measured.inputs.slo)
    ended = measured.due.where(measured.due["outcome"] != Outcome.CANCELLED)
    good = is_ok(ended) & is_good(ended, bounds, open_loop=measured.open_loop)
    share = float(good.mean()) if len(ended) else None
    done = measured.figures.where(is_ok(measured.figures))
    done = done.where(measured.window.completed(done))
    kept = done.where(is_good(done, bounds, open_loop=measured.open_loop))
    window = measured.window
    rate = len(kept) / window.duration_s if window.duration_s > 0 else None
    interval = None
    if rate is not None and window.rule != "whole" and len(kept) >= BATCHES:
        edges = np.linspace(window.start_s, window.end_s, BATCHES + 1) + window.shift_s
        parts = np.histogram(kept["end_s"], edges)[0] / (window.duration_s / BATCHES)
        spread = spread_of_batches(parts.astype(np.float64))
        interval = None if spread is None else spread.around(rate)
    told = [_WORDS[name].format(limit=limit) for name, limit in bounds.items()]
    return {
        "rate": None if rate is None else number(rate),
        "share": None if share is None else number(share),
        "good": int(good.sum()),
        "requests": len(ended),
        "ci95": {"rate": pair(interval), "share": pair(share_interval(good))},
        "terms": ["succeeded", *(_from_due(words) if measured.open_loop else words for words in told)],
    }


def _from_due(words: str) -> str:
    return f"{words} from the scheduled time" if words.startswith(("TTFT", "E2E")) else words
