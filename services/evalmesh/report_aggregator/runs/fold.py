"""Blocks of shards folded: partial tallies and rows of the results, which merge in order at the end.

A block that is complete is folded while the run goes on and kept, so that the end has little left to do and a crash
in it starts nothing from zero. Memory is that of one block.
"""

import asyncio
import logging
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import Benchmark
from evalmesh.benchmarks.rules import metric_rules
from evalmesh.domain import layout
from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import InternalError, NotFound
from evalmesh.domain.metric import ErroredSample
from evalmesh.domain.plan import BLOCK_SHARDS, BenchmarkPlan
from evalmesh.domain.sample import WHERE, Sample
from evalmesh.domain.score import Score
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.domain.work import Shard
from evalmesh.report_aggregator.runs.planned_rows import planned_rows
from evalmesh.results.local_files import pieces
from evalmesh.results.table import ResultsWriter
from evalmesh.scoring.outcomes import add_outcomes, count_outcomes
from evalmesh.scoring.reducers import Reducer, ReducerRow
from evalmesh.scoring.tally import AMOUNTS, Accumulator, MetricRule, merge, tally_shard
from evalmesh.wire.codec import decode_json, encode_json
from evalmesh.wire.runs.shard_files import BenchmarkFiles

_LOG = logging.getLogger(__name__)
ERRORED_KEPT = 100
_REQUESTS_AT_ONCE = 512
"""So many requests are read before they are joined."""

Sums = dict[str, Accumulator]


@dataclass(slots=True)
class Tallies:
    """Everything that adds up over shards."""

    subsets: dict[str, Sums] = field(default_factory=dict)
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    """By subset; scored requests by outcome."""
    errored: list[ErroredSample] = field(default_factory=list)
    n_samples: int = 0
    n_not_run: int = 0
    n_not_judged: int = 0
    n_reused: int = 0
    error_classes: dict[str, int] = field(default_factory=dict)
    input_tokens: int = 0
    output_tokens: int = 0
    latencies_s: bytes = b""
    """Packed doubles, in no order."""
    reduced: dict[str, Any] = field(default_factory=dict)
    """States of the benchmark's reducers, by name."""

    def count_error(self, error_class: str, count: int = 1) -> None:
        """So many more of a class."""
        self.error_classes[error_class] = self.error_classes.get(error_class, 0) + count

    def add_scores(
        self, subset: str, rules: Sequence[MetricRule], scores: Sequence[Score], rows: Sequence[PlannedSample] = ()
    ) -> None:
        """Scores of whole samples; those of one sample are adjacent. The rows tell where the samples come from."""
        by_sample = [list(group) for _, group in groupby(scores, key=lambda score: score.sample_id)]
        _add_sums(self.subsets.setdefault(subset, {}), tally_shard(rules, by_sample))
        count_outcomes(scores, self.outcomes.setdefault(subset, {}))
        failed = (score for score in scores if score.state != "scored")
        for score in islice(failed, ERRORED_KEPT - len(self.errored)):
            where = next((row.sample.metadata.get(WHERE, "") for row in rows if row.sample.id == score.sample_id), "")
            self.errored.append(ErroredSample(score.sample_id, score.repeat, score.state, score.reason or "", where))

    def add_completions(self, completions: Sequence[Completion]) -> None:
        """What came back for the requests of a shard."""
        latencies = array("d")
        for completion in completions:
            self.n_reused += completion.reused_from is not None
            if completion.error is not None:
                self.count_error(completion.error.error_class)
            if completion.usage is not None:
                self.input_tokens += completion.usage.input_tokens or 0
                self.output_tokens += completion.usage.output_tokens or 0
            if completion.timing is not None and completion.error is None:
                latencies.append(completion.timing.latency_s)
        self.latencies_s += latencies.tobytes()

    def add_rows(self, reducers: Sequence[Reducer], rows: Sequence[ReducerRow]) -> None:
        """The rows as the benchmark's reducers see them."""
        for reducer in reducers:
            state = reducer.fold(rows)
            known = self.reduced.get(reducer.name)
            self.reduced[reducer.name] = state if known is None else reducer.merge(known, state)

    def merge(self, other: "Tallies", reducers: Sequence[Reducer]) -> None:
        """Adds the tallies of later shards."""
        for subset, sums in other.subsets.items():
            _add_sums(self.subsets.setdefault(subset, {}), sums)
        for subset, outcomes in other.outcomes.items():
            add_outcomes(outcomes, self.outcomes.setdefault(subset, {}))
        self.errored += other.errored[: ERRORED_KEPT - len(self.errored)]
        self.n_samples += other.n_samples
        self.n_not_run += other.n_not_run
        self.n_not_judged += other.n_not_judged
        self.n_reused += other.n_reused
        for error_class, count in other.error_classes.items():
            self.count_error(error_class, count)
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        for reducer in reducers:
            if (state := other.reduced.get(reducer.name)) is not None:
                known = self.reduced.get(reducer.name)
                self.reduced[reducer.name] = state if known is None else reducer.merge(known, state)


def _add_sums(sums: Sums, more: Mapping[str, Accumulator]) -> None:
    for name, accumulator in more.items():
        sums[name] = merge(sums[name], accumulator) if name in sums else accumulator


