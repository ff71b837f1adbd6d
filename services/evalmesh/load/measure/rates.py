"""What happens per second: requests, tokens, failures, and how sure that is."""

from dataclasses import dataclass

import numpy as np

from evalmesh.load.measure.inputs import LevelInputs
from evalmesh.load.measure.intervals import (
    BATCHES,
    Beyond,
    Interval,
    beyond_of_share,
    share_interval,
    spread_of_batches,
)
from evalmesh.load.measure.records import Outcome
from evalmesh.load.measure.table import Floats, Rows, is_ok
from evalmesh.load.measure.window import Window


@dataclass(frozen=True, slots=True)
class Rate:
    """Something per second, or a share."""

    value: float | None
    interval: Interval | None
    beyond: Beyond | None = None
    """Of a share of failures: these."""


def rates_of(inputs: LevelInputs, window: Window, figures: Rows, due: Rows) -> dict[str, Rate]:
    """By name; of `figures`, all requests but warm-up, of which `due` were due in the window and sent."""
    good = figures.where(is_ok(figures))
    credit = window.credit(good)
    prompts, outputs = good["input_tokens"].astype(np.float64), good["output_tokens"].astype(np.float64)
    counted = credit > 0
    known_in = bool(counted.any()) and bool((prompts[counted] > 0).all())
    known_out = bool((outputs > 0).any())
    # Closed loop counts tokens where they arrived, open loop with the answers that were completed.
    tokens_in = float((prompts * credit).sum())
    tokens_out = _arrived(good, window) if window.rule == "closed_loop" else float((outputs * credit).sum())
    told = due.where(due["outcome"] != Outcome.CANCELLED)
    failed = ~is_ok(told)
    return {
        "request_rate": rate(float(credit.sum()), credit, good, window),
        "input_token_rate": rate(tokens_in if known_in else None, prompts * credit, good, window),
        "output_token_rate": rate(tokens_out if known_out else None, outputs * credit, good, window),
        "total_token_rate": rate(
            tokens_in + tokens_out if known_in else None, (prompts + outputs) * credit, good, window
        ),
        "offered_rate": Rate(_offered(figures, window) if inputs.open_loop else None, None),
        "error_rate": Rate(
            float(failed.mean()) if len(told) else None, share_interval(failed), beyond_of_share(failed)
        ),
    }


def _offered(figures: Rows, window: Window) -> float | None:
    """Requests due per second of the window. A whole level's window ends with its last answer, its schedule earlier."""
    due_s = figures["due_s"][window.due(figures)]
    if window.rule == "whole" and len(due_s) > 1:
        span_s = float(due_s.max() - due_s.min()) * len(due_s) / (len(due_s) - 1)
    else:
        span_s = window.duration_s
    return len(due_s) / span_s if span_s > 0 else None


def rate(amount: float | None, weights: Floats, good: Rows, window: Window) -> Rate:
    """`amount` per second; its interval from what was completed in equal parts of the span."""
    if amount is None or window.rate_span_s <= 0:
        return Rate(None, None)
    value = amount / window.rate_span_s
    part_s = window.rate_span_s / BATCHES
    # Part 0 and the last one are what lies outside.
    part = np.clip(np.ceil((good["end_s"] - window.rate_start_s) / part_s), 0, BATCHES + 1).astype(np.int64)
    inside = int(((part > 0) & (part <= BATCHES)).sum())
    if window.rule == "whole" or inside < BATCHES:
        return Rate(value, None)
    sums = np.bincount(part, weights, minlength=BATCHES + 2)[1:-1]
    found = spread_of_batches(sums / part_s)
    return Rate(value, None if found is None else found.around(value))


def _arrived(good: Rows, window: Window) -> float:
    """Output tokens of successes that arrived in the span: one at `first_s`, the others evenly up to `last_s`."""
    first, last = good["first_s"], good["last_s"]
    tokens = good["output_tokens"].astype(np.float64)
    long_s = np.where(last > first, last - first, np.nan)
    inside = np.minimum(last, window.rate_end_s) - np.maximum(first, window.rate_start_s)
    # An answer in one piece has all its tokens at once.
    share = np.where(np.isnan(long_s), window.holds(last), np.clip(np.nan_to_num(inside / long_s), 0, 1))
    later = np.maximum(tokens - 1, 0) * share
    return float(later.sum() + np.minimum(tokens, 1)[window.holds(first)].sum())
