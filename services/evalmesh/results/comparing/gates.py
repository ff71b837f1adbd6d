"""Conditions that a comparison must meet, for pipelines: `gsm8k>=-0.01`, `mmlu/physics:acc not-worse`, `better`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evalmesh.domain.errors import InvalidInput
from evalmesh.results.comparing.likeness import Document

Outcome = Literal["met", "missed", "undecided"]
By = Literal["interval", "estimate"]

_FORM = re.compile(
    r"\s*(?:(?P<benchmark>[^/:<>=\s]+)(?:/(?P<subset>[^:<>=]+?))?(?::(?P<metric>[^<>=\s]+))?)?"
    r"(?:\s*>=\s*(?P<least>[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(?P<percent>%?)|(?:^|\s)\s*(?P<word>better|not-worse))\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition. With several runs each of them must meet it."""

    text: str
    benchmark: str
    """Empty: each that is compared."""
    subset: str
    metric: str
    """Empty: the primary one."""
    least: float | None
    """The gain over the baseline that is wanted; `None`: a verdict is."""
    word: str

    @property
    def judged(self) -> tuple[str, str, str]:
        """What must be judged for it (`ComparisonWish.judged`)."""
        return self.benchmark, self.subset, self.metric


def parse_gate(text: str) -> Gate:
    """Raises `InvalidInput`."""
    found = _FORM.fullmatch(text)
    if found is None or (found["benchmark"] in {"better", "not-worse"} and found["least"]):
        raise InvalidInput(
            f"gate: {text[:200]!r} is no condition; write BENCHMARK[/SUBSET][:METRIC]>=GAIN, as in 'gsm8k>=-0.01', or "
            "'gsm8k better', 'gsm8k not-worse', or 'not-worse' for every benchmark.",
            {"field": "gate"},
        )
    least = None if found["least"] is None else float(found["least"]) / (100 if found["percent"] else 1)
    benchmark, subset, metric, word = (found[name] or "" for name in ("benchmark", "subset", "metric", "word"))
    return Gate(text.strip(), benchmark, subset, metric, least, word.lower())


def judge_gates(gates: Sequence[Gate], document: Document, by: By) -> list[dict[str, Any]]:
    """The outcome of each gate for each run and benchmark it is about. Raises `InvalidInput` for names not compared.

    By `interval` a gain is met when the whole 95 % interval is at or above it, and missed when all of it is below;
    between the two, the samples leave it undecided. By `estimate` the measured difference alone counts. `better` is
    undecided while the verdict is inconclusive; `not-worse` is met then.
    """
    found = []
    for gate in gates:
        for comparison in document["comparisons"]:
            for benchmark, metric in _meant(gate, comparison):
                outcome = _by_verdict(gate, metric) if gate.least is None else _by_gain(gate.least, metric, by)
                found.append(
                    {
                        "gate": gate.text,
                        "run": comparison["run"],
                        "benchmark": benchmark,
                        "subset": gate.subset,
                        "metric": metric["name"],
                        "outcome": outcome,
                    }
                )
    return found


def _meant(gate: Gate, comparison: Document) -> Iterator[tuple[str, Document]]:
    names = [one["name"] for one in comparison["benchmarks"]]
    if gate.benchmark and gate.benchmark not in names:
        raise _unknown(gate, f"benchmark {gate.benchmark}", names)
    for benchmark in comparison["benchmarks"]:
        if gate.benchmark not in {"", benchmark["name"]}:
            continue
        part = benchmark
        if gate.subset:
            subsets = {one["name"]: one for one in benchmark["subsets"]}
            if gate.subset not in subsets:
                raise _unknown(gate, f"subset {gate.subset} of {benchmark['name']}", list(subsets))
            part = subsets[gate.subset]
        metrics = {one["name"]: one for one in part["metrics"]}
        if gate.metric and gate.metric not in metrics:
            raise _unknown(gate, f"metric {gate.metric} of {benchmark['name']}", list(metrics))
        yield benchmark["name"], metrics[gate.metric] if gate.metric else part["metrics"][0]


def _unknown(gate: Gate, what: str, known: Sequence[str]) -> InvalidInput:
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return InvalidInput(f"gate: {gate.text!r}: the {what} is not compared here; there is {shown}.", {"field": "gate"})


def _by_verdict(gate: Gate, metric: Document) -> Outcome:
    if gate.word == "not-worse":
        return "missed" if metric["verdict"] == "worse" else "met"
    outcomes: dict[str, Outcome] = {"better": "met", "worse": "missed"}
    return outcomes.get(metric["verdict"], "undecided")


def _by_gain(least: float, metric: Document, by: By) -> Outcome:
    if metric["difference"] is None or (by == "interval" and metric["ci95"] is None):
        return "undecided"
    low, high = metric["ci95"] if by == "interval" else (metric["difference"], metric["difference"])
    if not metric["higher_is_better"]:
        low, high = -high, -low
    if low >= least:
        return "met"
    return "missed" if high < least else "undecided"
