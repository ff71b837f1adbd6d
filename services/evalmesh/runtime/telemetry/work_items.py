"""What is told of a work item: a span below whoever asked for it, how long it waited and took, how it ended."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from evalmesh.domain.work import Item
from evalmesh.ports.bus import Delivery
from evalmesh.runtime.telemetry import metrics
from evalmesh.runtime.telemetry.traces import continue_trace, mark_failed, span, tracing

Word = Literal["done", "dropped", "retried", "set_aside", "handed_over"]


@dataclass(slots=True)
class Outcome:
    """How the work on an item ended."""

    span: Span
    word: Word = "retried"

    def failed(self, word: Word, error: Exception | str) -> None:
        """It was not done, for a reason."""
        self.word = word
        if isinstance(error, Exception):
            mark_failed(self.span, error)
        else:
            self.span.set_attribute("error.type", word)
            self.span.set_status(Status(StatusCode.ERROR, error))


@contextmanager
def worked_on(delivery: Delivery) -> Iterator[Outcome]:
    """Carries on the item's trace for the block, in which its outcome is found out."""
    item = delivery.item
    began = time.perf_counter()
    metrics.QUEUE_WAIT.record(delivery.waited_s, item.queue)
    with continue_trace(item.trace):
        outcome = Outcome(trace.INVALID_SPAN)
        try:
            if not tracing():
                yield outcome
                return
            with span(item.step, _about(delivery), SpanKind.CONSUMER) as outcome.span:
                yield outcome
                outcome.span.set_attribute("evalmesh.outcome", outcome.word)
        finally:
            _count(item, outcome.word, time.perf_counter() - began)


def _about(delivery: Delivery) -> dict[str, str | int | float]:
    item = delivery.item
    found: dict[str, str | int | float] = {
        "messaging.system": "nats",
        "messaging.destination.name": item.queue,
        "messaging.operation.type": "process",
        "evalmesh.delivered": delivery.delivered,
        "evalmesh.attempt": item.attempt,
        "evalmesh.queue.wait_s": delivery.waited_s,
    }
    for name, value in item.labels.items():
        if value not in ("", -1) and isinstance(value, str | int):
            found[f"evalmesh.{name}"] = value
    if item.samples is not None:
        found["evalmesh.samples"] = item.samples
    return found


def _count(item: Item, word: Word, took_s: float) -> None:
    metrics.WORK_ITEMS.add(1, item.queue, word)
    metrics.WORK_DURATION.record(took_s, item.queue, item.step)
    if word == "done" and item.samples is not None:
        metrics.STEPS.add(1, item.step)
        metrics.STEP_SAMPLES.add(item.samples, item.step)
