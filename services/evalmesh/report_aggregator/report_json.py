"""The report as a JSON document. Fields are explained in docs/report-schema.md; change both together."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from evalmesh.domain.metric import BenchmarkReport, ErroredSample, Metric, SubsetReport
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunState
from evalmesh.domain.work import BenchmarkPlan, RunPlan

SCHEMA_VERSION = 1
"""Grows when a reader of the old schema could misread the new one; added fields do not count."""

_SECRET_NAME = re.compile(r"(?i)(api[_-]?key|authorization|secret|password|credential|(^|[_-])token$)")


def build_report(
    run: Run,
    plan: RunPlan,
    benchmarks: Sequence[BenchmarkReport],
    created_time: float,
    *,
    titles: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Puts a run and its metrics into the documented schema.

    Args:
        run: The run in the state the report should show.
        plan: What was planned; benchmarks of it without a report are listed as `benchmarks_not_reported`.
        benchmarks: Metrics, in the order to show.
        created_time: When the report is made, in Unix seconds.
        titles: Benchmark name to human-readable title.

    Returns:
        Plain JSON values only; no key, and no NaN or infinity (what is not a finite number is null or left out).
    """
    plans = {benchmark.name: benchmark for benchmark in plan.benchmarks}
    reported = {benchmark.name for benchmark in benchmarks}
    return {
        "schema_version": SCHEMA_VERSION,
        "evalmesh_version": _own_version(),
        "create_time": _iso(created_time),
        "run": _run(run, complete=reported >= set(plans) and all(b.n_not_run == 0 for b in benchmarks)),
        "model": _model(run),
        "config": _config(run),
        "benchmarks": [_benchmark(b, plans.get(b.name), (titles or {}).get(b.name, "")) for b in benchmarks],
        "benchmarks_not_reported": [name for name in plans if name not in reported],
    }


def _run(run: Run, *, complete: bool) -> dict[str, Any]:
    duration_s = None
    if run.start_time is not None and run.end_time is not None:
        duration_s = round(max(0.0, run.end_time - run.start_time), 3)
    return {
        "id": run.id,
        "display_name": run.spec.display_name,
        "state": run.state.value,
        "complete": complete and run.state is RunState.SUCCEEDED,
        "attempt": run.attempt,
        "create_time": _iso(run.create_time),
        "start_time": _iso(run.start_time),
        "end_time": _iso(run.end_time),
        "duration_s": duration_s,
        "error": run.error,
        "error_reason": run.error_reason,
    }


def _model(run: Run) -> dict[str, Any]:
    model: ModelSpec = run.spec.model
    # A key typed where its reference belongs must not be published.
    key_ref = model.key_ref if model.key_ref.startswith(("env:", "secret:")) else ""
    return {
        "name": model.name,
        "label": model.label,
        "engine": model.engine,
        "kind": model.kind,
        "url": _public_url(model.url),
        "key_ref": key_ref,
        "simulated": run.spec.labels.get("simulated") == "true",
    }


def _public_url(url: str) -> str:
    """The address without user, password, query and fragment: each of them may carry a key."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _config(run: Run) -> dict[str, Any]:
    spec = run.spec
    return {
        "on_error": spec.on_error,
        "seed": spec.seed,
        "repeats": spec.repeats,
        "limit": _plain(spec.limit),
        "generation": _generation(spec.generation),
        "concurrency": spec.model.concurrency,
        "stream": spec.model.stream,
        "shard_size": spec.shard_size,
        "dataset_hub": spec.dataset_hub,
        "reuse_runs": list(spec.reuse_runs),
        "completions_digest": spec.completions_digest,
        "labels": dict(spec.labels),
    }


def _generation(config: GenerationConfig) -> dict[str, Any]:
    values = ((field.name, getattr(config, field.name)) for field in dataclasses.fields(config))
    return {name: _plain(value) for name, value in values if value not in (None, (), {})}


def _overrides(spec: BenchmarkSpec) -> dict[str, Any]:
    """The settings that differ from the benchmark's own."""
    changed = {}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if field.name != "name" and value is not None and value is not False and value != {}:
            changed[field.name] = _plain(value)
    return changed


def _benchmark(report: BenchmarkReport, plan: BenchmarkPlan | None, title: str) -> dict[str, Any]:
    document: dict[str, Any] = {"name": report.name, "version": report.version}
    if title:
        document["title"] = title
    return document | {
        "dataset_digest": report.dataset_digest,
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
        "n_reused": report.n_reused,
        "error_classes": dict(sorted(report.error_classes.items())),
        "usage": {name: value for name, value in report.usage.items() if math.isfinite(value)},
    }


def _subset(subset: SubsetReport) -> dict[str, Any]:
    return {
        "name": subset.name,
        "category": subset.category,
        "metrics": [_metric(metric) for metric in subset.metrics],
    }


def _metric(metric: Metric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "value": _plain(metric.value),
        "stderr": _plain(metric.stderr),
        "ci95": _interval(metric.ci95),
        "n_scored": metric.n_scored,
        "n_errored": metric.n_errored,
        "n_unscored": metric.n_unscored,
        "bounds": _interval(metric.bounds),
    }


def _interval(interval: tuple[float, float] | None) -> list[float] | None:
    return list(interval) if interval is not None and all(map(math.isfinite, interval)) else None


def _errored(sample: ErroredSample) -> dict[str, Any]:
    return {"sample_id": sample.sample_id, "repeat": sample.repeat, "state": sample.state, "reason": sample.reason}


def _plain(value: Any) -> Any:
    """JSON values without NaN and infinity; secrets inside server-specific options are masked by their names."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): "***" if _SECRET_NAME.search(str(k)) else _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def _iso(time_s: float | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond."""
    if time_s is None:
        return None
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@cache
def _own_version() -> str:
    try:
        return version("evalmesh")
    except PackageNotFoundError:
        return "unknown"
