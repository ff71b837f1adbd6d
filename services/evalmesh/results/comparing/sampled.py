"""The results of one benchmark as one value per sample and metric, read as a stream."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from evalmesh.results.table import SCORE_PREFIX
from evalmesh.scoring.statistics import majority_at_k, pass_at_k, pass_hat_k
from evalmesh.scoring.tally import AMOUNTS, MetricRule, ballot

Numbers = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

_ROWS = 65_536
_ROWS_WITH_TEXT = 1024
"""Inputs may be long."""
SUBSET, ROW, ROWS, GROUP, CONTENT = range(5)
"""Columns of `Samples.facts`."""


class Codes:
    """A number for each name, the same on both sides of a comparison."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}

    def encode(self, column: pa.Array) -> Whole:
        """A number per value; -1 for null."""
        encoded = column.dictionary_encode()
        table = [self.of.setdefault(name, len(self.of)) for name in encoded.dictionary.to_pylist()]
        places = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        codes: Whole = np.array([*table, -1], dtype=np.int64)[places]
        return codes


@dataclass(frozen=True, slots=True)
class Samples:
    """Some samples in the order of the file."""

    ids: pa.Array
    values: Numbers
    """[sample, metric, 3]: the value over what has a score (NaN: nothing has), and if all else were 0, or 1."""
    facts: Whole
    """[sample, 5]: subset, first row, number of rows, group, hash of what was asked."""

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, start: int, stop: int) -> "Samples":
        """Those from `start` to before `stop`."""
        return Samples(self.ids.slice(start, stop - start), self.values[start:stop], self.facts[start:stop])


@dataclass(frozen=True, slots=True)
class Reading:
    """How both files of a comparison are read."""

    rules: Sequence[MetricRule]
    with_content: bool
    """Whether what was asked is compared: where the data set's digest does not vouch for it."""
    subsets: Codes
    groups: Codes


def read_samples(file: BinaryIO, how: Reading) -> Iterator[Samples]:
    """Holds one batch of rows in memory."""
    with pq.ParquetFile(file) as table:
        there = set(table.schema_arrow.names)
        wanted = ["subset", "sample_id", "state", "group", *(SCORE_PREFIX + rule.score_key for rule in how.rules)]
        wanted += ["answer"] if any(rule.kind == "majority_at_k" for rule in how.rules) else []
        wanted += ["input", "target"] if how.with_content else []
        wanted += ["other_scores"] if any(SCORE_PREFIX + rule.score_key not in there for rule in how.rules) else []
        size = _ROWS_WITH_TEXT if how.with_content else _ROWS
        columns = list(dict.fromkeys(name for name in wanted if name in there))
        first, left = 0, None
        for batch in table.iter_batches(batch_size=size, columns=columns):
            if not batch.num_rows:
                continue
            rows = batch if left is None else _one(pa.Table.from_batches([left, batch]))
            starts = _starts(rows.column("sample_id"))
            # The repeats of the last sample may go on in the next batch.
            whole = int(starts[-1])
            left = rows.slice(whole)
            if whole:
                yield _samples(rows.slice(0, whole), starts[:-1], first, how)
            first += whole
        if left is not None:
            yield _samples(left, np.zeros(1, dtype=np.int64), first, how)


def _one(table: pa.Table) -> pa.RecordBatch:
    return table.combine_chunks().to_batches()[0]


def _starts(ids: pa.Array) -> Whole:
    """Where each sample begins: its repeats are rows one after the other."""
    new = pc.not_equal(ids.slice(1), ids.slice(0, max(0, len(ids) - 1))).to_numpy(zero_copy_only=False)
    return np.concatenate(([0], np.flatnonzero(new) + 1)).astype(np.int64)


def _samples(rows: pa.RecordBatch, starts: Whole, first: int, how: Reading) -> Samples:
    sizes = np.diff(np.append(starts, rows.num_rows))
    values = np.empty((len(starts), len(how.rules), 3))
    scored = pc.equal(rows.column("state"), "scored").to_numpy(zero_copy_only=False)
    for at, rule in enumerate(how.rules):
        scores = np.where(scored, _column(rows, rule.score_key), np.nan)
        scores = np.where(np.isfinite(scores), scores, np.nan)
        if rule.kind in {"mean", *AMOUNTS}:
            values[:, at] = _means(scores, starts, sizes)
            if rule.kind in AMOUNTS:  # Nothing is the worst or the best, and nothing can stand for what is missing.
                values[:, at, 1], values[:, at, 2] = values[:, at, 0], np.inf
        else:
            answers = rows.column("answer").to_pylist() if rule.kind == "majority_at_k" else None
            spans = zip(starts.tolist(), sizes.tolist(), strict=True)
            values[:, at] = [_of_repeats(rule, scores[s : s + n], answers and answers[s : s + n]) for s, n in spans]
    facts = np.full((len(starts), 5), -1, dtype=np.int64)
    facts[:, SUBSET] = how.subsets.encode(rows.column("subset"))[starts]
    facts[:, ROW], facts[:, ROWS] = starts + first, sizes
    if "group" in rows.schema.names:
        facts[:, GROUP] = how.groups.encode(rows.column("group"))[starts]
    if how.with_content:
        asked = zip(rows.column("input").to_pylist(), rows.column("target").to_pylist(), strict=True)
        facts[:, CONTENT] = np.array([hash((text, *(target or ()))) for text, target in asked], dtype=np.int64)[starts]
    return Samples(rows.column("sample_id").take(pa.array(starts)), values, facts)


def _column(rows: pa.RecordBatch, key: str) -> Numbers:
    if SCORE_PREFIX + key in rows.schema.names:
        found: Numbers = pc.cast(rows.column(SCORE_PREFIX + key), pa.float64()).to_numpy(zero_copy_only=False)
        return found
    if "other_scores" not in rows.schema.names:
        return np.full(rows.num_rows, np.nan)
    others = (json.loads(text) if text else {} for text in rows.column("other_scores").to_pylist())
    return np.array([other.get(key) if other.get(key) is not None else np.nan for other in others], dtype=np.float64)


def _means(scores: Numbers, starts: Whole, sizes: Whole) -> Numbers:
    there = np.isfinite(scores)
    sums = np.add.reduceat(np.where(there, scores, 0.0), starts)
    counts = np.add.reduceat(there.astype(np.int64), starts)
    with np.errstate(invalid="ignore"):
        value = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return np.stack((value, sums / sizes, (sums + sizes - counts) / sizes), axis=1)


def _of_repeats(rule: MetricRule, scores: Numbers, answers: Sequence[Any] | None) -> tuple[float, float, float]:
    """Value of one sample under a metric of k tries; where tries are missing, all else is unknown."""
    have = [at for at, score in enumerate(scores) if math.isfinite(score)]
    n, right = len(have), sum(scores[at] == 1 for at in have)
    if answers is not None:
        value = float(majority_at_k([(ballot(answers[at]), Fraction(scores[at])) for at in have])) if have else math.nan
    else:
        estimate, k = (pass_at_k if rule.kind == "pass_at_k" else pass_hat_k), rule.k or len(scores)
        value = float(estimate(n, right, k)) if n >= k else math.nan
    return (value, value, value) if n == len(scores) else (value, 0.0, 1.0)
