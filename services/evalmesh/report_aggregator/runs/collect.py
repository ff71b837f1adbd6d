"""One benchmark's shards, joined: its report, and its sample results as Parquet. Memory stays that of a shard."""

import logging
import tempfile
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import Benchmark
from evalmesh.domain import layout
from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import InternalError, NotFound
from evalmesh.domain.metric import BenchmarkReport, ErroredSample, Metric, SubsetReport
from evalmesh.domain.run import OnError
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.domain.work import BenchmarkPlan, Shard
from evalmesh.report_aggregator.runs.planned_rows import planned_rows
from evalmesh.report_aggregator.runs.shard_counts import metric_rules
from evalmesh.results.local_files import pieces
from evalmesh.results.table import ResultsWriter
from evalmesh.scoring.tally import Accumulator, MetricRule, finish, merge, tally_shard
from evalmesh.wire.runs.shard_files import ShardFiles

_LOG = logging.getLogger(__name__)
_ERRORED_KEPT = 100

Sums = dict[str, Accumulator]


@dataclass(slots=True)
class _Collected:
    """Everything that adds up over shards."""

    subsets: dict[str, Sums] = field(default_factory=dict)
    errored: list[ErroredSample] = field(default_factory=list)
    n_samples: int = 0
    n_not_run: int = 0
    n_reused: int = 0
    error_classes: Counter[str] = field(default_factory=Counter)
    input_tokens: int = 0
    output_tokens: int = 0
    latencies_s: "array[float]" = field(default_factory=lambda: array("d"))

    def add_scores(self, subset: str, rules: Sequence[MetricRule], scores: Sequence[Score]) -> None:
        """Scores of whole samples; those of one sample are adjacent."""
        by_sample = [list(group) for _, group in groupby(scores, key=lambda score: score.sample_id)]
        sums = self.subsets.setdefault(subset, {})
        for name, accumulator in tally_shard(rules, by_sample).items():
            sums[name] = merge(sums[name], accumulator) if name in sums else accumulator
        failed = (score for score in scores if score.state != "scored")
        for score in islice(failed, _ERRORED_KEPT - len(self.errored)):
            self.errored.append(ErroredSample(score.sample_id, score.repeat, score.state, score.reason or ""))

    def add_completion(self, completion: Completion) -> None:
        self.n_reused += completion.reused_from is not None
        if completion.error is not None:
            self.error_classes[completion.error.error_class] += 1
        if completion.usage is not None:
            self.input_tokens += completion.usage.input_tokens or 0
            self.output_tokens += completion.usage.output_tokens or 0
        if completion.timing is not None and completion.error is None:
            self.latencies_s.append(completion.timing.latency_s)


class BenchmarkCollector:
    """Joins what the steps wrote about one benchmark of one run."""

    def __init__(self, files: ShardFiles, run: str, plan: BenchmarkPlan, on_error: OnError) -> None:
        self._files = files
        self._run = run
        self._plan = plan
        self._on_error = on_error
        self._benchmark: Benchmark = registry.get(plan.name)
        self._rules = metric_rules(self._benchmark, plan.repeats)
        self._sums = _Collected()

    async def collect(self) -> BenchmarkReport:
        """Writes the sample results to the store and returns the report."""
        names = dict.fromkeys(spec.score for spec in self._benchmark.metrics)
        with tempfile.TemporaryDirectory(prefix="evalmesh-") as folder:
            path = Path(folder) / "results.parquet"
            with ResultsWriter(path, run=self._run, benchmark=self._plan.name, score_names=list(names)) as writer:
                for shard in self._plan.shards:
                    await self._add_shard(shard, writer)
                self._add_malformed(writer)
            await self._files.store.put_stream(layout.results_key(self._run, self._plan.name), pieces(path))
        return self._report()

    async def _add_shard(self, shard: Shard, writer: ResultsWriter) -> None:
        sums, place = self._sums, (self._run, self._plan.name, shard.index)
        rows = await planned_rows(self._files, self._run, self._plan, shard)
        completions: list[Completion] = []
        scores: list[Score] = []
        try:
            scores = await self._files.read_scores(*place)
            sums.add_scores(shard.subset, self._rules, scores)
        except NotFound:
            sums.n_not_run += shard.requests
        try:
            completions = await self._files.read_completions(*place)
        except NotFound:
            completions = await self._files.read_checkpoints(*place)
        except InternalError as error:
            # The shard was set aside for it; its scores say so, and the other shards are still worth a report.
            _LOG.error("the completions of a shard are lost: %s", error.message)
            sums.error_classes["poison"] += shard.requests
        sums.n_samples += shard.samples
        for completion in completions:
            sums.add_completion(completion)
        writer.add(rows, completions, scores)

    def _add_malformed(self, writer: ResultsWriter) -> None:
        repeats = range(self._plan.repeats)
        for row in self._plan.malformed_rows:
            sample_id, _, reason = row.partition(": ")
            subset, _, index = sample_id.rpartition("/")
            scores = [Score(sample_id, repeat, "errored", reason=f"malformed row: {reason}") for repeat in repeats]
            self._sums.add_scores(subset, self._rules, scores)
            self._sums.error_classes["malformed_row"] += len(scores)
            self._sums.n_samples += 1
            sample = Sample(id=sample_id, index=int(index), subset=subset, input="", target=())
            writer.add(
                [PlannedSample(sample, self._benchmark.shape.kinds[0], digests=("",) * len(repeats))], [], scores
            )

    def _report(self) -> BenchmarkReport:
        sums, plan = self._sums, self._plan
        categories = self._benchmark.categories
        by_category: dict[str, list[Sums]] = {}
        for subset, metrics in sums.subsets.items():
            if subset in categories:
                by_category.setdefault(categories[subset], []).append(metrics)
        return BenchmarkReport(
            name=plan.name,
            version=plan.version,
            dataset_digest=plan.dataset_digest,
            primary_metric=self._benchmark.metrics[0].name,
            n_samples=sums.n_samples,
            repeats=plan.repeats,
            metrics=self._finished(list(sums.subsets.values())),
            subsets=tuple(
                SubsetReport(name, self._finished([metrics]), categories.get(name))
                for name, metrics in sums.subsets.items()
            ),
            categories=tuple(SubsetReport(name, self._finished(parts)) for name, parts in by_category.items()),
            errored_samples=tuple(sums.errored),
            n_not_run=sums.n_not_run,
            n_reused=sums.n_reused,
            error_classes=dict(sums.error_classes),
            usage=_usage(sums),
        )

    def _finished(self, parts: Sequence[Sums]) -> tuple[Metric, ...]:
        # Every metric is there, also where nothing has come in.
        total: Sums = {rule.name: Accumulator() for rule in self._rules}
        for part in parts:
            for name, accumulator in part.items():
                total[name] = merge(total[name], accumulator)
        return tuple(finish(name, accumulator, self._on_error) for name, accumulator in total.items())


def _usage(sums: _Collected) -> dict[str, float]:
    usage: dict[str, float] = {}
    if sums.input_tokens or sums.output_tokens:
        usage = {"input_tokens": sums.input_tokens, "output_tokens": sums.output_tokens}
    latencies = sorted(sums.latencies_s)
    if latencies:
        usage["latency_mean_s"] = sum(latencies) / len(latencies)
        for percent in (50, 90, 99):
            # Nearest rank: the smallest value that at least this share of the requests does not exceed.
            usage[f"latency_p{percent}_s"] = latencies[max(0, -(-len(latencies) * percent // 100) - 1)]
    return usage
