"""The highest load that meets the objective: which probe comes next, and when the search is over. Pure.

1. *Bracketing*: from `low` on the load doubles until a probe fails; it quadruples while a probe has so few requests
   that it could not decide anything. Probes of half the length are enough for that.
2. *Bisection* (rates: geometric mean; parallel: whole numbers) until the bracket is as narrow as `resolution`. So far
   a probe that its interval does not decide is taken by its estimate: a wrong turn would be found in the next step.
3. *Confirmation*: an end of the bracket that was seen by a short probe alone is tried at full length, and one that was
   taken by estimate goes on: the lower one, which is the answer, up to three times as long, the upper one twice. If
   that turns it over, the bracket opens on that side and bisection goes on; if it stays undecided, or the search has
   taken as long as ten probes, the estimate stands, and the answer says so.

Probes are as long as was asked, and longer where answers take so long that no steady state would be seen.

A probe in which the client was the bottleneck is tried once more, at once; then it is an upper bound, and never a
failure of the server.
Results that contradict each other (a load passes, a lower one fails) are tried once more at both ends; if they still
do, the lower one counts.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import LoadLevel, SearchSpec, SearchVariable
from evalmesh.load.objective.probes import Observation, Verdict, observe, verdict_of

MOST_LOAD = 1e6
"""Nothing is probed beyond."""
FEW_REQUESTS = 50
"""A probe of fewer is no reason to go on in small steps."""
_WHILE_BRACKETING = 0.5
"""Length of a probe then."""
_ANSWERS: Mapping[SearchVariable, float] = {"parallel": 2.0, "rate": 4.0}
"""A probe lasts at least this many answers of an idle server: before, in closed loop all requests are of the first
round, and in open loop no queue has formed at a load that the server cannot keep up with."""
_LEAST_ARRIVALS = 5.0
"""Likewise: a probe without any request would look like a failure."""
_ENOUGH_PROBES = 10.0
"""After a search as long as this many probes only the answer is confirmed, and for no longer than one probe: ends that
are close to the limit may turn over again and again."""
_SLIVER = 0.1
"""Of a probe's length: nothing is probed for less."""
State = Literal["found", "none", "unfinished"]


