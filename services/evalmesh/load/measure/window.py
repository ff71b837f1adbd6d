"""The part of a level that its figures describe, and whether a steady state was reached in it.

Closed loop: from when all slots are in use to the last dispatch. Requests that were due in it count with their whole
latency; rates are counted within it, from one median latency after its start. So neither the ramp-up nor the emptying
of the slots at the end, when the server has less and less to do, is in any figure.

Open loop: the span of the schedule. Rates are counted in the same span moved by the median latency: then the server is
as full at its end as at its beginning, and they are neither too low by the answers still under way nor too high by
the drain.

Levels too small for that are described whole. Definitions and reasons: docs/load-metrics.md.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from evalmesh.load.measure.inputs import LevelInputs
from evalmesh.load.measure.steady import Steadiness, steadiness
from evalmesh.load.measure.table import Flags, Floats, Rows, is_ok, is_warmup, was_sent

Rule = Literal["whole", "closed_loop", "open_loop", "stages"]
LEAST_COMPLETIONS = 30
LEAST_GENERATIONS = 2.0
"""A closed loop's window must be this many median latencies long."""


@dataclass(frozen=True, slots=True)
class Window:
    """A span of a level, in seconds since its start, both ends included."""

    start_s: float
    end_s: float
    rate_start_s: float
    """Rates are counted from here to `rate_end_s`."""
    rate_end_s: float
    rule: Rule
    steady: bool | None
    note: str
    drift: float | None = None
    """Significant change of latency over the window, as a share of it; the largest of TTFT's and E2E's."""

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    def due(self, records: Rows) -> Flags:
        """Which requests were due in it."""
        due: Flags = (records["due_s"] >= self.start_s) & (records["due_s"] <= self.end_s)
        return due

    @property
    def rate_span_s(self) -> float:
        return self.rate_end_s - self.rate_start_s

    def holds(self, times_s: Floats) -> Flags:
        """Which moments are in the span that rates are counted over."""
        held: Flags = (times_s > self.rate_start_s) & (times_s <= self.rate_end_s)
        return held

    def credit(self, records: Rows) -> Floats:
        """How much of each request was done in the span that rates are counted over.

        Closed loop: the share of its life that lies in it, so that it matters little where a wave of answers is cut.
        Open loop: 1 for those that ended in it; requests that wait in a growing queue are no throughput yet.
        """
        begun, ended = records["send_s"], records["end_s"]
        if self.rule != "closed_loop":
            return self.holds(ended).astype(np.float64)
        inside = np.minimum(ended, self.rate_end_s) - np.maximum(begun, self.rate_start_s)
        credit: Floats = np.clip(inside / np.maximum(ended - begun, 1e-9), 0.0, 1.0)
        return credit


def find_window(inputs: LevelInputs, records: Rows) -> Window:
    """The window of a level; `records` are all of it, in order of time, warm-up included."""
    figures = records.where(~is_warmup(records))
    sent = figures.where(was_sent(figures))
    if not len(sent):
        return Window(0.0, 0.0, 0.0, 0.0, "whole", None, "Nothing was sent.")
    if inputs.level.stages:
        end = min(sum(stage.duration_s for stage in inputs.level.stages), _last(sent))
        note = "The load changes within the level: figures are over all its stages."
        return Window(0.0, end, 0.0, end, "stages", None, note)
    return _open(inputs, figures, sent) if inputs.open_loop else _closed(inputs, records, sent)


def _last(sent: Rows) -> float:
    return float(np.nanmax(np.fmax(sent["end_s"], sent["send_s"])))


def _whole(sent: Rows, why: str) -> Window:
    start = float(sent["due_s"].min())
    end = max(start, _last(sent))
    return Window(start, end, math.nextafter(start, -1.0), end, "whole", None, why)


def _median_latency(ok: Rows) -> float:
    return float(np.median(ok["end_s"] - ok["send_s"])) if len(ok) else 0.0


def _closed(inputs: LevelInputs, records: Rows, sent: Rows) -> Window:
    slots = inputs.level.parallel
    if any(one.lost for one in inputs.generators):
        slots = sum(one.cap for one in inputs.generators if not one.lost)
    # Conversations hold their slot while they pause, so a slot is in use from a first turn on. At the end, when no new
    # conversation is left to begin, slots run empty: later turns of the rest are no dispatch.
    begun = records.where(was_sent(records) & (records["turn"] == 0))
    if len(begun) < max(1, slots):
        return _whole(sent, f"Fewer requests than slots: all {len(sent)} requests, ramp-up and emptying included.")
    filled = float(np.partition(begun["due_s"], slots - 1)[slots - 1]) if slots else 0.0
    start = max(filled, float(sent["due_s"].min()))
    end = float(begun["due_s"].max())
    window = Window(start, end, start, end, "closed_loop", None, "")
    ok = sent.where(is_ok(sent))
    completions = int(window.holds(ok["end_s"]).sum())
    latency = _median_latency(ok)
    if completions < LEAST_COMPLETIONS or window.duration_s < LEAST_GENERATIONS * latency:
        few = f"Only {completions} completions while all slots were in use"
        return _whole(sent, f"{few}: figures are over the whole level, ramp-up and emptying included.")
    return _settle(window, sent, latency)


def _open(inputs: LevelInputs, figures: Rows, sent: Rows) -> Window:
    start, last = float(np.nanmin(figures["due_s"])), float(np.nanmax(figures["due_s"]))
    if inputs.arrival != "trace" and inputs.level.rate > 0:
        last += 1 / inputs.level.rate
    if inputs.state != "done":
        last = min(last, float(sent["due_s"].max()))
    ok = sent.where(is_ok(sent))
    if len(ok) < LEAST_COMPLETIONS or last <= start:
        return _whole(sent, f"Only {len(ok)} successes: figures are over the whole level.")
    # A shift past the last answer would count empty time.
    shift = max(0.0, min(_median_latency(ok), _last(sent) - last))
    return _settle(Window(start, last, start + shift, last + shift, "open_loop", None, ""), sent, shift)


def _settle(window: Window, sent: Rows, fill_s: float) -> Window:
    """Leaves out a beginning that is unlike all the rest, and says whether the rest is steady.

    Rates begin `fill_s` later: when all slots begin at once, none of them is in the middle of a request.
    """
    ok = sent.where(is_ok(sent) & window.due(sent))
    found: Steadiness = steadiness(ok)
    moved = replace(window, steady=found.steady, note=found.note, drift=found.drift)
    start = window.start_s if found.cut_s is None else max(window.start_s, found.cut_s)
    left = replace(moved, start_s=start, rate_start_s=start + fill_s)
    if int(left.holds(sent["end_s"][is_ok(sent)]).sum()) < LEAST_COMPLETIONS:
        return replace(window, steady=False, note="A start-up phase fills nearly the whole level.")
    return left
