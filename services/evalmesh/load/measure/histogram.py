"""A mergeable histogram of times with a bounded relative error: a DDSketch of fixed accuracy.

Buckets grow geometrically, so that any quantile is within `RELATIVE_ERROR` of an actual value, and two histograms are
merged by adding counts: the merged one is the one that a single process would have recorded. (Masson, Rim, Lee:
DDSketch, VLDB 2019; the mapping is its plain logarithmic one.)
"""

import math
import struct
from collections.abc import Iterable, Sequence
from itertools import accumulate

RELATIVE_ERROR = 0.005
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_PER_LOG = 1 / math.log(_GAMMA)
_SMALLEST_S = 1e-6
"""Shorter times, and negative ones, are counted as this: clocks do not tell them apart."""
_LOWEST = math.ceil(math.log(_SMALLEST_S) * _PER_LOG)
_HEAD = struct.Struct("<dddI")
_ceil, _log = math.ceil, math.log


class Histogram:
    """Counts of times in seconds."""

    __slots__ = ("counts", "max", "min", "n", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        """By bucket: bucket i holds values in (gamma^(i-1), gamma^i]."""
        self.n = 0
        self.total = 0.0
        """Sum of the values, exact."""
        self.min = math.inf
        self.max = -math.inf

    def add(self, value_s: float, times: int = 1) -> None:
        """Records a time, `times` times over."""
        bucket = _ceil(_log(value_s) * _PER_LOG) if value_s > _SMALLEST_S else _LOWEST
        counts = self.counts
        if bucket in counts:
            counts[bucket] += times
        else:
            counts[bucket] = times
        self.n += times
        self.total += value_s * times
        if value_s < self.min:  # noqa: PLR1730 - a call costs more, and this runs several times per request
            self.min = value_s
        if value_s > self.max:  # noqa: PLR1730
            self.max = value_s

    def add_all(self, values_s: Sequence[float]) -> None:
        """Records each of the times; in a third of the time that as many calls of `add` take."""
        if len(values_s) == 0:  # an array has no truth value
            return
        counts = self.counts
        get, log, ceil = counts.get, _log, _ceil
        for value_s in values_s:
            bucket = ceil(log(value_s) * _PER_LOG) if value_s > _SMALLEST_S else _LOWEST
            counts[bucket] = get(bucket, 0) + 1
        self.n += len(values_s)
        self.total += sum(values_s)
        self.min = min(self.min, *values_s)
        self.max = max(self.max, *values_s)

    def merge(self, other: "Histogram") -> None:
        """Adds what the other one has counted."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.n += other.n
        self.total += other.total
        self.min = min(self.min, other.min)
        self.max = max(self.max, other.max)

    @property
    def mean(self) -> float:
        """Exact; NaN when nothing was recorded."""
        return self.total / self.n if self.n else math.nan

    def quantile(self, q: float) -> float:
        """The value at rank `q * (n - 1)`, within `RELATIVE_ERROR`; NaN when nothing was recorded."""
        return self.quantiles((q,))[0]

    def quantiles(self, qs: Iterable[float]) -> list[float]:
        """Several quantiles at once, in their order."""
        wanted = list(qs)
        if not self.n:
            return [math.nan] * len(wanted)
        found = dict.fromkeys(wanted, self.max)
        order = sorted(found)
        seen, at = 0, 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            while at < len(order) and order[at] * (self.n - 1) < seen:
                middle = 2 * _GAMMA**bucket / (_GAMMA + 1)
                found[order[at]] = min(max(middle, self.min), self.max)
                at += 1
        return [found[q] for q in wanted]

    def beyond(self, value_s: float) -> int:
        """How many values are above this one, but for those in its own bucket."""
        if value_s <= _SMALLEST_S:
            return self.n
        edge = _ceil(_log(value_s) * _PER_LOG)
        return sum(count for bucket, count in self.counts.items() if bucket > edge)

    def encode(self) -> bytes:
        """Compact bytes; empty when nothing was recorded. Runs of neighbouring buckets cost a byte or two each."""
        if not self.n:
            return b""
        buckets = sorted(self.counts)
        body = bytearray(_HEAD.pack(self.total, self.min, self.max, len(buckets)))
        last = 0
        for position, bucket in enumerate(buckets):
            # The first bucket may be negative; later ones only grow.
            gap = _zigzag(bucket) if position == 0 else bucket - last
            _write_varint(body, gap)
            _write_varint(body, self.counts[bucket])
            last = bucket
        return bytes(body)

    @classmethod
    def decode(cls, data: bytes) -> "Histogram":
        """The histogram behind `encode`. Raises `ValueError` for bytes that are none."""
        histogram = cls()
        if not data:
            return histogram
        try:
            histogram.total, histogram.min, histogram.max, length = _HEAD.unpack_from(data)
            numbers = _read_varints(data[_HEAD.size :], 2 * length)
            numbers[0] = _unzigzag(numbers[0])
            counts = numbers[1::2]
            histogram.counts = dict(zip(accumulate(numbers[::2]), counts, strict=True))
            histogram.n = sum(counts)
        except (struct.error, IndexError) as error:
            raise ValueError(f"These {len(data)} bytes are no histogram.") from error
        return histogram

    @classmethod
    def merged(cls, parts: Iterable["Histogram"]) -> "Histogram":
        """One histogram of all parts."""
        whole = cls()
        for part in parts:
            whole.merge(part)
        return whole


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _unzigzag(value: int) -> int:
    return value >> 1 if not value & 1 else -(value + 1 >> 1)


def _write_varint(target: bytearray, value: int) -> None:
    while value > 0x7F:
        target.append(value & 0x7F | 0x80)
        value >>= 7
    target.append(value)


def _read_varints(data: bytes, length: int) -> list[int]:
    """So many numbers, and all there are; in one loop, since a report reads thousands of histograms."""
    numbers = []
    value = shift = 0
    for byte in data:
        if byte < 0x80:
            numbers.append(value | byte << shift)
            value = shift = 0
        else:
            value |= (byte & 0x7F) << shift
            shift += 7
    if shift or len(numbers) != length:
        raise IndexError(length)
    return numbers
