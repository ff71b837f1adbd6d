"""Two results files of one benchmark, joined by sample as they stream."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from evalmesh.results.comparing.sampled import Numbers, Samples, Whole

_Row = tuple[Numbers, Whole]


class Matched(NamedTuple):
    """Samples of both files, side by side: `Samples.values` and `Samples.facts`."""

    a: Numbers
    b: Numbers
    facts_a: Whole
    facts_b: Whole


class Side:
    """A stream of samples, and those of it that wait for their other half."""

    def __init__(self, batches: Iterator[Samples]) -> None:
        self._batches = batches
        self._now: Samples | None = None
        self.waiting: dict[str, _Row] = {}

    def ahead(self) -> Samples | None:
        """What comes next; `None` at the end."""
        while self._now is None or not len(self._now):
            self._now = next(self._batches, None)
            if self._now is None:
                return None
        return self._now

    def skip(self, count: int) -> None:
        """Goes past the first ones of what is ahead."""
        self._now = self._now and self._now.part(count, len(self._now))

    def meet(self, some: Samples, other: "Side") -> tuple[Whole, list[_Row]]:
        """Which of some samples the other side has met before, and what it kept of them; the others wait here."""
        places: list[int] = []
        found: list[_Row] = []
        for at, sample_id in enumerate(some.ids.to_pylist()):
            match = other.waiting.pop(sample_id, None)
            if match is None:
                self.waiting[sample_id] = (some.values[at].copy(), some.facts[at].copy())
            else:
                places.append(at)
                found.append(match)
        return np.array(places, dtype=np.int64), found


def join(a: Side, b: Side) -> Iterator[Matched]:
    """The samples of both, in batches.

    Files of one plan have one order: they are compared batch by batch, and nothing waits. Where the orders differ or
    one side has more, what is met first waits with its numbers; never with its texts.
    """
    while (left := a.ahead()) is not None and (right := b.ahead()) is not None:
        count = alike = min(len(left), len(right))
        ours, theirs = left.part(0, count), right.part(0, count)
        if not ours.ids.equals(theirs.ids):
            alike = pc.index(pc.not_equal(ours.ids, theirs.ids), value=True).as_py()
        if alike:
            yield Matched(ours.values[:alike], theirs.values[:alike], ours.facts[:alike], theirs.facts[:alike])
        if alike < count:
            yield from _met(ours.part(alike, count), a, b, swapped=False)
            yield from _met(theirs.part(alike, count), b, a, swapped=True)
        a.skip(count)
        b.skip(count)
    for side, other, swapped in ((a, b, False), (b, a, True)):
        while (rest := side.ahead()) is not None:
            yield from _met(rest, side, other, swapped=swapped)
            side.skip(len(rest))


def _met(some: Samples, side: Side, other: Side, *, swapped: bool) -> Iterator[Matched]:
    places, found = side.meet(some, other)
    if found:
        values, facts = np.stack([one[0] for one in found]), np.stack([one[1] for one in found])
        mine = some.values[places], some.facts[places]
        yield (Matched(values, mine[0], facts, mine[1]) if swapped else Matched(mine[0], values, mine[1], facts))
