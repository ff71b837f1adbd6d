"""Traces: one per run. The context is W3C `traceparent`, in gRPC metadata and message headers.

Without an exporter it is carried all the same, so that the logs of a run can be found by its trace; spans are then
made by nobody.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Self

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from evalmesh.domain.errors import EvalmeshError
from evalmesh.ports.endpoint import TRACED_CALL
from evalmesh.runtime.telemetry.rooms import current_room

Attributes = Mapping[str, AttributeValue]
TracerOf = Callable[[str], Tracer]
"""The tracer of a room."""

_PROPAGATOR = TraceContextTextMapPropagator()
_tracer_of: TracerOf | None = None
_RESERVED: ContextVar[int] = ContextVar("evalmesh_reserved_span", default=0)


def send_spans_to(tracer_of: TracerOf | None) -> None:
    """From now on, in this process; `None`: nowhere."""
    global _tracer_of  # noqa: PLW0603  (one exporter per process, as in every SDK)
    _tracer_of = tracer_of


def tracing() -> bool:
    """Whether spans go anywhere."""
    return _tracer_of is not None


def tracer() -> Tracer:
    """That of the room at work."""
    return trace.NoOpTracer() if _tracer_of is None else _tracer_of(current_room())


def adopt_trace(carrier: Mapping[str, str]) -> Token[Context]:
    """Makes the trace in `carrier` the current one of this task; starts a new trace when it holds none."""
    context = _PROPAGATOR.extract(dict(carrier), Context())
    # With an exporter, whether a new trace is kept is its sampler's decision, made with the first span.
    if _tracer_of is None and not trace.get_current_span(context).get_span_context().is_valid:
        context = trace.set_span_in_context(trace.NonRecordingSpan(_new_span_context()))
    return otel_context.attach(context)


def _new_span_context() -> trace.SpanContext:
    return trace.SpanContext(
        trace_id=secrets.randbits(128) or 1,
        span_id=secrets.randbits(64) or 1,
        is_remote=False,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )


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


def trace_id() -> str:
    """Of the trace that spans are being sent of, in hex; empty where none are, or where this one was not sampled."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if tracing() and context.trace_flags.sampled else ""


@contextmanager
def span(name: str, attributes: Attributes | None = None, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[Span]:
    """A span of the room at work, current for the block; without an exporter the block just runs.

    What is raised marks it as failed, with its class as `error.type`; a cancel does not. The texts of defects, which
    may hold anything, stay out of it.
    """
    if _tracer_of is None:
        yield trace.INVALID_SPAN
        return
    with tracer().start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as started:
        try:
            yield started
        except (asyncio.CancelledError, GeneratorExit):
            started.set_attribute("evalmesh.cancelled", True)  # noqa: FBT003  (the value of an attribute)
            raise
        except BaseException as error:
            mark_failed(started, error)
            raise


def mark_failed(failed: Span, error: BaseException) -> None:
    """Says of a span that it has failed, and why."""
    known = error if isinstance(error, EvalmeshError) else None
    failed.set_attribute("error.type", type(error).__name__ if known is None else known.reason)
    failed.set_status(Status(StatusCode.ERROR, None if known is None else known.message))


def reserved_id() -> int:
    """The id that the span which is being made was promised; 0: any."""
    return _RESERVED.get()


@dataclass(frozen=True, slots=True)
class LaterSpan:
    """A span whose beginning is only known when it is over; those below it are given its id before."""

    id: int
    parent: Context

    @classmethod
    def reserve(cls) -> Self:
        """Below the current span."""
        return cls(secrets.randbits(64) or 1, otel_context.get_current())

    @contextmanager
    def current(self) -> Iterator[None]:
        """What is sent or logged inside belongs to it."""
        above = trace.get_current_span(self.parent).get_span_context()
        if not above.is_valid:
            yield  # it will begin a trace, whose id is not known before its sampler was asked
            return
        context = trace.SpanContext(above.trace_id, self.id, is_remote=False, trace_flags=above.trace_flags)
        marked = otel_context.set_value(TRACED_CALL, True, self.parent)  # noqa: FBT003  (a value)
        token = otel_context.attach(trace.set_span_in_context(trace.NonRecordingSpan(context), marked))
        try:
            yield
        finally:
            otel_context.detach(token)

    def begun(self, name: str, start_s: float, attributes: Attributes, kind: SpanKind) -> Span:
        """The span, from a Unix time on; whoever asks ends it."""
        token = _RESERVED.set(self.id)
        try:
            return tracer().start_span(
                name, self.parent, kind=kind, attributes=attributes, start_time=nanoseconds(start_s)
            )
        finally:
            _RESERVED.reset(token)


def nanoseconds(time_s: float) -> int:
    """As spans count time."""
    return int(time_s * 1e9)
