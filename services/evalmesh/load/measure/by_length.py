"""One row per prompt length, where a level has a few different ones: what a speed benchmark is run for."""

from typing import Any

import numpy as np

from evalmesh.load.measure.distributions import exact, number, summary, token_summary
from evalmesh.load.measure.measured import Measured
from evalmesh.load.measure.table import Floats, Rows, is_ok, tpot_s

MOST_LENGTHS = 12
_LEAST_SPREAD = 2.0
"""The longest is at least this many times the shortest: rows that differ by chance alone are noise."""
_TO_MS = 1000.0


def lengths_document(measured: Measured) -> list[dict[str, Any]]:
    """`lengths` of the level's document, shortest first; empty where rows per length would tell a reader nothing.

    That is: unknown lengths, one length or more than twelve, lengths that hardly differ, or more than one of them (the
    one that a duration cut off) that was sent only once. Conversations are told by turn instead.
    """
    due = measured.due
    found, counts = np.unique(due["prepared_tokens"], return_counts=True)
    if not 2 <= len(found) <= MOST_LENGTHS or not found[0] or due["turn"].any():
        return []
    if found[-1] < _LEAST_SPREAD * found[0] or (counts < 2).sum() > 1:
        return []
    return [_row(int(tokens), due.where(due["prepared_tokens"] == tokens)) for tokens in found]


def _row(tokens: int, due: Rows) -> dict[str, Any]:
    ok = due.where(is_ok(due))
    ttft_s, e2e_s = ok["first_s"] - ok["send_s"], ok["last_s"] - ok["send_s"]
    received, sent = ok["output_tokens"].astype(np.float64), ok["input_tokens"].astype(np.float64)
    # Where several tokens came in one piece the first one's time has the time of all others in it.
    apart = (ok["chunks"] > 1) | (received <= 1)
    return {
        "prepared_tokens": tokens,
        "requests": len(due),
        "ok": len(ok),
        "input_tokens": token_summary(ok, "input_tokens"),
        "output_tokens": token_summary(ok, "output_tokens"),
        "ttft_ms": summary(exact(ttft_s * _TO_MS)),
        "tpot_ms": summary(exact(tpot_s(ok) * _TO_MS)),
        "e2e_ms": summary(exact(e2e_s * _TO_MS)),
        "output_token_rate_per_request": _mean_rate(np.where(received > 0, received, np.nan), e2e_s),
        "prefill_token_rate": _mean_rate(np.where(apart & (sent > 0), sent, np.nan), ttft_s),
    }


def _mean_rate(tokens: Floats, seconds: Floats) -> float | None:
    """Mean over requests of tokens per second; NaN tokens are left out."""
    known = ~np.isnan(tokens) & (seconds > 0)
    return number(float((tokens[known] / seconds[known]).mean())) if known.any() else None
