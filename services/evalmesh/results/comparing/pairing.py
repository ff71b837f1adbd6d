"""What is kept of the samples that two runs have in common, and what it says."""

from dataclasses import dataclass
from functools import reduce
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from evalmesh.results.comparing.joining import Matched, Side, join
from evalmesh.results.comparing.sampled import CONTENT, GROUP, ROW, ROWS, SUBSET, Numbers, Reading, Whole, read_samples
from evalmesh.scoring.paired import Effect, paired_effect


@dataclass(frozen=True, slots=True)
class Flips:
    """Samples on which the sides differ, by the primary metric: where their rows are."""

    values: Numbers
    """[flip, 2]: of A and of B."""
    rows: Whole
    """[flip, 4]: first row and number of rows in A, likewise in B."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Samples of both runs without a score, by the side that has none."""

    a: int
    b: int
    both: int


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric over some samples."""

    effect: Effect | None
    left_out: LeftOut
    bounds: tuple[float, float] | None
    """The difference if all that has no score were as bad for B as can be, and as good."""


@dataclass(frozen=True, slots=True)
class _Extremes:
    """Sums over samples of the difference B - A at its worst and at its best, and where values lie, by metric."""

    worst: Numbers
    best: Numbers
    low: Numbers
    high: Numbers

    @classmethod
    def of(cls, a: Numbers, b: Numbers) -> "_Extremes":
        low, high = np.minimum(a[:, :, 1], b[:, :, 1]), np.maximum(a[:, :, 2], b[:, :, 2])
        worst, best = b[:, :, 1] - a[:, :, 2], b[:, :, 2] - a[:, :, 1]
        return cls(worst.sum(axis=0), best.sum(axis=0), low.min(axis=0), high.max(axis=0))

    def merge(self, other: "_Extremes") -> "_Extremes":
        return _Extremes(
            self.worst + other.worst,
            self.best + other.best,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    def bounds(self, metric: int, n: int) -> tuple[float, float] | None:
        """`None` where values leave [0, 1], since then no value is the worst or the best."""
        if self.low[metric] < 0 or self.high[metric] > 1:
            return None
        return float(self.worst[metric]) / n, float(self.best[metric]) / n


@dataclass(frozen=True, slots=True)
class _Kept:
    """What stays in memory of samples: 8 bytes each, and 17 for each metric; a flip takes 48 more."""

    a: Numbers
    b: Numbers
    scored: npt.NDArray[np.uint8]
    """[sample, metric]: 1 if A has a score, and 2 if B has one."""
    subsets: npt.NDArray[np.int32]
    groups: npt.NDArray[np.int32]

    def between(self, start: int, stop: int) -> "_Kept":
        return _Kept(*(getattr(self, name)[start:stop] for name in _COLUMNS))


_COLUMNS = ("a", "b", "scored", "subsets", "groups")


class Pairs:
    """The samples that two runs have in common. What is asked of them needs one at least."""

    def __init__(self, subsets: dict[str, int], *, zero: bool) -> None:
        self.common = self.only_a = self.only_b = self.unlike = 0
        self.first_unlike = -1
        """Row in A of the first sample that asks something else than its namesake in B; `unlike` counts them."""
        self._codes = subsets
        self._column = 1 if zero else 0
        self._chunks: list[_Kept] = []
        self._flips: list[tuple[Numbers, Whole]] = []
        self._extremes: dict[int, _Extremes] = {}

    def add(self, matched: Matched) -> None:
        """Counts a batch."""
        a, b, mine, theirs = matched
        self.common += len(a)
        if unlike := np.flatnonzero(mine[:, CONTENT] != theirs[:, CONTENT]).tolist():
            self.first_unlike = self.first_unlike if self.unlike else int(mine[unlike[0], ROW])
            self.unlike += len(unlike)
        for code in np.unique(mine[:, SUBSET]).tolist():
            inside = mine[:, SUBSET] == code
            found = _Extremes.of(a[inside], b[inside])
            self._extremes[code] = self._extremes[code].merge(found) if code in self._extremes else found
        ours, other = a[:, :, self._column], b[:, :, self._column]
        scored = np.isfinite(a[:, :, 0]) + 2 * np.isfinite(b[:, :, 0]).astype(np.uint8)
        subsets, groups = (mine[:, column].astype(np.int32) for column in (SUBSET, GROUP))
        self._chunks.append(_Kept(ours.copy(), other.copy(), scored, subsets, groups))
        first = np.column_stack((ours[:, 0], other[:, 0]))
        differs = np.flatnonzero(np.isfinite(first).all(axis=1) & (first[:, 0] != first[:, 1]))
        rows = np.column_stack((mine[differs][:, [ROW, ROWS]], theirs[differs][:, [ROW, ROWS]]))
        self._flips.append((first[differs], rows))

    def _all(self) -> _Kept:
        """Everything, sorted by subset."""
        if len(self._chunks) != 1:
            joined = [np.concatenate([getattr(chunk, name) for chunk in self._chunks]) for name in _COLUMNS]
            self._chunks = [_Kept(*joined)]
        (kept,) = self._chunks
        if np.any(np.diff(kept.subsets) < 0):
            order = np.argsort(kept.subsets, kind="stable")
            kept = _Kept(*(getattr(kept, name)[order] for name in _COLUMNS))
            self._chunks = [kept]
        return kept

    @property
    def subsets(self) -> list[str]:
        """Of the samples in common."""
        return [name for name, code in self._codes.items() if code in self._extremes]

    def compared(self, metric: int, subset: str | None = None) -> Compared:
        """One metric, by its place in `Reading.rules`."""
        kept, extremes = self._all(), list(self._extremes.values())
        if subset is not None:
            code = self._codes[subset]
            start, stop = np.searchsorted(kept.subsets, [code, code + 1]).tolist()
            kept, extremes = kept.between(start, stop), [self._extremes[code]]
        a, b, scored = kept.a[:, metric], kept.b[:, metric], kept.scored[:, metric]
        both = np.isfinite(a) & np.isfinite(b)
        effect = paired_effect(a[both], b[both], _clusters(kept.groups[both]))
        only_b, only_a, neither = (int(np.count_nonzero(scored == value)) for value in (2, 1, 0))
        bounds = reduce(_Extremes.merge, extremes).bounds(metric, len(a))
        return Compared(effect, LeftOut(only_b, only_a, neither), bounds)

    def flips(self) -> Flips:
        """Where the first metric differs: the largest differences first, then in the order of A."""
        values, rows = (np.concatenate(part) for part in zip(*self._flips, strict=True))
        order = np.lexsort((rows[:, 0], -np.abs(values[:, 1] - values[:, 0])))
        return Flips(values[order], rows[order])


def _clusters(groups: npt.NDArray[np.int32]) -> Whole | None:
    if not len(groups) or groups.max() < 0:
        return None
    return np.where(groups < 0, -1 - np.arange(len(groups)), groups)


def pair(a: BinaryIO, b: BinaryIO, how: Reading, *, zero: bool) -> Pairs:
    """Joins two results files by sample.

    Args:
        a: The baseline's.
        b: The other run's.
        how: What is read of both.
        zero: Whether what has no score counts as 0; otherwise its pair is left out.
    """
    pairs = Pairs(how.subsets.of, zero=zero)
    mine, theirs = Side(read_samples(a, how)), Side(read_samples(b, how))
    for matched in join(mine, theirs):
        pairs.add(matched)
    pairs.only_a, pairs.only_b = len(mine.waiting), len(theirs.waiting)
    return pairs
