"""Numbers over all samples of a benchmark together, beside the tally of their scores.

A reducer folds blocks of rows into partial states, which merge in any order; so a corpus-level metric is computed by
many workers and never holds a corpus. A state consists of what JSON can hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from evalmesh.domain.completion import Completion
from evalmesh.domain.metric import Metric
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score

State = Mapping[str, Any]


class ReducerRow(NamedTuple):
    """One request: what was asked for, what came back, how it was judged."""

    sample: Sample
    completion: Completion | None
    score: Score


@dataclass(frozen=True, slots=True)
class Reduction:
    """What a reducer has to say at the end."""

    metrics: tuple[Metric, ...] = ()
    artefact: Mapping[str, Any] | None = None
    """A document of the report, such as the cells of a heat map."""


class Reducer(Protocol):
    """Pure: no I/O, no clock."""

    @property
    def name(self) -> str:
        """Unique within a benchmark; names the artefact."""
        ...

    def fold(self, rows: Sequence[ReducerRow]) -> State:
        """The state of some rows; of none it is the neutral one."""
        ...

    def merge(self, a: State, b: State) -> State:
        """The state of the rows of both; associative and commutative."""
        ...

    def finish(self, state: State) -> Reduction:
        """What all rows say."""
        ...


@dataclass(frozen=True, slots=True)
class LabelF1:
    """F1 of answers as labels, over the whole set: per label from its counts, then averaged.

    Answers without a score count against recall. Unlike a mean of samples, F1 over a set is no mean of anything per
    sample, so its interval would need a bootstrap; none is given.
    """

    name: str = "f1"
    average: str = "macro"
    """`macro`: mean over labels that occur as target or answer; `micro`: over all counts together."""

    def fold(self, rows: Sequence[ReducerRow]) -> State:
        counts: dict[str, list[int]] = {}
        states = {"scored": 0, "errored": 0, "unscored": 0}
        for row in rows:
            states[row.score.state] += 1
            target = row.sample.target[0] if row.sample.target else ""
            answer = row.score.answer if row.score.state == "scored" else None
            right = answer is not None and answer in row.sample.target
            counts.setdefault(target, [0, 0, 0])[0 if right else 2] += 1
            if answer is not None and not right:
                counts.setdefault(answer, [0, 0, 0])[1] += 1
        return {"counts": counts, **states}

    def merge(self, a: State, b: State) -> State:
        counts = {label: list(found) for label, found in a["counts"].items()}
        for label, found in b["counts"].items():
            known = counts.setdefault(label, [0, 0, 0])
            counts[label] = [x + y for x, y in zip(known, found, strict=True)]
        return {"counts": counts, **{key: a[key] + b[key] for key in ("scored", "errored", "unscored")}}

    def finish(self, state: State) -> Reduction:
        counts: list[Sequence[int]] = list(state["counts"].values())
        if self.average == "micro":
            counts = [[sum(column) for column in zip(*counts, strict=True)]] if counts else []
        values = [2 * tp / (2 * tp + fp + fn) for tp, fp, fn in counts if tp + fp + fn]
        value = sum(values) / len(values) if values and state["scored"] else None
        metric = Metric(self.name, value, None, None, state["scored"], state["errored"], state["unscored"])
        return Reduction((metric,))


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The mean of a score over two columns of the samples' metadata, such as context length and depth."""

    name: str
    score: str
    """Key in `Score.values`."""
    x: str
    y: str

    def fold(self, rows: Sequence[ReducerRow]) -> State:
        cells: dict[str, dict[str, list[float]]] = {}
        for row in rows:
            value = row.score.values.get(self.score)
            if row.score.state != "scored" or value is None:
                continue
            x, y = (str(row.sample.metadata.get(key, "")) for key in (self.x, self.y))
            cell = cells.setdefault(x, {}).setdefault(y, [0.0, 0])
            cell[0] += value
            cell[1] += 1
        return cells

    def merge(self, a: State, b: State) -> State:
        cells = {x: {y: list(cell) for y, cell in column.items()} for x, column in a.items()}
        for x, column in b.items():
            for y, (total, count) in column.items():
                cell = cells.setdefault(x, {}).setdefault(y, [0.0, 0])
                cell[0] += total
                cell[1] += count
        return cells

    def finish(self, state: State) -> Reduction:
        cells = [
            {"x": x, "y": y, "value": total / count, "n": count}
            for x, column in sorted(state.items(), key=lambda one: _order(one[0]))
            for y, (total, count) in sorted(column.items(), key=lambda one: _order(one[0]))
        ]
        return Reduction(artefact={"kind": "heat_map", "x": self.x, "y": self.y, "score": self.score, "cells": cells})


def _order(label: str) -> tuple[bool, float, str]:
    """Numbers by value, then texts."""
    try:
        return False, float(label), label
    except ValueError:
        return True, 0.0, label
