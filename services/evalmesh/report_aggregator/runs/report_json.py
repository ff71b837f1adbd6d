"""The report as a JSON document. Fields are explained in docs/report-schema.md; change both together."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from evalmesh.domain.metric import BenchmarkReport, ErroredSample, Metric, SubsetReport
from evalmesh.domain.plan import BenchmarkPlan
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.row_form import RowForm
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunState
from evalmesh.results.json_values import duration_s, iso, own_version, plain, public_key_ref, public_url
from evalmesh.scoring.outcomes import OutcomeCounts

SCHEMA_VERSION = 1
"""Grows when a reader of the old schema could misread the new one; added fields do not count."""


def build_report(
    run: Run,
    planned: Sequence[BenchmarkPlan],
    benchmarks: Sequence[BenchmarkReport],
    created_time: float,
    *,
    titles: Mapping[str, str] | None = None,
    trace_id: str = "",
) -> dict[str, Any]:
    """Puts a run and its metrics into the documented schema.

    Args:
        run: The run in the state the report should show.
        planned: What was planned; those without a report are listed as `benchmarks_not_reported`.
        benchmarks: Metrics, in the order to show.
        created_time: When the report is made, in Unix seconds.
        titles: Benchmark name to human-readable title.
        trace_id: Of the spans that tell of the run, where they are sent anywhere.

    Returns:
        Plain JSON values only; no key, and no NaN or infinity (what is not a finite number is null or left out).
    """
    plans = {plan.name: plan for plan in planned}
    reported = {benchmark.name for benchmark in benchmarks}
    missing = [one.name for one in run.spec.benchmarks if one.name not in reported]
    return {
        "schema_version": SCHEMA_VERSION,
        "evalmesh_version": own_version(),
        "create_time": iso(created_time),
        "run": _run(
            run,
            complete=reported >= {one.name for one in run.spec.benchmarks}
            and all(b.n_not_run == 0 for b in benchmarks),
        )
        | ({"trace_id": trace_id} if trace_id else {}),
        "model": _model(run),
        "config": _config(run),
        "benchmarks": [_benchmark(b, plans.get(b.name), (titles or {}).get(b.name, "")) for b in benchmarks],
        "benchmarks_not_reported": missing,
        "warnings": [warning for b in benchmarks for warning in _warning(b)],
    }


def _run(run: Run, *, complete: bool) -> dict[str, Any]:
    return {
        "id": run.id,
        "display_name": run.spec.display_name,
        "state": run.state.value,
        "complete": complete and run.state is RunState.SUCCEEDED,
        "attempt": run.attempt,
        "create_time": iso(run.create_time),
        "start_time": iso(run.start_time),
        "end_time": iso(run.end_time),
        "duration_s": duration_s(run.start_time, run.end_time),
        "error": run.error,
        "error_reason": run.error_reason,
        "client_config": run.spec.client_config,
        "notes": list(run.notes),
    }


def _model(run: Run) -> dict[str, Any]:
    model: ModelSpec = run.asked.model
    return {
        "name": model.name,
        "label": model.label,
        "engine": model.engine,
        "kind": model.kind,
        "url": public_url(model.url),
        "key_ref": public_key_ref(model.key_ref),
        "simulated": run.spec.labels.get("simulated") == "true",
        **({"weights": model.weights} if model.weights else {}),
    }


def _config(run: Run) -> dict[str, Any]:
    spec = run.spec
    return {
        "on_error": spec.on_error,
        "seed": spec.seed,
        "repeats": spec.repeats,
        "limit": plain(spec.limit),
        "generation": _generation(spec.generation),
        "concurrency": spec.model.concurrency,
        "stream": spec.model.stream,
        "shard_size": spec.samples_per_shard,
        "dataset_hub": spec.dataset_hub,
        "reuse_runs": list(spec.reuse_runs),
        "completions_digest": spec.completions_digest,
        "labels": dict(spec.labels),
    }


def _generation(config: GenerationConfig) -> dict[str, Any]:
    values = ((field.name, getattr(config, field.name)) for field in dataclasses.fields(config))
    return {name: plain(value) for name, value in values if value not in (None, (), {})}


def _overrides(spec: BenchmarkSpec) -> dict[str, Any]:
    """The settings that differ from the benchmark's own."""
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if isinstance(value, RowForm):
            changed |= {name: plain(one) for name, one in dataclasses.asdict(value).items() if one}
        elif field.name != "name" and value not in (None, "") and value is not False and value != {}:
            changed[field.name] = plain(value)
    return changed


