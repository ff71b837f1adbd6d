"""Sending traces, metrics and logs with the OpenTelemetry SDK. Slow to load, so only where something is sent.

Each room has a resource of its own (`service.name`), whichever process it is in. Nothing here waits for a collector:
threads of the SDK send what has gathered, what finds no place is dropped, and the end of the process waits `_FLUSH_S`
at most.
"""

import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Tracer

from evalmesh.runtime.telemetry.instruments import Counter, Gauge, Histogram, Labels, attributes, heard_by, watched
from evalmesh.runtime.telemetry.log_export import LogExport
from evalmesh.runtime.telemetry.logs import also_logging_to
from evalmesh.runtime.telemetry.metrics import GAUGES
from evalmesh.runtime.telemetry.settings import Export, service_name
from evalmesh.runtime.telemetry.traces import reserved_id, send_spans_to

_SCOPE = "evalmesh"
_FLUSH_S = 3.0
_LOOK_S = 0.02
_EXPORTERS = {"traces": "trace", "metrics": "metric", "logs": "_log"}
_CLASSES = {"traces": "OTLPSpanExporter", "metrics": "OTLPMetricExporter", "logs": "OTLPLogExporter"}


def exporter(signal: str, protocol: str) -> Any:
    """The SDK's own, which reads endpoint, headers and certificates from the environment. Raises `ImportError`."""
    way = "grpc" if protocol == "grpc" else "http"
    return getattr(
        import_module(f"opentelemetry.exporter.otlp.proto.{way}.{_EXPORTERS[signal]}_exporter"), _CLASSES[signal]
    )()


class _SpanIds(RandomIdGenerator):
    """Random, unless one was handed out before its span (`traces.LaterSpan`)."""

    def generate_span_id(self) -> int:
        """See the base class."""
        return reserved_id() or super().generate_span_id()


