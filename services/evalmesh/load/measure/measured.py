"""One level, cut to its window: the distributions and rates that its document, its objective and its checks share."""

from dataclasses import dataclass

import numpy as np

from evalmesh.load.measure.distributions import Distribution, ExactDistribution, exact
from evalmesh.load.measure.gaps import Clusters, GapDistribution, Gaps, gaps_of
from evalmesh.load.measure.inputs import SKETCHES, LevelInputs
from evalmesh.load.measure.rates import Rate, rates_of
from evalmesh.load.measure.records import Flag
from evalmesh.load.measure.table import Floats, Rows, is_ok, is_warmup, tpot_s, was_sent
from evalmesh.load.measure.window import Window, find_window

MOST_STEPS = 600
"""Longer levels have timelines of coarser steps."""
_TO_MS = 1000.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured in the window."""

    inputs: LevelInputs
    window: Window
    records: Rows
    """All of the level, warm-up included, in order of time."""
    figures: Rows
    """All but warm-up."""
    due: Rows
    """Those that were due in the window and sent."""
    ok: Rows
    """Those of them that succeeded."""
    distributions: dict[str, Distribution]
    """By metric, in milliseconds: `ttft`, `ttft_due`, `itl`, ..."""
    rates: dict[str, Rate]
    """`request_rate`, `input_token_rate`, `output_token_rate`, `total_token_rate`, `offered_rate`, `error_rate`."""
    gaps: dict[str, Gaps]
    """Histograms over the whole level, by metric; rows are steps."""
    steps: tuple[int, int]
    """Seconds of a step of the timeline, and how many there are."""

    @property
    def open_loop(self) -> bool:
        return self.inputs.open_loop


def measure(inputs: LevelInputs) -> Measured:
    """Finds the window and computes what is in it."""
    records = Rows(inputs.records).in_order_of("due_s")
    window = find_window(inputs, records)
    figures = records.where(~is_warmup(records))
    due = figures.where(was_sent(figures) & window.due(figures))
    ok = due.where(is_ok(due))
    step, rows = _steps(inputs, records)
    gaps = {metric: gaps_of(inputs.seconds, metric, rows, step) for metric in SKETCHES}
    distributions: dict[str, Distribution] = {name: exact(values) for name, values in _latencies(inputs, ok).items()}
    for metric, all_gaps in gaps.items():
        within = _within(all_gaps, window, step, figures.where(was_sent(figures)))
        distributions[metric] = GapDistribution(within, _clusters(metric, ok))
    distributions["queue"] = exact((due["send_s"] - due["due_s"]) * _TO_MS)
    distributions["send_lag"] = _send_lags(inputs, records, window)
    distributions["connect"] = exact(due["connect_s"][(due["flags"] & Flag.NEW_CONNECTION) != 0] * _TO_MS)
    rates = rates_of(inputs, window, figures, due)
    return Measured(inputs, window, records, figures, due, ok, distributions, rates, gaps, (step, rows))


def _steps(inputs: LevelInputs, records: Rows) -> tuple[int, int]:
    """Seconds of a step of the timeline, and how many there are."""
    last = max((second.second for second in inputs.seconds), default=-1)
    if len(records):
        ends = np.fmax(records["end_s"], records["due_s"])
        last = max(last, int(np.nanmax(ends)) if not np.isnan(ends).all() else 0)
    step = -(-(last + 1) // MOST_STEPS) or 1
    return step, -(-(last + 1) // step)


def _latencies(inputs: LevelInputs, ok: Rows) -> dict[str, Floats]:
    send, first, last = ok["send_s"], ok["first_s"], ok["last_s"]
    tokens = ok["output_tokens"].astype(np.float64)
    found = {
        "ttft": first - send,
        "tpot": tpot_s(ok),
        "e2e": last - send,
        "first_byte": ok["first_byte_s"].astype(np.float64),
    }
    if inputs.open_loop:
        due = ok["due_s"]
        found["ttft_due"] = first - due
        found["tpot_due"] = (last - due) / np.where(tokens > 0, tokens, np.nan)
        found["e2e_due"] = last - due
    return {name: values * _TO_MS for name, values in found.items()}


def _clusters(metric: str, ok: Rows) -> Clusters:
    """What each success contributed to the gaps of a metric."""
    sizes = np.maximum(ok["chunks" if metric == "chunk_gap" else "output_tokens"].astype(np.float64) - 1, 0)
    several = (sizes > 0) & (ok["chunks"] > 1) & ~np.isnan(ok["last_s"] - ok["first_s"])
    return Clusters(sizes[several], (ok["last_s"] - ok["first_s"])[several] * _TO_MS)


def _within(gaps: Gaps, window: Window, step: int, sent: Rows) -> Gaps:
    """All gaps where all requests were due in the window, else those of the seconds of which at least half lies in it.

    Gaps are told when their request ends. Warm-up requests tell none, so in a window of a few latencies the seconds
    alone would hold too many short requests: long ones that began in the warm-up are missing at its start, and long
    ones that began in the window end after it.
    """
    if window.rule == "whole" or bool(window.due(sent).all()):
        return gaps
    first, last = round(window.start_s / step), round(window.end_s / step)
    return gaps.rows(first, last) if last > first else gaps


def _send_lags(inputs: LevelInputs, records: Rows, window: Window) -> ExactDistribution:
    """Send less the moment it could have been sent: when it was due and, under a cap, a slot was free.

    A seat with a cap of c sends in order, so its k-th send (from 0) waits for its (k - c + 1)-th answer at most. In
    closed loop requests are due when their slot is free, and the first send of each slot, all at once, is no exact.
    """
    sent = records.where(was_sent(records))
    caps = {health.seat: health.cap for health in inputs.generators}
    lags = []
    for seat in np.unique(sent["generator"]):
        own = sent.where(sent["generator"] == seat)
        cap = caps.get(int(seat), inputs.level.parallel)
        if not inputs.open_loop:
            lag = own["send_s"] - own["due_s"]
            keep = window.due(own) & (own["due_s"] > _burst_end(own, cap))
        else:
            own = own.in_order_of("send_s")
            lag = own["send_s"] - _could_send(own, cap)
            keep = window.due(own)
        lags.append(lag[keep & ~is_warmup(own)])
    return exact(np.concatenate(lags) * _TO_MS if lags else np.zeros(0))


def _burst_end(own: Rows, cap: int) -> float:
    return float(np.sort(own["due_s"])[min(cap, len(own)) - 1]) if cap > 0 else -1.0


def _could_send(own: Rows, cap: int) -> Floats:
    """`own` in order of sending."""
    could: Floats = own["due_s"].copy()
    if 0 < cap < len(own):
        free = np.sort(own["end_s"])[: len(own) - cap]
        # More in flight than the cap would allow means another cap (stages): then the due time stands.
        could[cap:] = np.where(free <= own["send_s"][cap:], np.maximum(could[cap:], free), could[cap:])
    return could
