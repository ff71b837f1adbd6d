from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.domain.errors import InternalError, InvalidInput
from evalmesh.domain.events import Activity, Event, EventKind
from evalmesh.domain.load_work import LoadItem
from evalmesh.domain.work import Queue, Shard, Task, WorkItem
from evalmesh.internal.v1 import messages_pb2
from evalmesh.wire import messages, subjects

TRACE = {"traceparent": "00-1-2-01", "tracestate": "a=b"}
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


shards = st.builds(
    Shard,
    index=st.integers(0, 1 << 20),
    subset=texts,
    start=st.integers(0, 1 << 40),
    samples=st.integers(0, 4096),
    requests=st.integers(0, 4096),
)
work = st.builds(
    WorkItem,
    run=texts,
    task=st.sampled_from(Task),
    benchmark=texts,
    stage=texts,
    kind=texts,
    shard=st.none() | shards,
    block=st.integers(-1, 1 << 20),
    pool=texts,
    attempt=st.integers(0, 1000),
    error=texts,
    handovers=st.integers(0, (1 << 31) - 1),
    trace=st.sampled_from([{}, TRACE]),
)
load = st.builds(
    LoadItem,
    load_test=texts,
    queue=st.sampled_from([Queue.CONDUCT, Queue.LOAD, Queue.LOAD_REPORT]),
    seat=st.integers(-1, 1000),
    attempt=st.integers(0, 1000),
    ends=st.booleans(),
    cancel=texts,
    handovers=st.integers(0, 1000),
    trace=st.sampled_from([{}, TRACE]),
)


@given(work | load)
def test_an_item_round_trips_with_its_trace_in_headers(item):
    body = messages.encode_item(item)
    assert b"00-1-2-01" not in body
    assert messages.decode_item(body, {"Nats-Msg-Id": "x", **messages.trace_headers(item)}) == item


@given(texts, texts, st.sampled_from(get_args(EventKind)), st.binary())
def test_an_event_round_trips(run, benchmark, kind, load):
    activity = {benchmark: Activity(1, 2, 3), "idle": Activity()}
    event = Event(run=run, kind=kind, source="s", time=1.5, activity=activity, load=load)
    assert messages.decode_event(messages.encode_event(event)) == event


def test_only_trace_context_becomes_headers():
    item = WorkItem("r", Task.PLAN, trace={**TRACE, "Nats-Msg-Id": "forged"})
    assert messages.trace_headers(item) == TRACE


@pytest.mark.parametrize("error", ["x" * 100_000, "é" * 5000, "😀" * 3000, "\udcff" * 5000])
def test_an_error_is_cut_so_that_a_message_stays_small(error):
    item = WorkItem("r", Task.FINISH, error=error)
    assert len(messages.encode_item(item)) < 4096
    assert len(messages.encode_dead(item, "")) < 4096
    assert messages.cut_error(error).endswith("…")


def test_a_short_error_is_whole():
    dead = messages_pb2.DeadItem.FromString(messages.encode_dead(WorkItem("r", Task.PLAN), "why: é"))
    assert (dead.item.work.run, dead.error) == ("r", "why: é")


def test_an_item_of_a_version_before_stages_is_no_item_and_no_surprise():
    """Its fields have numbers that nothing else may have."""
    old = bytes.fromhex("0a0272311205") + b"score" + bytes.fromhex("1a0567736d386b2006")
    with pytest.raises(InternalError):
        messages.decode_item(old)


@pytest.mark.parametrize("body", [b"\xff\xff", b""])
def test_garbage_is_no_message(body):
    for decode in (messages.decode_item, messages.decode_event):
        with pytest.raises(InternalError):
            decode(body)


@pytest.mark.parametrize("bad", ["", ".", "a.b", "a b", "*", ">", "a>", "A", "-a", "a/b", "a\n", "é", "x" * 64])
def test_tokens_from_outside_are_checked(bad):
    for make in (subjects.run_key, subjects.active_key, subjects.pool_key, subjects.event_filter):
        with pytest.raises(InvalidInput) as caught:
            make(bad)
        assert caught.value.details["field"] in {"run", "pool"}
    with pytest.raises(InvalidInput):
        subjects.work_subject(Queue.GENERATE, "run-1", bad)
    with pytest.raises(InvalidInput):
        subjects.event_subject("run-1", bad)


def test_a_purge_matches_every_subject_of_the_run_and_no_other():
    def matches(pattern, subject):
        ours, theirs = pattern.split("."), subject.split(".")
        return len(ours) == len(theirs) and all(o in ("*", t) for o, t in zip(ours, theirs, strict=True))

    for run, purged in (("run-1", True), ("run-2", False)):
        for queue in Queue:
            subject = subjects.work_subject(queue, run, "run-1" if queue is Queue.GENERATE else "")
            assert any(matches(pattern, subject) for pattern in subjects.work_purge_filters("run-1")) is purged, subject
            assert matches(subjects.work_filter(queue, "run-1"), subject)
