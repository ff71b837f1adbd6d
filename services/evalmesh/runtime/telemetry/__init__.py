"""Logs, traces and metrics of every service.

All three are told apart by room, also where several rooms share a process (`rooms.py`). What is sent where is said by
the standard OTEL_* variables; with none set nothing is sent, no SDK is loaded, and a span or a count costs one test.
"""

from evalmesh.runtime.telemetry.logs import JsonFormatter, configure_logging, log_fields
from evalmesh.runtime.telemetry.rooms import begin_room
from evalmesh.runtime.telemetry.traces import adopt_trace, continue_trace, current_trace, span, trace_id

__all__ = [
    "JsonFormatter",
    "adopt_trace",
    "begin_room",
    "configure_logging",
    "continue_trace",
    "current_trace",
    "log_fields",
    "span",
    "trace_id",
]