@dataclass(frozen=True, slots=True)
class _Loaded:
    """One shard with everything that is there of it."""

    shard: Shard
    rows: list[PlannedSample]
    completions: list[Completion]
    scores: list[Score] | None
    lost: bool = False
    """Whether its completions were there and cannot be read."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Folds shards of one benchmark of one run."""

    files: BenchmarkFiles
    plan: BenchmarkPlan
    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """Who folds holds it: what is folded side by side takes as long and needs more memory."""

    @property
    def benchmark(self) -> Benchmark:
        """What is evaluated."""
        return registry.get(self.plan.spec.kind).for_spec(self.plan.spec)

    @property
    def rules(self) -> tuple[MetricRule, ...]:
        """How scores become metrics."""
        return metric_rules(self.benchmark, self.plan.repeats)

    def writer(self, path: Path) -> ResultsWriter:
        """Writes rows of the results to a local file."""
        metrics = self.benchmark.metrics
        names = dict.fromkeys(spec.score for spec in metrics)
        amounts = {spec.score for spec in metrics if spec.kind in AMOUNTS}
        return ResultsWriter(
            path, run=self.plan.run, benchmark=self.plan.name, score_names=list(names), amounts=amounts
        )

    async def kept(self, block: int) -> Tallies | None:
        """The tallies of a block that was folded and kept."""
        key = layout.tallies_key(self.plan.run, self.plan.name, block)
        try:
            return decode_json(Tallies, await self.files.store.get(key), key)
        except NotFound:
            return None

    async def keep(self, block: int, shards: Sequence[Shard]) -> Tallies:
        """Folds a block, if nobody has, and keeps it: rows first, since the tallies say that both are there."""
        async with self.turn:
            return await self.kept(block) or await self._keep(block, shards)

    async def _keep(self, block: int, shards: Sequence[Shard]) -> Tallies:
        store, run, name = self.files.store, self.plan.run, self.plan.name
        with TemporaryDirectory(prefix="evalmesh-") as folder:
            path = Path(folder) / "rows.parquet"
            with self.writer(path) as writer:
                tallies = await self.fold(shards, writer)
            await store.put_stream(layout.rows_key(run, name, block), pieces(path))
        await store.put(layout.tallies_key(run, name, block), await asyncio.to_thread(encode_json, tallies))
        return tallies

    async def fold(self, shards: Sequence[Shard], writer: ResultsWriter) -> Tallies:
        """The tallies of some shards; their rows go to the writer."""
        tallies = Tallies()
        for batch in self._batches(shards):
            loaded = await asyncio.gather(*(self._load(shard) for shard in batch))
            await asyncio.to_thread(self._join, loaded, tallies, writer)
        return tallies

    def _batches(self, shards: Sequence[Shard]) -> list[Sequence[Shard]]:
        size = max(1, _REQUESTS_AT_ONCE // (self.plan.shard_size * self.plan.repeats))
        return [shards[start : start + size] for start in range(0, len(shards), size)]

    async def _load(self, shard: Shard) -> _Loaded:
        graph, number = self.plan.graph, shard.index
        answered = self.files.of(graph.answered)
        rows, scores, completions = await asyncio.gather(
            planned_rows(self.files, shard), self._scores(number), self._completions(number)
        )
        if completions is None:
            return _Loaded(shard, rows, [], scores, lost=True)
        return _Loaded(shard, rows, completions or await answered.read_parts(number), scores)

    async def _scores(self, shard: int) -> list[Score] | None:
        try:
            return await self.files.read_scores(self.plan.graph.judged, shard)
        except NotFound:
            return None

    async def _completions(self, shard: int) -> list[Completion] | None:
        try:
            return await self.files.of(self.plan.graph.answered).read_completions(shard)
        except NotFound:
            return []
        except InternalError as error:
            # The shard was set aside for it; its scores say so, and the other shards are still worth a report.
            _LOG.error("the completions of a shard are lost: %s", error.message)
            return None

    def _join(self, loaded: Sequence[_Loaded], tallies: Tallies, writer: ResultsWriter) -> None:
        rules, reducers = self.rules, self.benchmark.reducers
        for one in loaded:
            if one.scores is None:
                tallies.n_not_run += one.shard.requests
                tallies.n_not_judged += len(one.completions)
            else:
                tallies.add_scores(one.rows[0].sample.subset, rules, one.scores, one.rows)
            if one.lost:
                tallies.count_error("poison", one.shard.requests)
            tallies.n_samples += len(one.rows)
            tallies.add_completions(one.completions)
            if reducers and one.scores:
                tallies.add_rows(reducers, _reducer_rows(one))
            writer.add(one.rows, one.completions, one.scores or [])

    def add_malformed(self, malformed: Sequence[str], tallies: Tallies, writer: ResultsWriter) -> None:
        """Rows that never became samples are errored samples."""
        repeats = range(self.plan.repeats)
        for row in malformed:
            sample_id, _, reason = row.partition(": ")
            subset, _, index = sample_id.rpartition("/")
            scores = [Score(sample_id, repeat, "errored", reason=f"malformed row: {reason}") for repeat in repeats]
            tallies.add_scores(subset, self.rules, scores)
            tallies.count_error("malformed_row", len(scores))
            tallies.n_samples += 1
            sample = Sample(id=sample_id, index=int(index), subset=subset, input="", target=())
            tallies.add_rows(self.benchmark.reducers, [ReducerRow(sample, None, score) for score in scores])
            writer.add([PlannedSample(sample, self.benchmark.shape.kinds[0], digests=("",) * len(repeats))], [], scores)


def _reducer_rows(one: _Loaded) -> list[ReducerRow]:
    samples = {row.sample.id: row.sample for row in one.rows}
    completions = {(completion.sample_id, completion.repeat): completion for completion in one.completions}
    return [
        ReducerRow(samples[score.sample_id], completions.get((score.sample_id, score.repeat)), score)
        for score in one.scores or ()
        if score.sample_id in samples
    ]


def blocks_of(shards: Sequence[Shard]) -> dict[int, list[Shard]]:
    """Shards by block, in order."""
    return {block: list(group) for block, group in groupby(shards, key=lambda shard: shard.index // BLOCK_SHARDS)}
