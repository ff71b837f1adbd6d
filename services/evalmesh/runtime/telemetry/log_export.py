"""Log lines as OTLP log records of the span they were written in."""

import logging
from collections.abc import Callable
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider

from evalmesh.runtime.telemetry.logs import current_fields, extras
from evalmesh.runtime.telemetry.rooms import current_room

_SEVERITIES = (
    (logging.CRITICAL, SeverityNumber.FATAL, "FATAL"),
    (logging.ERROR, SeverityNumber.ERROR, "ERROR"),
    (logging.WARNING, SeverityNumber.WARN, "WARN"),
    (logging.INFO, SeverityNumber.INFO, "INFO"),
)
_SENDERS = ("opentelemetry", "urllib3", "requests")
"""What these say while they send would be sent in turn."""


class LogExport(logging.Handler):
    """Hands log records to the SDK."""

    def __init__(self, provider_of: Callable[[str], LoggerProvider]) -> None:
        super().__init__()
        self._provider_of = provider_of
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises: a line that cannot be sent is in the log file all the same."""
        if record.name.partition(".")[0] in _SENDERS:
            return
        try:
            number, text = _severity(record.levelno)
            said: dict[str, Any] = {f"evalmesh.{name}": _value(value) for name, value in current_fields().items()}
            said |= {name: _value(value) for name, value in extras(record).items()}
            if record.exc_info and record.exc_info[0] is not None:
                said["exception.type"] = record.exc_info[0].__name__
                said["exception.stacktrace"] = self._formatter.formatException(record.exc_info)
            self._provider_of(current_room()).get_logger(record.name).emit(
                LogRecord(
                    timestamp=int(record.created * 1e9),
                    context=otel_context.get_current(),
                    severity_number=number,
                    severity_text=text,
                    body=record.getMessage(),
                    attributes=said,
                )
            )
        except Exception:  # noqa: BLE001  (whatever it was)
            self.handleError(record)


def _severity(level: int) -> tuple[SeverityNumber, str]:
    for least, number, text in _SEVERITIES:
        if level >= least:
            return number, text
    return SeverityNumber.DEBUG, "DEBUG"


def _value(value: object) -> str | bool | int | float:
    return value if isinstance(value, str | bool | int | float) else str(value)
