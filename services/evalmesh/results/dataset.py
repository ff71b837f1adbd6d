"""One benchmark's data set in one run: its files, pinned; its subsets; its rows as planned samples."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from evalmesh.benchmarks.base import Benchmark, NumberedRow
from evalmesh.benchmarks.columns import Headings
from evalmesh.benchmarks.media import MediaSink
from evalmesh.benchmarks.query import DatasetQuery, query_for
from evalmesh.benchmarks.samples import MalformedRow, RowSource, choose_shots, iter_samples, render
from evalmesh.benchmarks.spec import few_shot_num, selected_subsets
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.hub import DatasetOrigin
from evalmesh.domain.plan import DatasetSources, PinnedFile
from evalmesh.domain.run import BenchmarkSpec, RunSpec
from evalmesh.domain.sample import Sample
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.ports.dataset_source import DatasetSource
from evalmesh.ports.hubs import HubDataset, Note
from evalmesh.ports.object_store import ObjectStore
from evalmesh.wire.pinned_files import put_file
from evalmesh.wire.runs.benchmarks import Preview, preview_of

T = TypeVar("T")
_LOOK_EVERY = 256
_MOST_LOOKED_AT = 1000
"""Rows without a usable one before a file is refused."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class SubsetFiles:
    """Where the rows of one subset are."""

    name: str
    rows: tuple[Path, ...]
    shots: tuple[Path, ...]