@dataclass(frozen=True, slots=True)
class Probe:
    """Run a level at this load next."""

    value: float
    duration_s: float
    note: str


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The search is over."""

    variable: SearchVariable
    state: State
    value: float | None
    """The highest load that met the objective."""
    bracket: tuple[float | None, float | None]
    """Highest that did, lowest that did not."""
    client_limited: bool
    by: Literal["interval", "estimate"]
    stop_rule: str
    note: str
    evidence: tuple[Verdict, ...] = field(default=())

    def document(self) -> dict[str, Any]:
        """`search` of `perf.json`."""
        return {
            "variable": self.variable,
            "state": self.state,
            "answer": self.value,
            "bracket": list(self.bracket),
            "client_limited": self.client_limited,
            "by": self.by,
            "evidence": [one.document() for one in self.evidence],
            "stop_rule": self.stop_rule,
            "note": self.note,
        }


class Search:
    """Holds nothing but its spec: what comes next follows from what was observed, whoever observed it."""

    def __init__(self, spec: SearchSpec) -> None:
        if spec.low <= 0 or (spec.high and spec.high < spec.low):
            raise InvalidInput(
                f"search: low {spec.low:g} and high {spec.high:g} are no range; low must be above 0, and high at "
                "least low, or 0 for no bound.",
                {"field": "search.low"},
            )
        self._spec = spec

    def next(self, history: Sequence[Observation]) -> Probe | SearchAnswer:
        """What comes after these observations, which are in order of time."""
        verdicts = {value: verdict_of(value, seen) for value, seen in _by_value(history).items()}
        low, high = _bracket(verdicts.values())
        if sum(seen.seconds for seen in history) >= self._spec.max_s:
            return self._answer(history, low, high, f"The search ended after {self._spec.max_s:g} s.", "unfinished")
        wanted = (
            self._repeat(history, verdicts)
            or self._hiccup(history, verdicts)
            or self._contradiction(history, verdicts)
            or self._first(history)
            or self._wider(history, low, high)
            or self._narrower(history, low, high)
            or self._surer(history, low, high)
        )
        return wanted or self._done(history, low, high)

    def answer(self, history: Sequence[Observation]) -> SearchAnswer:
        """What is known after these observations, also when the load test ended before the search did."""
        found = self.next(history)
        if isinstance(found, SearchAnswer):
            return found
        low, high = _bracket([verdict_of(value, seen) for value, seen in _by_value(history).items()])
        return self._answer(history, low, high, "The load test ended before the search did.", "unfinished")

    # Which probe comes next: the first of these that wants one.

    def _length_s(self, history: Sequence[Observation], value: float, share: float = 1.0) -> float:
        """How long a probe at this load lasts; `share`: of what was asked for."""
        variable = self._spec.variable
        answer_s = min((seen.answer_s for seen in history if seen.answer_s is not None), default=0.0)
        arrivals_s = _LEAST_ARRIVALS / value if variable == "rate" else 0.0
        return round(max(self._spec.level_s * share, _ANSWERS[variable] * answer_s, arrivals_s), 2)

    def _repeat(self, history: Sequence[Observation], verdicts: Mapping[float, Verdict]) -> Probe | None:
        if not history:
            return None
        last = verdicts[history[-1].value]
        if len(last.levels) >= self._spec.repeats:
            return None
        return Probe(last.value, history[-1].asked_s, f"repeat {len(last.levels) + 1} of {self._spec.repeats}")

    def _hiccup(self, history: Sequence[Observation], verdicts: Mapping[float, Verdict]) -> Probe | None:
        """The client may have been busy with something else for a moment."""
        last = verdicts[history[-1].value] if history else None
        if last is None or last.by != "client" or len(last.levels) > self._spec.repeats:
            return None
        return Probe(last.value, self._length_s(history, last.value), "once more: the client was the bottleneck")

    def _contradiction(self, history: Sequence[Observation], verdicts: Mapping[float, Verdict]) -> Probe | None:
        found = _contradicting(verdicts.values())
        for one in found:
            if len(one.levels) < self._spec.repeats + 1:
                note = "a lower load failed and a higher one passed: both once more"
                return Probe(one.value, self._length_s(history, one.value), note)
        return None

    def _first(self, history: Sequence[Observation]) -> Probe | None:
        if history:
            return None
        value = self._rounded(self._spec.low)
        return Probe(value, self._length_s(history, value, _WHILE_BRACKETING), "the lowest load")

    def _wider(self, history: Sequence[Observation], low: Verdict | None, high: Verdict | None) -> Probe | None:
        """Doubles; nothing has failed yet."""
        if high is not None or low is None:
            return None
        most = self._spec.high or MOST_LOAD
        if low.value >= most:
            return None
        times = 4 if low.requests < FEW_REQUESTS else 2
        value = self._rounded(min(most, low.value * times))
        length_s = self._length_s(history, value, _WHILE_BRACKETING)
        return Probe(value, length_s, f"bracketing: {times} times the load")

    def _narrower(self, history: Sequence[Observation], low: Verdict | None, high: Verdict | None) -> Probe | None:
        if low is None or high is None or self._narrow(low.value, high.value):
            return None
        if self._spec.variable == "parallel":
            middle = float((low.value + high.value) // 2)
        else:
            middle = self._rounded(math.sqrt(low.value * high.value))
        if not low.value < middle < high.value:
            return None
        length_s = self._length_s(history, middle)
        return Probe(middle, length_s, f"bisection between {low.value:g} and {high.value:g}")

    def _surer(self, history: Sequence[Observation], low: Verdict | None, high: Verdict | None) -> Probe | None:
        """The ends of the bracket must have been seen at full length, and be decided or have had their time."""
        repeats, ends = self._spec.repeats, [end for end in (low, high) if end is not None]
        for end in ends:
            length_s = self._length_s(history, end.value)
            if end.asked_s < (repeats - _SLIVER) * length_s:
                return Probe(end.value, length_s, "once more: at full length")
        for end in ends:
            left_s = self._left_s(history, end, (2 if end is low else 1) - self._late(history, end))
            if left_s:
                return Probe(end.value, left_s, "once more: its interval does not decide")
        return None

    def _left_s(self, history: Sequence[Observation], end: Verdict, more: int) -> float:
        """What is left of the time that an end of the bracket has to be decided in: `more` lengths beyond the first."""
        length_s = self._length_s(history, end.value)
        left_s = (self._spec.repeats + more) * length_s - end.asked_s
        return 0.0 if end.by != "estimate" or left_s < _SLIVER * length_s else round(left_s, 2)

    def _late(self, history: Sequence[Observation], end: Verdict) -> bool:
        length_s = self._spec.repeats * self._length_s(history, end.value)
        return sum(seen.seconds for seen in history) >= _ENOUGH_PROBES * length_s

    def _narrow(self, low: float, high: float) -> bool:
        if self._spec.variable == "parallel":
            return high - low <= max(1.0, self._spec.resolution * low)
        return high <= low * (1 + self._spec.resolution)

    def _rounded(self, value: float) -> float:
        return float(round(value)) if self._spec.variable == "parallel" else float(f"{value:.4g}")

    # The end.

    def _done(self, history: Sequence[Observation], low: Verdict | None, high: Verdict | None) -> SearchAnswer:
        if low is None and high is not None and high.by == "client":
            rule = (
                f"Whether the server meets the objective at {high.value:g}, the lowest load, is not known: the load "
                "generator was the bottleneck there."
            )
            return self._answer(history, low, high, rule, "unfinished")
        if low is None:
            rule = f"Not even {self._spec.low:g}, the lowest load, meets the objective."
            return self._answer(history, low, high, rule, "none")
        if high is None:
            met = "meets the objective" if low.decision == "met" else "was taken as meeting the objective"
            rule = f"The highest load allowed, {low.value:g}, {met}."
        elif self._spec.variable == "parallel":
            rule = f"The bracket, {low.value:g} to {high.value:g}, is at most one or {self._spec.resolution:.0%} wide."
        else:
            rule = f"The bracket, {low.value:g} to {high.value:g}, is at most {self._spec.resolution:.0%} wide."
        return self._answer(history, low, high, rule, "found")

    def _answer(
        self, history: Sequence[Observation], low: Verdict | None, high: Verdict | None, rule: str, state: State
    ) -> SearchAnswer:
        limited = high is not None and high.by == "client"
        notes = []
        if limited and high is not None:
            least = f", at least {low.value:g}" if low else ""
            notes.append(f"Client-limited{least}: at {high.value:g} the load generator was the bottleneck.")
        notes += [
            f"{end.value:g} {did} the objective by its estimate: no interval decides it."
            for end, did in ((low, "met"), (high, "missed"))
            if end is not None and end.by == "estimate"
        ]
        verdicts = {value: verdict_of(value, seen) for value, seen in _by_value(history).items()}
        if _contradicting(verdicts.values()):
            notes.append("Higher loads passed where a lower one failed, also when tried again: the lower one counts.")
        ends = [end for end in (low, high) if end is not None]
        return SearchAnswer(
            variable=self._spec.variable,
            state=state,
            value=None if low is None else low.value,
            bracket=(None if low is None else low.value, None if high is None else high.value),
            client_limited=limited,
            by="interval" if all(end.by != "estimate" for end in ends) else "estimate",
            stop_rule=rule,
            note=" ".join(notes),
            evidence=tuple(verdicts.values()),
        )


def _by_value(history: Iterable[Observation]) -> dict[float, list[Observation]]:
    found: dict[float, list[Observation]] = {}
    for seen in history:
        found.setdefault(seen.value, []).append(seen)
    return found


def _bracket(verdicts: Iterable[Verdict]) -> tuple[Verdict | None, Verdict | None]:
    """The lowest load that did not pass, and the highest below it that did."""
    known = sorted(verdicts, key=lambda one: one.value)
    high = next((one for one in known if not one.passed), None)
    below = [one for one in known if one.passed and (high is None or one.value < high.value)]
    return (below[-1] if below else None), high


def _contradicting(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """The highest load that passed and the lowest that failed, when the latter is lower."""
    known = sorted(verdicts, key=lambda one: one.value)
    failed = next((one for one in known if one.passed is False), None)
    passed = next((one for one in reversed(known) if one.passed), None)
    return [failed, passed] if failed and passed and failed.value < passed.value else []


def probe_level(template: LoadLevel, variable: SearchVariable, probe: Probe) -> LoadLevel:
    """The level of a probe: `template` has what else there is (the cap of an open loop)."""
    if variable == "parallel":
        return replace(template, parallel=round(probe.value), rate=0.0, number=0, duration_s=probe.duration_s)
    return replace(template, rate=probe.value, number=0, duration_s=probe.duration_s)


def observations(documents: Iterable[Mapping[str, Any]], variable: SearchVariable) -> list[Observation]:
    """What the levels of a search show, in order of execution."""
    return [observe(document, variable) for document in documents]
