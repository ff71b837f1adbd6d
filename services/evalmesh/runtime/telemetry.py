"""Structured logs that name run, benchmark and shard, and the trace context that ties them together.

The trace context is W3C `traceparent`: it comes in with gRPC metadata or NATS headers and goes out the same way. With
an OpenTelemetry SDK installed and configured, the same calls make real spans.
"""

import json
import logging
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_FIELDS: ContextVar[Mapping[str, Any]] = ContextVar("evalmesh_log_fields", default={})  # noqa: B039  (never mutated)
_PROPAGATOR = TraceContextTextMapPropagator()
_RECORD_KEYS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


@contextmanager
def log_fields(**fields: Any) -> Iterator[None]:
    """Adds fields to every log line written inside, in this task and the tasks it starts."""
    token = _FIELDS.set({**_FIELDS.get(), **fields})
    try:
        yield
    finally:
        _FIELDS.reset(token)


def adopt_trace(carrier: Mapping[str, str]) -> Token[Context]:
    """Makes the trace in `carrier` the current one of this task; starts a new trace when it holds none."""
    context = _PROPAGATOR.extract(dict(carrier))
    if not trace.get_current_span(context).get_span_context().is_valid:
        span_context = trace.SpanContext(
            trace_id=secrets.randbits(128) or 1,
            span_id=secrets.randbits(64) or 1,
            is_remote=False,
            trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
        )
        context = trace.set_span_in_context(trace.NonRecordingSpan(span_context))
    return otel_context.attach(context)


@contextmanager
def continue_trace(carrier: Mapping[str, str]) -> Iterator[None]:
    """Adopts the trace in `carrier` for the block."""
    token = adopt_trace(carrier)
    try:
        yield
    finally:
        otel_context.detach(token)


def current_trace() -> dict[str, str]:
    """The trace context to send along; empty outside of a trace."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the log fields, trace id, `extra=` values."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
            **_FIELDS.get(),
        }
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            entry["trace_id"] = trace.format_trace_id(span.trace_id)
        entry.update({k: v for k, v in record.__dict__.items() if k not in _RECORD_KEYS})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


class _LogFile(logging.FileHandler):
    """A log that goes on when its disk has room again; lines that found none are lost."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the name of the standard library)
        """Says nothing of a full disk: for each line it would be a traceback in the user's terminal."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def configure_logging(service: str, level: str = "INFO", file: Path | None = None) -> None:
    """Sends the logs of this process to stderr, or to a file, as JSON lines; replaces an earlier configuration."""
    handler: logging.Handler
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = _LogFile(file, encoding="utf-8")
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
