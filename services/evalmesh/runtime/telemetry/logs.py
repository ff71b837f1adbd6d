"""Structured logs that name run, benchmark and shard, and the span they were written in."""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opentelemetry import trace

from evalmesh.runtime.telemetry.rooms import current_room

_FIELDS: ContextVar[Mapping[str, Any]] = ContextVar("evalmesh_log_fields", default={})  # noqa: B039  (never mutated)
_also: list[logging.Handler] = []
"""Handlers that every configuration of this process has."""
_RECORD_KEYS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


@contextmanager
def log_fields(**fields: Any) -> Iterator[None]:
    """Adds fields to every log line written inside, in this task and the tasks it starts."""
    token = _FIELDS.set({**_FIELDS.get(), **fields})
    try:
        yield
    finally:
        _FIELDS.reset(token)


def current_fields() -> Mapping[str, Any]:
    """What `log_fields` has added here."""
    return _FIELDS.get()


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra=`."""
    return {name: value for name, value in record.__dict__.items() if name not in _RECORD_KEYS}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the log fields, trace and span, `extra=` values."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": current_room() or self._service,
            "logger": record.name,
            "message": record.getMessage(),
            **current_fields(),
        }
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            entry["trace_id"] = trace.format_trace_id(span.trace_id)
            entry["span_id"] = trace.format_span_id(span.span_id)
        entry.update(extras(record))
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
        if old not in _also:
            old.close()
    for one in (handler, *_also):
        root.addHandler(one)
    root.setLevel(level.upper())


@contextmanager
def also_logging_to(handler: logging.Handler) -> Iterator[None]:
    """One more handler for the block, whatever is configured meanwhile."""
    _also.append(handler)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        _also.remove(handler)
        logging.getLogger().removeHandler(handler)
