"""One benchmark's blocks joined: its sample results as one file, and what the report says about it."""

import asyncio
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from evalmesh.domain import layout
from evalmesh.domain.errors import NotFound
from evalmesh.domain.metric import BenchmarkReport, LimitWarning, SubsetReport
from evalmesh.domain.run import OnError
from evalmesh.domain.work import Shard
from evalmesh.report_aggregator.runs.fold import Folder, Sums, Tallies, blocks_of
from evalmesh.results.local_files import pieces
from evalmesh.results.table import ResultsWriter
from evalmesh.scoring.outcomes import OutcomeCounts, add_outcomes, limit_warning
from evalmesh.scoring.tally import Accumulator, finish, merge
from evalmesh.wire.codec import decode_json, encode_json

_READ_AHEAD = 32
"""Kept blocks that are fetched at once."""


@dataclass(frozen=True, slots=True)
class Joiner:
    """Makes the results of one benchmark."""

    folder: Folder
    on_error: OnError

    async def kept(self) -> BenchmarkReport | None:
        """What the report says, if it was joined before."""
        key = self._report_key()
        try:
            return decode_json(BenchmarkReport, await self.folder.files.store.get(key), key)
        except NotFound:
            return None

    async def join(self, *, complete: bool) -> BenchmarkReport:
        """Writes the sample results and returns the report; kept when every shard is in (`complete`)."""
        folder, plan = self.folder, self.folder.plan
        index = await folder.files.find_index()
        shards = list(index.shards()) if index is not None else await self._written()
        total, latencies = Tallies(), array("d")
        with TemporaryDirectory(prefix="evalmesh-") as scratch:
            path = Path(scratch) / "results.parquet"
            with folder.writer(path) as writer:
                await self._fold_all(shards, (total, latencies), writer, complete=complete)
                folder.add_malformed(index.malformed_rows if index is not None else (), total, writer)
            await folder.files.store.put_stream(layout.results_key(plan.run, plan.name), pieces(path))
        report = await asyncio.to_thread(self._report, total, latencies)
        report = replace(report, notes=index.notes if index is not None else ())
        if complete:
            await folder.files.store.put(self._report_key(), encode_json(report))
        return report

    async def _fold_all(
        self, shards: Sequence[Shard], into: tuple[Tallies, "array[float]"], writer: ResultsWriter, *, complete: bool
    ) -> None:
        total, latencies = into
        blocks = list(blocks_of(shards).items())
        for start in range(0, len(blocks), _READ_AHEAD):
            some = blocks[start : start + _READ_AHEAD]
            kept = await asyncio.gather(*(self.folder.kept(block) for block, _ in some))
            for (block, of_block), tallies in zip(some, kept, strict=True):
                if tallies is None and complete and block != blocks[-1][0]:
                    tallies = await self.folder.keep(block, of_block)  # noqa: PLW2901  (as if it had been kept)
                if tallies is None:
                    tallies = await self.folder.fold(of_block, writer)  # noqa: PLW2901  (likewise)
                else:
                    await self._copy_rows(block, writer)
                latencies.frombytes(tallies.latencies_s)
                total.merge(tallies, self.folder.benchmark.reducers)

    async def _copy_rows(self, block: int, writer: ResultsWriter) -> None:
        plan = self.folder.plan
        data = await self.folder.files.store.get(layout.rows_key(plan.run, plan.name, block))
        await asyncio.to_thread(writer.copy, data)

    async def _written(self) -> list[Shard]:
        """The shards there are of a benchmark whose planning was not finished."""
        files, plan = self.folder.files, self.folder.plan
        shards = []
        for number in sorted(await files.of(layout.REQUESTS).there()):
            header, rows = await files.read_requests(number)
            shards.append(Shard(number, header.subset, 0, len(rows), len(rows) * plan.repeats))
        return shards

    def _report_key(self) -> str:
        return layout.benchmark_report_key(self.folder.plan.run, self.folder.plan.name)

    def _report(self, sums: Tallies, latencies: "array[float]") -> BenchmarkReport:
        plan, benchmark = self.folder.plan, self.folder.benchmark
        categories = benchmark.categories
        by_category: dict[str, list[str]] = {}
        for subset in sums.subsets:
            if subset in categories:
                by_category.setdefault(categories[subset], []).append(subset)
        reductions = {
            reducer.name: reducer.finish(sums.reduced.get(reducer.name) or reducer.fold(()))
            for reducer in benchmark.reducers
        }
        corpus = tuple(metric for reduction in reductions.values() for metric in reduction.metrics)
        whole = self._part("", sums, list(sums.subsets))
        return BenchmarkReport(
            name=plan.name,
            version=plan.version,
            dataset_digest=plan.dataset_digest,
            primary_metric=benchmark.metrics[0].name,
            n_samples=sums.n_samples,
            repeats=plan.repeats,
            metrics=(*whole.metrics, *corpus),
            subsets=tuple(
                replace(self._part(name, sums, [name]), category=categories.get(name)) for name in sums.subsets
            ),
            categories=tuple(self._part(name, sums, parts) for name, parts in by_category.items()),
            errored_samples=tuple(sums.errored),
            n_not_run=sums.n_not_run,
            n_not_judged=sums.n_not_judged,
            n_reused=sums.n_reused,
            error_classes=dict(sums.error_classes),
            usage=_usage(sums, latencies),
            outcomes=whole.outcomes,
            warning=self._warning(whole),
            artefacts={
                name: dict(reduction.artefact)
                for name, reduction in reductions.items()
                if reduction.artefact is not None
            },
        )

    def _warning(self, whole: SubsetReport) -> LimitWarning | None:
        rule, metric, counted = self.folder.rules[0], whole.metrics[0], None
        if rule.kind == "mean" and metric.bounds is not None:
            lost = metric.n_errored + metric.n_unscored
            counted = metric.n_scored + (lost if self.on_error == "zero" else 0)
        max_tokens = self.folder.plan.generation.max_tokens
        return limit_warning(OutcomeCounts.of(whole.outcomes), metric, max_tokens, counted=counted)

    def _part(self, name: str, sums: Tallies, subsets: Sequence[str]) -> SubsetReport:
        """Some subsets together."""
        # Every metric is there, also where nothing has come in.
        rules = self.folder.rules
        total: Sums = {rule.name: Accumulator() for rule in rules}
        outcomes: dict[str, int] = {}
        for subset in subsets:
            for metric, accumulator in sums.subsets[subset].items():
                total[metric] = merge(total[metric], accumulator)
            add_outcomes(sums.outcomes.get(subset, {}), outcomes)
        finished = (finish(rule, total[rule.name], self.on_error) for rule in rules)
        return SubsetReport(name, tuple(finished), outcomes=outcomes)


def _usage(sums: Tallies, latencies_s: "array[float]") -> dict[str, float]:
    usage: dict[str, float] = {}
    if sums.input_tokens or sums.output_tokens:
        usage = {"input_tokens": sums.input_tokens, "output_tokens": sums.output_tokens}
    latencies = sorted(latencies_s)
    if latencies:
        usage["latency_mean_s"] = sum(latencies) / len(latencies)
        for percent in (50, 90, 99):
            # Nearest rank: the smallest value that at least this share of the requests does not exceed.
            usage[f"latency_p{percent}_s"] = latencies[max(0, -(-len(latencies) * percent // 100) - 1)]
    return usage
