"""OpenTelemetry over HTTP: gauges per level, with the level and the statistic as attributes. Option: url.

Without a url: OTEL_EXPORTER_OTLP_METRICS_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT, else `http://localhost:4318`. Keys go
into OTEL_EXPORTER_OTLP_HEADERS. Points carry the time at which their level ended.
"""

import os
import time
from collections.abc import Iterator
from typing import Any

from evalmesh.adapters.exporters.figures import dimensions
from evalmesh.adapters.exporters.job import Job, check_answers, need, shown_url
from evalmesh.domain.errors import Unavailable

_PATH = "/v1/metrics"
_DEFAULT = "http://localhost:4318"
_UNITS = {"_ms": "ms", "_s": "s", "_bytes": "By", "_j": "J", "_w": "W"}


def send(job: Job) -> str:
    """See `export`."""
    exporter = need("opentelemetry.exporter.otlp.proto.http.metric_exporter", job.sink).OTLPMetricExporter
    sdk = need("opentelemetry.sdk.metrics.export", job.sink)
    url = _url(job)
    metrics = [
        sdk.Metric(
            name=f"evalmesh.{name}",
            description="",
            unit=next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "1"),
            data=sdk.Gauge(data_points=points),
        )
        for name, points in _points(job, sdk).items()
    ]
    scope = need("opentelemetry.sdk.util.instrumentation", job.sink).InstrumentationScope(
        f"evalmesh.{job.record.command}"
    )
    data = sdk.MetricsData(
        resource_metrics=[
            sdk.ResourceMetrics(
                resource=_resource(job),
                scope_metrics=[sdk.ScopeMetrics(scope=scope, metrics=metrics, schema_url="")],
                schema_url="",
            )
        ]
    )
    sender = exporter(endpoint=url)
    try:
        if sender.export(data) is not sdk.MetricExportResult.SUCCESS:
            raise Unavailable(f"{shown_url(url)} did not take the figures; what it answered is in the log.")
    finally:
        sender.shutdown()
    return f"{shown_url(url)} ({len(metrics)} metrics of {len(job.record.steps)} levels)"


def check(job: Job) -> None:
    """See `exporting.check`."""
    need("opentelemetry.exporter.otlp.proto.http.metric_exporter", job.sink)
    check_answers(_url(job))


def _points(job: Job, sdk: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, attributes, value, time_s in _figures(job):
        point = sdk.NumberDataPoint(
            attributes=attributes, start_time_unix_nano=0, time_unix_nano=int(time_s * 1e9), value=value
        )
        found.setdefault(name, []).append(point)
    return found


def _figures(job: Job) -> Iterator[tuple[str, dict[str, Any], float, float]]:
    now_s = time.time()
    for level in job.record.steps:
        for path, value in level.figures.items():
            name, attributes = dimensions(path)
            yield (
                f"level.{name.replace('/', '.')}",
                {**attributes, "level": level.step, "load": level.label},
                value,
                level.time_s or now_s,
            )
    for path, value in job.record.summary.items():
        yield path.replace("/", "."), {}, value, now_s


def _resource(job: Job) -> Any:
    return need("opentelemetry.sdk.resources", job.sink).Resource(
        {
            "service.name": job.option("project", "evalmesh"),
            f"evalmesh.{job.record.kind.replace(' ', '_')}": job.record.id,
            "evalmesh.run": job.run_name,
            "evalmesh.model": job.record.model,
            **{f"evalmesh.{name}": value for name, value in job.record.facts.items()},
            "evalmesh.version": job.record.version,
        }
    )


def _url(job: Job) -> str:
    if exact := os.environ.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"):
        return job.option("url", exact)
    base = job.option("url") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or _DEFAULT
    return base if base.rstrip("/").endswith(_PATH) else f"{base.rstrip('/')}{_PATH}"
