"""From rows to planned samples: which rows, in what form, asked how. Pure; rows come from whoever read them.

Limits count rows per subset, malformed ones included, so that a limit says how large the denominator is:
an int takes so many rows, a float in (0, 1] that fraction, rounded up, so that no subset falls out silently.
Shuffling decides which rows a limit takes, not their order, which stays the file's: so nothing has to be held.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from math import ceil
from random import Random

from evalmesh.benchmarks.base import Benchmark, NumberedRow, PromptSettings, RowContext
from evalmesh.benchmarks.columns import Headings
from evalmesh.benchmarks.media import MediaSink
from evalmesh.benchmarks.shapes.multiple_choice import shuffle_choices
from evalmesh.benchmarks.spec import few_shot_num, selected_subsets
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.run import BenchmarkSpec
from evalmesh.domain.sample import WHERE, Sample
from evalmesh.domain.shard_data import PlannedSample


@dataclass(frozen=True, slots=True)
class RowSource:
    """Rows that can be read, each time from the first one."""

    read: Callable[[], Iterator[NumberedRow]]
    marks: Callable[[], Iterator[None]] | None = None
    """One for each row: fractions and shuffling need their number first, which may cost less than their content."""
    media: MediaSink = field(default_factory=MediaSink)
    """Where the bytes of media go that rows bring, if they become samples."""
    headings: Headings = field(default_factory=lambda: Headings((), {}))
    """What the columns are called here and there."""


@dataclass(frozen=True, slots=True)
class MalformedRow:
    """A row that cannot become a sample; it becomes an errored sample of the report."""

    subset: str
    index: int
    reason: str

    def __str__(self) -> str:
        return f"{self.subset}/{self.index}: {self.reason}"


def iter_samples(
    benchmark: Benchmark, spec: BenchmarkSpec, rows: RowSource, subset: str, limit: float | None, seed: int
) -> Iterator[Sample | MalformedRow]:
    """The selected rows of one subset as samples, in file order. `spec.limit` goes before `limit`, the run's."""
    wanted = limit if spec.limit is None else spec.limit

    def of_subset() -> Iterator[NumberedRow]:
        return _of_subset(benchmark, spec, rows.read(), subset)

    def marks() -> Iterator[object]:
        return of_subset() if rows.marks is None or benchmark.dataset.subset_column else rows.marks()

    for row in select(of_subset, marks, wanted, f"{seed}/{subset}" if spec.shuffle else None):
        context = RowContext(subset, row.number, rows.media.fresh())
        sample = _to_sample(benchmark, row, rows.headings, context)
        if isinstance(sample, Sample):
            rows.media.adopt(context.media)
        if isinstance(sample, Sample) and spec.shuffle_choices:
            sample = shuffle_choices(sample, seed)
        if isinstance(sample, Sample) and benchmark.needs_local_path and row.where:
            sample = replace(sample, metadata={**sample.metadata, WHERE: row.where})
        yield sample


def choose_shots(
    benchmark: Benchmark, spec: BenchmarkSpec, rows: RowSource, subset: str, seed: int
) -> tuple[Sample, ...]:
    """The solved examples of one subset: the first ones, or with `few_shot_random` a seeded choice, in file order.

    Malformed rows are passed over. Raises `InvalidInput` when there are fewer rows than examples wanted.
    """
    wanted = few_shot_num(benchmark, spec)
    if wanted == 0:
        return ()

    def usable() -> Iterator[tuple[Sample, MediaSink]]:
        for row in _of_subset(benchmark, spec, rows.read(), subset):
            context = RowContext(subset, row.number, rows.media.fresh())
            if isinstance(sample := _to_sample(benchmark, row, rows.headings, context), Sample):
                yield sample, context.media

    chosen = (
        _reservoir(usable(), wanted, f"{seed}/shots/{subset}")
        if spec.few_shot_random
        else list(islice(usable(), wanted))
    )
    for _, brought in chosen:
        rows.media.adopt(brought)
    shots = tuple(sample for sample, _ in chosen)
    if len(shots) < wanted:
        raise InvalidInput(
            f"Benchmark '{benchmark.name}' is to show {wanted} solved examples (few_shot_num), but the few-shot split "
            f"of subset '{subset}' holds only {len(shots)} usable rows; lower few_shot_num or name another "
            "few_shot_split.",
            {"field": "few_shot_num", "value": str(wanted)},
        )
    return shots


