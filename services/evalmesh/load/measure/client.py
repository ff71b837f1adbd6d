"""The client watches itself: was the load generator the bottleneck?"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from evalmesh.load.measure.distributions import number
from evalmesh.load.measure.inputs import GeneratorHealth
from evalmesh.load.measure.measured import Measured
from evalmesh.load.measure.table import is_ok, was_sent

MOST_CPU = 0.85
MOST_LOOP_LAG_MS = 5.0
MOST_SEND_LAG_MS = 5.0
SEND_LAG_SHARE = 0.02
"""Of TTFT's median."""
CLOCK_MS = 1.0
"""No client can promise less than this: a system wakes a process that late without being overloaded."""


def send_lag_bound_ms(ttft_p50_ms: float) -> float:
    """What the 99th percentile of the send lag is held to."""
    if math.isnan(ttft_p50_ms):
        return MOST_SEND_LAG_MS
    return max(CLOCK_MS, min(MOST_SEND_LAG_MS, SEND_LAG_SHARE * ttft_p50_ms))


def client_document(measured: Measured) -> dict[str, Any]:
    """`client` of a level's document, the reasons in words."""
    health = measured.inputs.generators
    cpu = {one.seat: cpu_of(one, measured) for one in health}
    lag_p99 = _most(one.loop_lag_p99_ms for one in health)
    lag_max = _most(one.loop_lag_max_ms for one in health)
    if lag_max is None:
        lag_max = _most(second.loop_lag_ms for second in measured.inputs.seconds)
    send_lag = measured.distributions["send_lag"].value("p99")
    bound = send_lag_bound_ms(measured.distributions["ttft"].value("p50"))
    late = not math.isnan(send_lag) and send_lag > bound
    reasons = []
    busiest = _most(cpu.values())
    if busiest is not None and busiest > MOST_CPU:
        seats = [str(seat) for seat, used in cpu.items() if used is not None and used > MOST_CPU]
        reasons.append(
            f"Generator {', '.join(seats)} used {busiest:.0%} of its core; from {MOST_CPU:.0%} on it is late."
        )
    if late:
        reasons.append(f"Requests were sent late: p99 of the send lag is {send_lag:.3g} ms, the bound {bound:.3g} ms.")
    if lag_p99 is not None and lag_p99 > MOST_LOOP_LAG_MS:
        reasons.append(f"The event loop was late: p99 {lag_p99:.3g} ms, the bound {MOST_LOOP_LAG_MS:g} ms.")
    starved = any(one.feed_starved for one in health)
    if late and len(reasons) == 1 and health and all(one.feed_starved is None for one in health):
        # Neither the core nor the loop was busy, and still requests left late: there was nothing to send.
        starved = True
    # A feed that was once empty did no harm unless requests left late for it.
    if starved and late:
        reasons.append("Prompts were not prepared in time: the feeder fell behind the engine.")
    peak = peak_in_flight(measured)
    reasons += _short_of_cap(measured, peak)
    return {
        "limited": bool(reasons),
        "reasons": reasons,
        "cpu": _told(busiest),
        "loop_lag_p99_ms": _told(lag_p99),
        "loop_lag_max_ms": _told(lag_max),
        "send_lag_p99_ms": number(send_lag),
        "send_lag_bound_ms": number(bound),
        "feed_starved": starved,
        "peak_in_flight": peak,
        "connections": sum(one.connections for one in health),
        "max_rss_bytes": max((one.max_rss_bytes for one in health), default=0),
    }


def _told(value: float | None) -> float | None:
    return None if value is None else number(value)


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def cpu_of(one: GeneratorHealth, measured: Measured) -> float | None:
    """Share of a core one engine used, on the mean of the window's seconds; else over the whole level."""
    window = measured.window
    used = [
        second.cpu
        for second in measured.inputs.seconds
        if second.generator == one.seat and window.start_s <= second.second <= window.end_s
    ]
    # A single second may be a part of one, whose share is that of a moment.
    return sum(used) / len(used) if len(used) > 1 else one.cpu


def peak_in_flight(measured: Measured) -> int:
    """Most requests in flight at once over all generators, from the records."""
    sent = measured.records.where(was_sent(measured.records))
    begun, ended = sent["send_s"], sent["end_s"]
    whole = ~(np.isnan(begun) | np.isnan(ended))
    begun, ended = np.sort(begun[whole]), np.sort(ended[whole])
    if not len(begun):
        return 0
    # An answer that ended when a request was sent made room for it.
    return int((np.arange(1, len(begun) + 1) - np.searchsorted(ended, begun, side="right")).max())


def _short_of_cap(measured: Measured, peak: int) -> list[str]:
    """Closed loop, enough requests, and never as many in flight as asked: somebody held them back, and it was us."""
    inputs = measured.inputs
    asked = inputs.level.parallel
    figures = measured.figures
    if inputs.open_loop or asked <= 0 or inputs.level.stages or any(one.lost for one in inputs.generators):
        return []
    if bool((figures["turn"] > 0).any()) or int(is_ok(figures).sum()) < 2 * asked or inputs.state != "done":
        return []
    if peak >= asked:
        return []
    return [f"At most {peak} of {asked} requests were in flight at once although more were waiting."]