def _benchmark(report: BenchmarkReport, plan: BenchmarkPlan | None, title: str) -> dict[str, Any]:
    document: dict[str, Any] = {"name": report.name, "version": report.version}
    if title:
        document["title"] = title
    return document | {
        "dataset_digest": report.dataset_digest,
        **({"dataset_origin": dataclasses.asdict(plan.origin)} if plan and plan.origin else {}),
        "scoring_digest": plan.scoring_digest if plan else "",
        "primary_metric": report.primary_metric,
        "n_samples": report.n_samples,
        "repeats": report.repeats,
        "generation": _generation(plan.generation) if plan else {},
        "overrides": _overrides(plan.spec) if plan else {},
        "metrics": [_metric(metric) for metric in report.metrics],
        "subsets": [_subset(subset) for subset in report.subsets],
        "categories": [_subset(category) for category in report.categories],
        "errored_samples": [_errored(sample) for sample in report.errored_samples],
        "n_not_run": report.n_not_run,
        "n_not_judged": report.n_not_judged,
        "n_reused": report.n_reused,
        "error_classes": dict(sorted(report.error_classes.items())),
        **_outcomes(report.outcomes),
        **({"artefacts": report.artefacts} if report.artefacts else {}),
        **({"notes": list(report.notes)} if report.notes else {}),
        "usage": {name: value for name, value in report.usage.items() if math.isfinite(value)},
    }


def _subset(subset: SubsetReport) -> dict[str, Any]:
    return {
        "name": subset.name,
        "category": subset.category,
        "metrics": [_metric(metric) for metric in subset.metrics],
        **_outcomes(subset.outcomes),
    }


def _outcomes(outcomes: Mapping[str, int]) -> dict[str, Any]:
    """Nothing for a record of before they were counted."""
    if not outcomes:
        return {}
    counts = OutcomeCounts.of(outcomes)
    return {
        "outcomes": {
            "answered": counts.answered,
            "answered_cut": counts.answered_cut,
            "no_answer": counts.no_answer,
            "no_answer_causes": dict(counts.causes),
        }
    }


def _warning(report: BenchmarkReport) -> list[dict[str, Any]]:
    if (found := report.warning) is None:
        return []
    return [
        {
            "kind": "no_answer",
            "benchmark": report.name,
            "count": found.n_no_answer,
            "share": found.share,
            "score_range": _interval(found.score_range),
            "message": found.message,
        }
    ]


def _metric(metric: Metric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "value": plain(metric.value),
        "stderr": plain(metric.stderr),
        "ci95": _interval(metric.ci95),
        "n_scored": metric.n_scored,
        "n_errored": metric.n_errored,
        "n_unscored": metric.n_unscored,
        "bounds": _interval(metric.bounds),
        **({} if metric.n_samples is None else {"n_samples": metric.n_samples}),
    }


def _interval(interval: tuple[float, float] | None) -> list[float] | None:
    return list(interval) if interval is not None and all(map(math.isfinite, interval)) else None


def _errored(sample: ErroredSample) -> dict[str, Any]:
    named = {"sample_id": sample.sample_id, "repeat": sample.repeat, "state": sample.state, "reason": sample.reason}
    return named | ({"where": sample.where} if sample.where else {})
