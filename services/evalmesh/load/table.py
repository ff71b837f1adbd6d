"""Many request records at once: a numpy array whose bytes are those of the file."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from evalmesh.domain.errors import InvalidInput
from evalmesh.load.records import FIELDS, HEADER, MAGIC, RECORD, Flag, Outcome, error_class

_CODES = {"B": "u1", "H": "<u2", "I": "<u4", "d": "<f8", "f": "<f4"}
DTYPE = np.dtype([(name, _CODES[code]) for name, code in FIELDS])
"""Field for field the same bytes as `records.RECORD`."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Records = NDArray[np.void]
"""Of `DTYPE`."""


def empty() -> Records:
    """No record."""
    return np.zeros(0, DTYPE)


def read_records(data: bytes) -> Records:
    """The records of a file. A last record that is cut, because its writer died, is left out.

    Raises `InvalidInput` for bytes that are no file of records, or one of another version.
    """
    if len(data) < HEADER.size:
        # The writer died before its first flush, which is no reason to lose the other generators' records.
        if MAGIC.startswith(data[: len(MAGIC)]):
            return empty()
        raise InvalidInput(f"These {len(data)} bytes are no file of request records.")
    magic, size = HEADER.unpack_from(data)
    if magic != MAGIC or size != RECORD.size:
        raise InvalidInput(
            f"This is no file of request records: it begins with {bytes(magic)!r} and records of {size} bytes, "
            f"expected are {MAGIC!r} and {RECORD.size}. Was it written by another version?"
        )
    whole = (len(data) - HEADER.size) // RECORD.size
    return np.frombuffer(data, DTYPE, count=whole, offset=HEADER.size)


def concatenate(parts: Iterable[Records]) -> Records:
    """The records of several generators, in order of when they were due."""
    kept = [part for part in parts if len(part)]
    if not kept:
        return empty()
    records = np.concatenate(kept) if len(kept) > 1 else kept[0]
    due = records["due_s"]
    if np.all(due[1:] >= due[:-1]):
        return records
    return records[np.argsort(due, kind="stable")]


def is_warmup(records: Records) -> Flags:
    """Which records no figure includes."""
    found: Flags = (records["flags"] & Flag.WARMUP) != 0
    return found


def is_ok(records: Records) -> Flags:
    """Which requests succeeded."""
    found: Flags = records["outcome"] == Outcome.OK
    return found


def was_sent(records: Records) -> Flags:
    """Which requests left the client."""
    outcome = records["outcome"]
    found: Flags = (outcome != Outcome.UNSENT) & (outcome != Outcome.SKIPPED)
    return found


def by_class(records: Records) -> dict[str, int]:
    """Failed requests that were sent, by class, the most frequent class first."""
    failed = records[was_sent(records) & ~is_ok(records)]
    codes = failed["outcome"].astype(np.int64) << 16 | np.where(failed["outcome"] == Outcome.HTTP, failed["status"], 0)
    kinds, counts = np.unique(codes, return_counts=True)
    named = [
        (error_class(int(kind) >> 16, int(kind) & 0xFFFF), int(count))
        for kind, count in zip(kinds, counts, strict=True)
    ]
    return dict(sorted(named, key=lambda item: (-item[1], item[0])))