class RunDataset:
    """The data set of one benchmark under one run spec. Raises `NotFound` and `InvalidInput` as found."""

    def __init__(self, source: DatasetSource, benchmark: Benchmark, spec: BenchmarkSpec, run: RunSpec) -> None:
        """Of a hub's data set the files may have to be brought before they can be read."""
        self._source = source
        self._hub = source if isinstance(source, HubDataset) else None
        self.benchmark = benchmark.for_spec(spec)
        self.media = MediaSink()
        """Bytes that planned samples refer to, for whoever iterates over `planned` to store before anything else."""
        self.spec = spec
        self.headings = Headings(benchmark.columns, spec.form.columns)
        """What the files call the benchmark's columns; its notes grow as rows are read."""
        self._run = run
        self.subsets = self._locate()

    def _query(self, subset: str = "", *, few_shot: bool = False) -> DatasetQuery:
        return query_for(
            self.benchmark,
            self.spec,
            subset,
            dataset_dir=self._run.dataset_dir,
            dataset_hub=self._run.dataset_hub,
            few_shot=few_shot,
        )

    def _locate(self) -> tuple[SubsetFiles, ...]:
        found = () if self.benchmark.subsets else self._source.subsets(self._query())
        located = []
        for name in selected_subsets(self.benchmark, self.spec, found):
            rows = self._source.resolve(self._query(name))
            shots: Sequence[Path] = ()
            if few_shot_num(self.benchmark, self.spec):
                shots = self._source.resolve(self._query(name, few_shot=True))
            located.append(SubsetFiles(name, tuple(rows), tuple(shots)))
        return tuple(located)

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys(path for one in self.subsets for path in (*one.rows, *one.shots)))

    def sources(self) -> DatasetSources:
        """The files with their sums. Reads them all."""
        digest = hashlib.sha256()
        known = {path: PinnedFile(name, _sha256_file(path), path.stat().st_size) for name, path in self.named_files}
        for subset in self.subsets:
            for path in (*subset.rows, *subset.shots):
                digest.update(f"{subset.name}\0{known[path].sha256}\n".encode())
        return DatasetSources(digest.hexdigest(), tuple(known.values()), self.origin)

    async def pin(self, store: ObjectStore, sources: DatasetSources) -> None:
        """Copies every file into the store, once."""
        for path, pinned in zip(self.files, sources.files, strict=True):
            await put_file(store, pinned.sha256, path)

    @property
    def origin(self) -> DatasetOrigin | None:
        """The hub that the rows are from; `None`: they were here."""
        return self._hub.origin if self._hub is not None else None

    @property
    def hub_folder(self) -> Path | None:
        """Where the files of a hub are, or will be."""
        return self._hub.folder if self._hub is not None else None

    def _name_of(self, path: Path) -> str:
        return self._hub.name_of(path) if self._hub is not None else path.name

    @property
    def named_files(self) -> Sequence[tuple[str, Path]]:
        """Each file with its name within the data set."""
        return [(self._name_of(path), path) for path in self.files]

    @property
    def missing(self) -> Sequence[Path]:
        """Files that have still to be brought."""
        return self._hub.missing(self.files) if self._hub is not None else ()

    async def bring(self, note: Note | None = None) -> None:
        """Has all files on this machine. Errors are those of `ports.hubs.HubDataset.bring`."""
        if self._hub is not None:
            await self._hub.bring(self.files, note)

    def _rows(self, files: Sequence[Path], stop: Callable[[], None] | None = None) -> RowSource:
        columns = self.benchmark.dataset.columns

        def read() -> Iterator[NumberedRow]:
            return _watching(self._source.rows(files, columns, self.spec.form, self._note), stop)

        def marks() -> Iterator[None]:
            return _watching(self._source.marks(files, columns, self.spec.form), stop)

        return RowSource(read, marks, MediaSink(partial(self._source.read_media, files)), self.headings)

    def _note(self, text: str) -> None:
        self.headings.notes[text] = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was guessed of the files that were read, for people."""
        return tuple(self.headings.notes)

    def planned(
        self, subset: SubsetFiles, sample_count: int | None = None, stop: Callable[[], None] | None = None
    ) -> Iterator[PlannedSample | MalformedRow]:
        """Samples of a subset, rendered, in order; digests are left empty.

        Args:
            subset: Which.
            sample_count: At most so many, whatever the spec says.
            stop: Called every few rows that are read; it raises when they are not wanted any more.
        """
        return self._planned(self.spec, subset, sample_count, stop)

    def _planned(
        self,
        spec: BenchmarkSpec,
        subset: SubsetFiles,
        sample_count: int | None,
        stop: Callable[[], None] | None = None,
    ) -> Iterator[PlannedSample | MalformedRow]:
        seed = self._run.seed
        solved = self._rows(subset.shots)
        shots = choose_shots(self.benchmark, self.spec, solved, subset.name, seed)
        self.media.adopt(solved.media)
        settings = self.benchmark.prompt_settings(self.spec, shots, self._run.model.kind)
        limit = self._run.limit if sample_count is None else sample_count
        spec = spec if sample_count is None else replace(spec, limit=None)
        rows = self._rows(subset.rows, stop)
        for row in iter_samples(self.benchmark, spec, rows, subset.name, limit, seed):
            self.media.adopt(rows.media)
            yield render(self.benchmark, settings, row) if isinstance(row, Sample) else row

    def check_rows(self) -> None:
        """Reads each subset up to its first usable row. Raises `InvalidInput` for one that has none."""
        for subset in self.subsets:
            unusable: list[MalformedRow] = []
            first = replace(self.spec, shuffle=False)
            for row in self._planned(first, subset, _MOST_LOOKED_AT):
                if not isinstance(row, MalformedRow):
                    break
                unusable.append(row)
            else:
                raise self._nothing_usable(subset, unusable)

    def _nothing_usable(self, subset: SubsetFiles, unusable: Sequence[MalformedRow]) -> InvalidInput:
        files = ", ".join(f"'{path}'" for path in subset.rows[:_SHOWN])
        details = {"field": "local_path", "value": str(subset.rows[0])}
        if not unusable:
            state = "is empty" if not any(path.stat().st_size for path in subset.rows) else "holds no rows"
            return InvalidInput(f"{self.spec.name}: {files} {state}; there is nothing to evaluate.", details)
        how_many = (
            f"the first {len(unusable)} rows" if len(unusable) == _MOST_LOOKED_AT else f"all {len(unusable)} rows"
        )
        how_many = "the only row" if len(unusable) == 1 else how_many
        reasons = "; ".join(row.reason for row in unusable[:_SHOWN])
        more = "; ..." if len(unusable) > _SHOWN else ""
        notes = "".join(f" ({note})" for note in self.notes)
        return InvalidInput(
            f"{self.spec.name}: {files} has no row that can be used{notes}. Of {how_many}: {reasons}{more}. See "
            f"docs/guides/your-own-data.md for what rows must hold, and how to say what its columns are called.",
            details,
        )


def preview_rows(dataset: RunDataset, count: int) -> Preview:
    """The first rows of each subset."""
    rows = [row for subset in dataset.subsets for row in dataset.planned(subset, count)]
    samples = tuple(preview_of(row) for row in rows if not isinstance(row, MalformedRow))
    return Preview(samples, tuple(str(row) for row in rows if isinstance(row, MalformedRow)), dataset.notes)


def _watching(rows: Iterator[T], stop: Callable[[], None] | None) -> Iterator[T]:
    return rows if stop is None else _stoppable(rows, stop)


def _stoppable(rows: Iterator[T], stop: Callable[[], None]) -> Iterator[T]:
    for count, row in enumerate(rows):
        if count % _LOOK_EVERY == 0:
            stop()
        yield row


def _sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
