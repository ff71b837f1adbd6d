"""Spans, instruments and the page, without anybody to send them to."""

import asyncio
import json
import logging

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from evalmesh.adapters.openai.transport import _trace_headers
from evalmesh.domain.errors import NotFound
from evalmesh.runtime.telemetry import (
    JsonFormatter,
    adopt_trace,
    begin_room,
    continue_trace,
    current_trace,
    log_fields,
    span,
    trace_id,
)
from evalmesh.runtime.telemetry.instruments import MOST_SERIES, Counter, attributes, heard_by
from evalmesh.runtime.telemetry.ledger import Ledger
from evalmesh.runtime.telemetry.metrics import ALL, CALL_DURATION, QUEUE_WAIT, REUSED, SCORER_WORKERS, SCORES
from evalmesh.runtime.telemetry.otlp import Sender
from evalmesh.runtime.telemetry.settings import Export
from evalmesh.runtime.telemetry.traces import LaterSpan, send_spans_to

PARENT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
TRACE = PARENT["traceparent"].split("-")[1]


@pytest.fixture
def spans():
    """Those that end while spans are kept, by name."""
    kept = InMemorySpanExporter()
    sender = Sender(Export({"traces": ""}), alone=False)
    sender._spans = SimpleSpanProcessor(kept)
    send_spans_to(sender.tracer)
    yield lambda: {one.name: one for one in kept.get_finished_spans()}
    send_spans_to(None)


def hex_of(context):
    return trace.format_trace_id(context.trace_id)


def test_without_an_exporter_the_trace_is_carried_all_the_same():
    with continue_trace(PARENT), span("nothing") as nothing:
        assert not nothing.is_recording()
        assert current_trace() == PARENT
        assert trace_id() == ""  # it is to be found nowhere
    assert current_trace() == {}


def test_without_a_caller_a_trace_begins():
    with continue_trace({}):
        first = current_trace()["traceparent"]
    with continue_trace({}):
        assert current_trace()["traceparent"].split("-")[1] != first.split("-")[1]


async def test_a_span_is_of_the_room_at_work_and_below_whoever_asked(spans):
    async def work():
        begin_room("scorer")
        adopt_trace(PARENT)
        with span("outer"), span("inner", {"a": 1}):
            assert trace_id() == TRACE

    await asyncio.create_task(work())
    outer, inner = spans()["outer"], spans()["inner"]
    assert {hex_of(one.context) for one in (outer, inner)} == {TRACE}
    assert (inner.parent.span_id, trace.format_span_id(outer.parent.span_id)) == (
        outer.context.span_id,
        "b7ad6b7169203331",
    )
    assert inner.resource.attributes["service.name"] == "evalmesh-scorer"
    assert dict(inner.attributes) == {"a": 1}


async def test_a_task_of_a_room_is_in_nobodys_trace(spans):
    """A service that a command starts outlives no command, but works for others too."""

    async def loop():
        begin_room("scorer")
        with span("own"):
            pass

    with span("command"):
        await asyncio.create_task(loop())
    assert spans()["own"].parent is None


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [(NotFound("There is no run x."), "NOT_FOUND", "There is no run x."), (ValueError("a secret"), "ValueError", None)],
)
def test_a_failure_is_told_without_what_a_defect_may_hold(spans, error, kind, text):
    with pytest.raises(type(error)), span("failing"):
        raise error
    told = spans()["failing"]
    assert (told.attributes["error.type"], told.status.description) == (kind, text)
    assert not told.status.is_ok
    assert not told.events


def test_a_cancel_is_no_failure(spans):
    with pytest.raises(asyncio.CancelledError), span("cancelled"):
        raise asyncio.CancelledError
    assert "error.type" not in spans()["cancelled"].attributes
    assert spans()["cancelled"].status.status_code is trace.StatusCode.UNSET


def test_a_span_told_of_later_has_the_id_that_was_sent_along(spans):
    with span("shard"):
        later = LaterSpan.reserve()
        with later.current():
            sent = current_trace()["traceparent"].split("-")
            assert _trace_headers() == current_trace()  # what a model's server is sent
        later.begun("chat m", 1000.5, {}, trace.SpanKind.CLIENT).end(1002 * 10**9)
        with span("next"):
            assert _trace_headers() is None
    told, shard = spans()["chat m"], spans()["shard"]
    assert [hex_of(told.context), trace.format_span_id(told.context.span_id)] == sent[1:3]
    assert told.parent.span_id == shard.context.span_id
    assert (told.start_time, told.end_time) == (1_000_500_000_000, 1_002_000_000_000)
    assert spans()["next"].context.span_id != told.context.span_id


def test_a_line_of_the_log_names_its_span(spans):
    with span("at work"), log_fields(run="r"):
        line = json.loads(JsonFormatter("x").format(logging.makeLogRecord({"msg": "done", "levelname": "INFO"})))
    told = spans()["at work"]
    assert (line["trace_id"], line["span_id"]) == (hex_of(told.context), trace.format_span_id(told.context.span_id))
    assert line["run"] == "r"


def samples(ledger):
    return {
        (one.name, *sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(ledger.text().decode())
        for one in family.samples
    }


def test_the_page_shows_what_was_counted_while_it_was_there():
    REUSED.add(5)  # nobody listens yet
    ledger = Ledger()
    with heard_by(ledger):
        REUSED.add(2)
        SCORES.add(3, "scored")
        QUEUE_WAIT.record(0.02, "plan")
        QUEUE_WAIT.record(5000.0, "plan")
        QUEUE_WAIT.record(float("nan"), "plan")
        stop = SCORER_WORKERS.watch(lambda: {(): 2}, "scorer")
        also = SCORER_WORKERS.watch(lambda: {(): 1}, "scorer")
    REUSED.add(7)
    shown = samples(ledger)
    plan = (("queue", "plan"), ("service", ""))
    assert shown["evalmesh_completions_reused_total", ("service", "")] == 2
    assert shown["evalmesh_scores_total", ("service", ""), ("state", "scored")] == 3
    assert shown["evalmesh_queue_wait_seconds_count", *plan] == 2
    assert shown["evalmesh_queue_wait_seconds_bucket", ("le", "0.01"), *plan] == 0
    assert shown["evalmesh_queue_wait_seconds_bucket", ("le", "0.02"), *plan] == 1
    assert shown["evalmesh_queue_wait_seconds_bucket", ("le", "+Inf"), *plan] == 2
    assert shown["evalmesh_scorer_workers", ("service", "scorer")] == 3
    stop()
    also()
    assert ("evalmesh_scorer_workers", ("service", "scorer")) not in samples(ledger)


def test_too_many_series_become_one():
    counter, ledger = Counter("t", "1", "t", ("model",)), Ledger()
    with heard_by(ledger):
        for number in range(MOST_SERIES + 100):
            counter.add(1, f"m{number}")
        counter.add(1, "m0")
    counts = {labels: count for (_, _, labels), count in ledger._counts.items()}
    assert len(counts) == MOST_SERIES + 1
    assert (counts["other",], counts["m0",]) == (100, 2)


def test_labels_without_a_value_are_left_out_and_ports_are_numbers():
    labels = ("chat", "openai", "m", "host", "8000", "")
    assert attributes(CALL_DURATION, labels) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "server.address": "host",
        "server.port": 8000,
    }


def test_no_metric_is_told_apart_by_what_grows():
    labels = {label for one in ALL for label in one.labels}
    assert not {
        label for label in labels if {"run", "sample", "shard", "benchmark", "load_test"} & set(label.split("."))
    }
    assert len({one.name for one in ALL}) == len(ALL)
