"""The client watches itself: was the load generator the bottleneck, and how much of the figures is its own?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from evalmesh.load.measure.distributions import number
from evalmesh.load.measure.inputs import GeneratorHealth
from evalmesh.load.measure.lateness import Late, saw_late, sent_late, tolerated_ms
from evalmesh.load.measure.measured import Measured
from evalmesh.load.measure.table import is_ok, was_sent

BUSY_CPU = 0.85
FULL_CPU = 0.97
_MOST_SLOTS = 0.9
"""Of the requests that should have been in flight at once."""
Grade = Literal["fine", "noted", "unusable"]
_MORE = "spread the load with --generators, one for each idle core, or over several machines"
_FREE = "free this machine of what else it does, or start the load from another one"
_FEED = "use more --generators: each prepares prompts in a process of its own"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the client, and what to do about it."""

    unusable: bool
    text: str
    advice: str


def client_document(measured: Measured) -> dict[str, Any]:
    """`client` of a level's document, the reasons in words."""
    health = measured.inputs.generators
    cpu = {one.seat: cpu_of(one, measured) for one in health}
    lag_max = _most(one.loop_lag_max_ms for one in health)
    if lag_max is None:
        lag_max = _most(second.loop_lag_ms for second in measured.inputs.seconds)
    late, peak = sent_late(measured), peak_in_flight(measured)
    starved = late is not None and _was_starved(health, cpu)
    found = _findings(measured, cpu, late, starved=starved, peak=peak)
    unusable = any(one.unusable for one in found)
    grade: Grade = "unusable" if unusable else "noted" if found else "fine"
    ttft = measured.distributions["ttft_due" if measured.open_loop else "ttft"]
    return {
        "limited": unusable,
        "grade": grade,
        "reasons": [one.text for one in found],
        "advice": list(dict.fromkeys(one.advice for one in found)),
        "cpu": _told(_most(cpu.values())),
        "loop_lag_p99_ms": _told(_most(one.loop_lag_p99_ms for one in health)),
        "loop_lag_max_ms": _told(lag_max),
        "send_lag_p99_ms": number(measured.distributions["send_lag"].value("p99")),
        "send_lag_bound_ms": number(tolerated_ms(ttft.value("p99"))) if ttft.n else None,
        "feed_starved": starved or any(one.feed_starved for one in health),
        "peak_in_flight": peak,
        "connections": sum(one.connections for one in health),
        "max_rss_bytes": max((one.max_rss_bytes for one in health), default=0),
    }


def _findings(
    measured: Measured, cpu: dict[int, float | None], late: Late | None, *, starved: bool, peak: int
) -> list[Finding]:
    # A level of less than a second, or a single busy one, says little about a core.
    found = _busy(cpu) if len({second.second for second in measured.inputs.seconds}) != 1 else []
    way_out = _MORE if found else _FREE
    if late is not None:
        found.append(Finding(late.unusable, str(late), _FEED if starved else way_out))
    if starved:
        found.append(Finding(unusable=False, text="Prompts were not prepared in time.", advice=_FEED))
    seen = [told for one in measured.inputs.generators if (told := saw_late(measured, one)) is not None]
    # The worst of them; others are told by generator.
    for one in sorted(seen, key=lambda told: (not told.unusable, -told.share))[:1]:
        found.append(Finding(one.unusable, str(one), way_out))
    return found + _short_of_cap(measured, peak)


def _busy(cpu: dict[int, float | None]) -> list[Finding]:
    busy = {seat: used for seat, used in cpu.items() if used is not None and used > BUSY_CPU}
    if not busy:
        return []
    most = max(busy.values())
    text = f"Generator {', '.join(map(str, busy))} used {most:.0%} of its core; from {BUSY_CPU:.0%} on it may be late."
    return [Finding(most > FULL_CPU, text, _MORE)]


def _was_starved(health: Sequence[GeneratorHealth], cpu: dict[int, float | None]) -> bool:
    """Whether requests that left late did so for want of prompts; where nobody says so, when nothing else was busy."""
    if any(one.feed_starved for one in health):
        return True
    unknown = bool(health) and all(one.feed_starved is None for one in health)
    return unknown and all(used is None or used <= BUSY_CPU for used in cpu.values())


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


def _short_of_cap(measured: Measured, peak: int) -> list[Finding]:
    """Closed loop, enough requests, and never as many in flight as asked: somebody held them back, and it was us."""
    inputs = measured.inputs
    asked = inputs.level.parallel
    figures = measured.figures
    if inputs.open_loop or asked <= 0 or inputs.level.stages or any(one.lost for one in inputs.generators):
        return []
    if bool((figures["turn"] > 0).any()) or int(is_ok(figures).sum()) < 2 * asked or inputs.state != "done":
        return []
    if peak >= _MOST_SLOTS * asked:
        return []
    text = f"At most {peak} of {asked} requests were in flight at once although more were waiting."
    return [Finding(unusable=True, text=text, advice=_MORE)]
