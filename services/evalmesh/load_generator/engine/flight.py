"""One request between its schedule and its record, and what its token times say."""

import math
from array import array
from collections.abc import Sequence
from operator import sub
from typing import NamedTuple

from evalmesh.load.exchange import Exchange
from evalmesh.load.measure.records import NAN
from evalmesh.load_generator.apis.base import Reader
from evalmesh.load_generator.engine.feed import Frame


class Flight(Exchange):
    """A request that was sent."""

    __slots__ = (
        "dialogue", "due_s", "frame", "max_tokens", "prepared_tokens", "slot", "told_first", "told_tokens", "turn",
    )  # fmt: skip

    reader: Reader

    def __init__(self, frame: Frame, body: bytes, reader: Reader, due_s: float) -> None:
        super().__init__(body, reader)
        self.frame = frame
        self.due_s = due_s
        """Since the level's start."""
        self.turn = 0
        self.max_tokens = frame.max_tokens
        self.prepared_tokens = frame.prepared_tokens
        self.dialogue: object = None
        """The conversation this is a turn of."""
        self.told_first = False
        """A tick had its first token."""
        self.told_tokens = 0
        """Tokens that ticks had."""


class AnswerGaps(NamedTuple):
    """The times between the chunks of one answer."""

    chunk: list[float]
    token: list[tuple[float, int]] | None
    """Gap divided by the tokens it carried, and how many those were; `None`: the same gaps, each chunk is a token."""
    mean_s: float
    p99_s: float
    max_s: float
    chunk_max_s: float


NO_GAPS = AnswerGaps([], None, NAN, NAN, NAN, NAN)


def answer_gaps(reader: Reader, output_tokens: int) -> AnswerGaps:
    """Gaps of an answer of so many tokens; of one chunk there are none."""
    times = reader.times
    if len(times) < 2:
        return NO_GAPS
    if times[0] == times[-1]:
        # All came in one packet.
        return AnswerGaps([0.0] * (len(times) - 1), None, 0.0, 0.0, 0.0, 0.0)
    gaps = list(map(sub, times[1:], times))
    mean_s = (times[-1] - times[0]) / max(1, output_tokens - 1)
    carried = carried_tokens(reader, output_tokens)
    if carried is None:
        ordered = sorted(gaps)
        p99_s, longest_s = ordered[math.ceil(0.99 * (len(ordered) - 1))], ordered[-1]
        return AnswerGaps(gaps, None, mean_s, p99_s, longest_s, longest_s)
    # The gap before a chunk belongs to all its tokens; the first chunk has none before it.
    tokens = [(gap / count, count) for gap, count in zip(gaps, carried[1:], strict=True)]
    p99_s, longest_s = _p99_and_max(tokens)
    return AnswerGaps(gaps, tokens, mean_s, p99_s, longest_s, max(gaps))


def _p99_and_max(tokens: list[tuple[float, int]]) -> tuple[float, float]:
    ordered = sorted(tokens)
    left = sum(count for _, count in ordered) - 1
    rank = math.ceil(0.99 * left)
    for value_s, count in ordered:
        rank -= count
        if rank < 0:
            return value_s, ordered[-1][0]
    return ordered[-1][0], ordered[-1][0]


def carried_tokens(reader: Reader, output_tokens: int) -> Sequence[int] | None:
    """Tokens of each chunk by the rule `apis.base.Reader` states; `None`: one each."""
    chunks = len(reader.times)
    marks = reader.marks
    if marks is not None and len(marks) == chunks:
        tokens = [max(1, mark) for mark in (marks[0], *map(sub, marks[1:], marks))]
        return tokens if any(count != 1 for count in tokens) else None
    surplus = output_tokens - chunks
    if surplus <= 0 or (surplus == 1 and reader.stopped):
        return None
    return _strides(chunks, output_tokens, stopped=reader.stopped) or _shared(reader.sizes, surplus)


def _strides(chunks: int, tokens: int, *, stopped: bool) -> list[int] | None:
    """Equally many in each chunk and the rest in the last one, where that is possible."""
    unseen = int(stopped and (tokens - 1) % chunks == 0)
    each = -(-(tokens - unseen) // chunks)
    rest = tokens - unseen - each * (chunks - 1)
    return [each] * (chunks - 1) + [rest] if rest > 0 else None


def _shared(sizes: "array[int]", surplus: int) -> list[int]:
    """One for each, and the surplus in proportion to the sizes: what the rounded running sum grows by."""
    total = sum(sizes)
    tokens, run, before = [], 0, 0
    for size in sizes:
        run += size
        # Half up, in whole numbers.
        now = (2 * surplus * run + total) // (2 * total)
        tokens.append(1 + now - before)
        before = now
    return tokens