@dataclass(slots=True)
class Sender:
    """The SDK, per room as far as it has to be."""

    export: Export
    alone: bool
    _instance: str = field(default_factory=lambda: str(uuid.uuid4()))
    _tracers: dict[str, Tracer] = field(default_factory=dict)
    _meters: dict[str, "_RoomMeter"] = field(default_factory=dict)
    _loggers: dict[str, LoggerProvider] = field(default_factory=dict)
    _spans: BatchSpanProcessor | None = None
    _logs: BatchLogRecordProcessor | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Makes what all rooms share. Raises `ImportError` where a package is missing."""
        if protocol := self.export.protocols.get("traces"):
            self._spans = BatchSpanProcessor(exporter("traces", protocol))
        if protocol := self.export.protocols.get("logs"):
            self._logs = BatchLogRecordProcessor(exporter("logs", protocol))
        if protocol := self.export.protocols.get("metrics"):
            # Each room will have one of its own; here it is found out whether there is any.
            exporter("metrics", protocol)

    def resource(self, room: str) -> Resource:
        """Who says it."""
        own = {
            "service.name": service_name(room, alone=self.alone),
            "service.namespace": "evalmesh",
            "service.instance.id": self._instance,
            "service.version": version("evalmesh"),
        }
        # What OTEL_RESOURCE_ATTRIBUTES says goes before what we would say, but for who is who.
        given = dict(Resource.create({}).attributes)
        return Resource({**own, **given, "service.name": own["service.name"]})

    def tracer(self, room: str) -> Tracer:
        """Of a room."""
        with self._lock:
            if room not in self._tracers:
                provider = TracerProvider(resource=self.resource(room), shutdown_on_exit=False, id_generator=_SpanIds())
                assert self._spans is not None  # noqa: S101  (asked for only where traces are sent)
                provider.add_span_processor(self._spans)
                self._tracers[room] = provider.get_tracer(_SCOPE, version("evalmesh"))
            return self._tracers[room]

    def logger(self, room: str) -> LoggerProvider:
        """Of a room."""
        with self._lock:
            if room not in self._loggers:
                provider = LoggerProvider(resource=self.resource(room), shutdown_on_exit=False)
                assert self._logs is not None  # noqa: S101  (asked for only where logs are sent)
                provider.add_log_record_processor(self._logs)
                self._loggers[room] = provider
            return self._loggers[room]

    def meter(self, room: str) -> "_RoomMeter":
        """Of a room."""
        with self._lock:
            if room not in self._meters:
                reader = PeriodicExportingMetricReader(exporter("metrics", self.export.protocols["metrics"]))
                provider = MeterProvider([reader], self.resource(room), shutdown_on_exit=False)
                self._meters[room] = _RoomMeter(room, provider, provider.get_meter(_SCOPE, version("evalmesh")))
            return self._meters[room]

    def counted(self, counter: Counter, amount: float, room: str, labels: Labels) -> None:
        """See `Listener`."""
        self.meter(room).instrument(counter).add(amount, attributes(counter, labels))

    def measured(self, histogram: Histogram, value: float, room: str, labels: Labels) -> None:
        """See `Listener`."""
        self.meter(room).instrument(histogram).record(value, attributes(histogram, labels))

    def close(self, hopeless: Callable[[], bool]) -> None:
        """Sends what has gathered; threads that are still at it after `_FLUSH_S`, or without hope, are left alone."""

        def end() -> None:
            for one in (self._spans, self._logs, *(meter.provider for meter in self._meters.values())):
                if one is not None:
                    one.shutdown()  # type: ignore[no-untyped-call]  # of some

        ending = threading.Thread(target=end, name="telemetry-end", daemon=True)
        ending.start()
        deadline = time.monotonic() + _FLUSH_S
        while ending.is_alive() and time.monotonic() < deadline and not hopeless():
            ending.join(_LOOK_S)


@dataclass(slots=True)
class _RoomMeter:
    room: str
    provider: MeterProvider
    meter: Meter
    _made: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for gauge in GAUGES:
            self.meter.create_observable_gauge(gauge.name, [self._reading(gauge)], gauge.unit, gauge.help)

    def _reading(self, gauge: Gauge) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(_: CallbackOptions) -> Iterable[Observation]:
            for (room, labels), value in watched(gauge).items():
                if room == self.room:
                    yield Observation(value, attributes(gauge, labels))

        return read

    def instrument(self, one: Counter | Histogram) -> Any:
        made = self._made.get(one.name)
        if made is None:
            if isinstance(one, Counter):
                made = self.meter.create_counter(one.name, one.unit, one.help)
            else:
                made = self.meter.create_histogram(
                    one.name, one.unit, one.help, explicit_bucket_boundaries_advisory=one.buckets or None
                )
            self._made[one.name] = made
        return made


class OneWarning(logging.Handler):
    """What the SDK complains of: the first time as a warning of ours; it repeats itself for as long as a run lasts."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say
        self.said = ""

    def emit(self, record: logging.LogRecord) -> None:
        """See the class."""
        if not self.said:
            # Some collectors take their key in the query of the address.
            self.said = re.sub(r"\?\S+", "", " ".join(record.getMessage().split()))[:300]
            self._say(self.said)


@contextmanager
def sending(export: Export, *, alone: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Sends for the block. Raises `ImportError` where a package is missing."""
    theirs = logging.getLogger("opentelemetry")
    complaints = OneWarning(say)
    before = (theirs.propagate, list(theirs.handlers))
    theirs.propagate, theirs.handlers = False, [complaints]
    sender = Sender(export, alone)
    try:
        sender.start()
        with ExitStack() as stack:
            if "traces" in export.protocols:
                send_spans_to(sender.tracer)
                stack.callback(send_spans_to, None)
            if "metrics" in export.protocols:
                stack.enter_context(heard_by(sender))
            if "logs" in export.protocols:
                stack.enter_context(also_logging_to(LogExport(sender.logger)))
            yield
    finally:
        sender.close(lambda: bool(complaints.said))
        theirs.propagate, theirs.handlers = before
