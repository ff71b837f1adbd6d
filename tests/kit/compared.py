"""Outputs folders of runs that answered this or that, to be compared."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalmesh.domain.completion import Completion, CompletionError
from evalmesh.domain.metric import BenchmarkReport, Metric, SubsetReport
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.report_aggregator.runs.report_json import build_report
from evalmesh.results.table import ResultsWriter
from evalmesh.scoring.tally import MetricRule, finish, tally_shard

CREATED = 1_772_000_000.0


@dataclass(frozen=True)
class Answered:
    """One benchmark of a run: the values of each sample, by its id (`subset/number`), one for each repeat.

    `None` stands for a request that failed.
    """

    values: Mapping[str, Sequence[float | None]]
    name: str = "gsm8k"
    version: int = 2
    digest: str = "d1"
    groups: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    on_error: str = "exclude"

    @property
    def repeats(self) -> int:
        return len(next(iter(self.values.values())))

    def scores(self, sample_id: str) -> list[Score]:
        answer = self.answers.get(sample_id)
        return [
            Score(sample_id, repeat, "errored", reason="gone")
            if value is None
            else Score(sample_id, repeat, "scored", {"accuracy": value}, answer=answer or f"{value:g}")
            for repeat, value in enumerate(self.values[sample_id])
        ]

    def parquet(self, run: str) -> bytes:
        sink = io.BytesIO()
        with ResultsWriter(sink, run=run, benchmark=self.name, score_names=["accuracy"]) as writer:
            for sample_id in self.values:
                scores = self.scores(sample_id)
                completions = [
                    Completion(sample_id, one.repeat, "d", text=f"I say {one.answer}")
                    if one.state == "scored"
                    else Completion(sample_id, one.repeat, "d", error=CompletionError("server", "gone"))
                    for one in scores
                ]
                writer.add([self._planned(sample_id)], completions, scores)
        return sink.getvalue()

    def _planned(self, sample_id: str) -> PlannedSample:
        subset, _, number = sample_id.rpartition("/")
        asked = self.inputs.get(sample_id, f"question {number}")
        sample = Sample(
            sample_id, int(number), subset, input=asked, target=("1",), group=self.groups.get(sample_id, "")
        )
        return PlannedSample(sample, "chat", ("d",) * self.repeats)

    def report(self) -> BenchmarkReport:
        subsets = dict.fromkeys(sample_id.rpartition("/")[0] for sample_id in self.values)
        return BenchmarkReport(
            name=self.name,
            version=self.version,
            dataset_digest=self.digest,
            primary_metric="accuracy",
            n_samples=len(self.values),
            repeats=self.repeats,
            metrics=self._metrics(""),
            subsets=tuple(SubsetReport(subset, self._metrics(f"{subset}/")) for subset in subsets),
        )

    def _metrics(self, prefix: str) -> tuple[Metric, ...]:
        rules = [MetricRule("accuracy", "accuracy")]
        if self.repeats > 1:
            k = self.repeats
            rules += [MetricRule(f"pass@{k}", "accuracy", "pass_at_k", k)]
        rows = [self.scores(sample_id) for sample_id in self.values if sample_id.startswith(prefix)]
        sums = tally_shard(rules, rows)
        return tuple(finish(rule, sums[rule.name], self.on_error) for rule in rules)


def write_run(
    folder: Path, run: str, *benchmarks: Answered, model: str = "m", state: RunState = RunState.SUCCEEDED, **spec: Any
) -> Path:
    """The outputs folder of a run: its report, its results, and the config that names it."""
    specs = tuple(BenchmarkSpec(one.name, **one.spec) for one in benchmarks)
    asked = RunSpec(
        ModelSpec(model, url="http://127.0.0.1:1/v1"), specs, **{"on_error": benchmarks[0].on_error, **spec}
    )
    record = Run(id=run, spec=asked, state=state, create_time=CREATED)
    report = build_report(record, (), [one.report() for one in benchmarks], CREATED)
    for document, one in zip(report["benchmarks"], benchmarks, strict=True):
        document["overrides"] = dict(one.spec)
    place = folder / f"20260225_061320_{run}"
    (place / "results").mkdir(parents=True)
    (place / "report.json").write_text(json.dumps(report))
    (place / "run.yaml").write_text(f"# run: {run}\nmodel: {model}\n")
    for one in benchmarks:
        (place / "results" / f"{one.name}.parquet").write_bytes(one.parquet(run))
    return place


def samples(*values: float | None, subset: str = "main", first: int = 0) -> dict[str, list[float | None]]:
    """One value for each sample of a subset."""
    return {f"{subset}/{first + at}": [value] for at, value in enumerate(values)}