def render(benchmark: Benchmark, settings: PromptSettings, sample: Sample) -> PlannedSample:
    """The sample with its prompt; `digests` stays empty, for the planner to fill, one per repeat."""
    prompt = benchmark.shape.render(sample, settings)
    return PlannedSample(
        sample=sample,
        kind=settings.kind,
        digests=(),
        messages=prompt.messages,
        prompt=prompt.text,
        continuations=prompt.continuations,
        tools=prompt.tools,
        tool_choice=prompt.tool_choice,
        rolling=prompt.rolling,
        contexts=prompt.contexts,
        followups=prompt.followups,
    )


def limit_count(limit: float | None, total: int) -> int:
    """How many of `total` rows a limit takes; a fraction is rounded up, computed on its decimal digits."""
    if limit is None:
        return total
    if isinstance(limit, int):
        return min(limit, total)
    return min(ceil(Fraction(repr(limit)) * total), total)


def select(
    rows: Callable[[], Iterator[NumberedRow]],
    marks: Callable[[], Iterator[object]],
    limit: float | None,
    shuffle_seed: str | None,
) -> Iterator[NumberedRow]:
    """The rows a limit takes, in order: the first ones or, with a seed, a random choice; `marks` are one for each row.

    Memory does not grow with the rows: the choice is Knuth's selection sampling (TAOCP vol. 2, 3.4.2, algorithm S),
    which needs the number of rows and nothing else.
    """
    if limit is None:
        yield from rows()
        return
    if isinstance(limit, int) and shuffle_seed is None:
        yield from islice(rows(), limit)
        return
    total = sum(1 for _ in marks())
    wanted = limit_count(limit, total)
    if shuffle_seed is None:
        yield from islice(rows(), wanted)
        return
    rng = Random(shuffle_seed)  # noqa: S311 - a reproducible choice, no secret
    for seen, row in enumerate(rows()):
        if wanted == 0:
            return
        if rng.random() * (total - seen) < wanted:
            wanted -= 1
            yield row


def _of_subset(
    benchmark: Benchmark, spec: BenchmarkSpec, rows: Iterator[NumberedRow], subset: str
) -> Iterator[NumberedRow]:
    """Drops other subsets' rows from a shared file; a row that tells no subset counts for the first one selected."""
    column = benchmark.dataset.subset_column
    if not column:
        yield from rows
        return
    first = selected_subsets(benchmark, spec)[0] == subset
    for row in rows:
        known = None if isinstance(row.row, str) else row.row.get(column)
        if known == subset or (first and known not in benchmark.subsets):
            yield row


def _to_sample(
    benchmark: Benchmark, row: NumberedRow, headings: Headings, context: RowContext
) -> Sample | MalformedRow:
    if isinstance(row.row, str):
        return MalformedRow(context.subset, context.index, _at(row, row.row))
    try:
        renamed = headings.of(row.row)
        column = benchmark.dataset.subset_column
        if not column or renamed.get(column) == context.subset:
            return benchmark.to_sample(renamed, context)
        reason = f"column '{column}' names no subset: {renamed.get(column)!r}"
    except KeyError as error:
        reason = f"column {error} is missing"
    except (LookupError, ValueError, TypeError) as error:
        reason = str(error)
    return MalformedRow(context.subset, context.index, _at(row, headings.as_in_file(row.row, reason)))


def _at(row: NumberedRow, reason: str) -> str:
    return f"{row.where}: {reason}" if row.where else reason


def _reservoir(samples: Iterator[tuple[Sample, MediaSink]], wanted: int, seed: str) -> list[tuple[Sample, MediaSink]]:
    """A uniform choice in one pass (algorithm R), sorted back into file order; media of the others are let go."""
    rng = Random(seed)  # noqa: S311 - a reproducible choice, no secret
    kept: list[tuple[Sample, MediaSink]] = []
    for seen, one in enumerate(samples):
        if seen < wanted:
            kept.append(one)
            continue
        place = int(rng.random() * (seen + 1))
        if place < wanted:
            kept[place] = one
    return sorted(kept, key=lambda one: one[0].index)
