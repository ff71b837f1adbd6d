"""What a probe of a search shows, and what several probes at the same load say together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import SearchVariable
from evalmesh.load.objective.slo import MOST_ERRORS, RATES, Decision

By = Literal["interval", "estimate", "client"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """One term's figure in one probe."""

    value: float | None
    limit: float
    lower_bound: bool
    """Of a rate: the figure must be at least the limit."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One level of a search."""

    value: float
    """Its load."""
    level: int
    """Its index."""
    decision: Decision
    """By intervals."""
    estimates: tuple[Estimate, ...]
    requests: int
    """In its window, behind the estimates."""
    seconds: float
    """It took."""
    asked_s: float
    """It was asked to take."""
    client_limited: bool = False
    growing: bool = False
    """Latencies grew over its window."""
    answer_s: float | None = None
    """Median E2E, from the send."""


def observe(document: Mapping[str, Any], variable: SearchVariable) -> Observation:
    """What a level's document shows. Raises `InvalidInput` when it was held to no objective."""
    slo = document["slo"]
    if slo is None:
        raise InvalidInput("search: there is nothing to search for without an objective; set `slo`.", {"field": "slo"})
    decision: Decision = slo["decision"]
    if document["requests"] and not document["ok"]:
        decision = "missed"
    estimates = [Estimate(one["value"], one["limit"], one["metric"] in RATES) for one in slo["terms"]]
    error_rate = document["error_rate"]
    if error_rate is not None and not any(one["metric"] == "error_rate" for one in slo["terms"]):
        # Latencies are of successes: a server that refuses what it cannot do is quick with the rest.
        estimates.append(Estimate(error_rate, MOST_ERRORS, lower_bound=False))
    growing = (document["window"]["drift"] or 0.0) > 0
    return Observation(
        value=float(document[variable]),
        level=document["index"],
        decision=decision,
        estimates=tuple(estimates),
        requests=document["window"]["requests"],
        seconds=float(document["wall_s"]),
        asked_s=float(document["level_duration_s"] or document["wall_s"]),
        client_limited=document["client_limited"],
        growing=growing,
        answer_s=None if document["e2e_ms"]["p50"] is None else document["e2e_ms"]["p50"] / 1000,
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """All probes at one load together."""

    value: float
    levels: tuple[int, ...]
    passed: bool | None
    """`None`: the client was the bottleneck."""
    by: By
    seconds: float
    requests: int
    asked_s: float
    """What its probes were asked to take."""
    note: str

    @property
    def decision(self) -> Decision:
        """What is known, as of any level; `passed` is what the search took it for."""
        return "undecided" if self.by != "interval" else "met" if self.passed else "missed"

    def document(self) -> dict[str, Any]:
        """An entry of `search.evidence`."""
        return {
            "value": self.value,
            "levels": list(self.levels),
            "decision": self.decision,
            "passed": self.passed,
            "by": self.by,
            "seconds": round(self.seconds, 3),
            "note": self.note,
        }


def verdict_of(value: float, seen: Sequence[Observation]) -> Verdict:
    """Probes in which the client was no bottleneck decide: their intervals if they agree, else the pooled estimate."""
    passed, by, note = _decided([one for one in seen if not one.client_limited])
    return Verdict(
        value=value,
        levels=tuple(one.level for one in seen),
        passed=passed,
        by=by,
        seconds=sum(one.seconds for one in seen),
        requests=sum(one.requests for one in seen),
        asked_s=sum(one.asked_s for one in seen),
        note=note,
    )


def _decided(sound: Sequence[Observation]) -> tuple[bool | None, By, str]:
    if not sound:
        return None, "client", "the load generator was the bottleneck"
    decided = {one.decision for one in sound} - {"undecided"}
    if len(decided) == 1:
        return decided == {"met"}, "interval", ""
    why = "its intervals disagree" if decided else "no interval decides it"
    return _pooled(sound), "estimate", f"{why}; the estimate decides"


def _pooled(seen: Sequence[Observation]) -> bool:
    """Whether the mean of the probes' figures, weighted by their requests, is within every limit."""
    if seen[-1].growing:
        return False
    for term in range(len(seen[0].estimates)):
        known = [(one.estimates[term], max(1, one.requests)) for one in seen if one.estimates[term].value is not None]
        if not known:
            return False
        limit, lower_bound = known[0][0].limit, known[0][0].lower_bound
        mean = sum((one.value or 0.0) * weight for one, weight in known) / sum(weight for _, weight in known)
        if (mean < limit) if lower_bound else (mean > limit):
            return False
    return True
