"""The report aggregator and load tests, over a real bus: three objects and one end state, however often."""

import asyncio
import io
import json
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator
from tests.kit.hosting import hosted
from tests.unit.report.perf_builders import make_failures, make_level, make_limited, make_test

from evalmesh.adapters.environment import SystemClock
from evalmesh.domain import layout
from evalmesh.domain.errors import NotFound
from evalmesh.domain.load_test import LevelStatus, LoadLevel
from evalmesh.domain.load_work import LoadItem
from evalmesh.domain.state import State
from evalmesh.domain.work import Queue
from evalmesh.load.measure.records import HEADER, MAGIC, RECORD
from evalmesh.load.measure.table import DTYPE
from evalmesh.report_aggregator import service as report_aggregator
from evalmesh.report_aggregator.load_tests.worker import PerfWorker
from evalmesh.report_aggregator.settings import ReportAggregatorSettings
from evalmesh.runtime.submission import RecordBook

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "perf.schema.json").read_text())
HEAD = HEADER.pack(MAGIC, RECORD.size)


@asynccontextmanager
async def running(opened):
    service = report_aggregator.build(
        settings=ReportAggregatorSettings(drain_s=0.5),
        runs=opened.runs,
        load_tests=opened.load_tests,
        bus=opened.bus,
        objects=opened.objects,
        clock=SystemClock(),
    )
    async with hosted(service):
        yield service


def make_worker(opened):
    return PerfWorker(RecordBook(opened.load_tests, opened.bus, SystemClock()), opened.objects)


def records_of(indices, generator=0):
    """The bytes of one seat's records."""
    records = np.zeros(len(indices), DTYPE)
    records["index"] = indices
    records["generator"] = generator
    return HEAD + records.tobytes()


async def conducted(opened, *levels, state=State.RUNNING, seats=2, **changes):
    """What a conductor leaves when its levels are done: the record, their documents, and the seats' records."""
    statuses = tuple(
        LevelStatus(level["index"], LoadLevel(parallel=8), repeat=level["repeat"], state="done") for level in levels
    )
    test = replace(make_test(state, attempt=1, end_time=None, levels=statuses, **changes), id="lt1")
    await opened.load_tests.create(test)
    for level in levels:
        number = level["index"]
        await opened.objects.put(layout.level_key("lt1", number), json.dumps(level).encode())
        for seat in range(seats):
            key = layout.level_records_key("lt1", number, seat)
            await opened.objects.put(key, records_of(range(seat, 10, seats), seat))
    return test


def final(attempt=1):
    return LoadItem("lt1", Queue.LOAD_REPORT, ends=True, attempt=attempt)


async def until_ended(opened, within_s=20.0):
    async with asyncio.timeout(within_s):
        while True:
            known = (await opened.load_tests.get("lt1")).value
            if known.state.terminal:
                return known
            await asyncio.sleep(0.02)


async def perf_of(opened):
    document = json.loads(await opened.objects.get(layout.perf_json_key("lt1")))
    Draft202012Validator(SCHEMA).validate(document)
    return document


async def rows_of(opened):
    return pq.read_table(io.BytesIO(await opened.objects.get(layout.load_requests_key("lt1")))).to_pylist()


async def test_final_item_makes_the_report_and_ends_the_load_test(opened):
    levels = [make_level(0, 1), make_level(1, 8)]
    await conducted(opened, *levels)
    before = time.time()
    async with running(opened):
        await opened.bus.publish([final()])
        test = await until_ended(opened)
    assert test.state is State.SUCCEEDED
    assert before <= test.end_time <= time.time()
    perf = await perf_of(opened)
    assert perf["load_test"]["state"] == "SUCCEEDED"
    assert [level["label"] for level in perf["levels"]] == ["parallel 1", "parallel 8"]
    page = (await opened.objects.get(layout.perf_html_key("lt1"))).decode()
    assert "parallel 8" in page
    rows = await rows_of(opened)
    assert [(row["level"], row["index"], row["generator"]) for row in rows] == [
        (level, index, index % 2) for level in (0, 1) for index in range(10)
    ]


async def test_doing_it_again_changes_nothing(opened):
    await conducted(opened, make_level(0))
    await make_worker(opened).handle(final())
    keys = [layout.perf_json_key("lt1"), layout.perf_html_key("lt1"), layout.load_requests_key("lt1")]
    first = [await opened.objects.get(key) for key in keys]
    revision = (await opened.load_tests.get("lt1")).revision
    await make_worker(opened).handle(final())
    assert [await opened.objects.get(key) for key in keys] == first
    assert (await opened.load_tests.get("lt1")).revision == revision


async def test_a_crash_before_the_end_state_is_made_up_for(opened):
    """The objects of the first try are there; the second one writes them again and ends the load test."""
    await conducted(opened, make_level(0))
    await opened.objects.put(layout.perf_json_key("lt1"), b"{}")
    await opened.objects.put(layout.perf_html_key("lt1"), b"half")
    await make_worker(opened).handle(final())
    assert (await opened.load_tests.get("lt1")).value.state is State.SUCCEEDED
    assert (await perf_of(opened))["levels"]


async def test_item_of_a_conductor_that_was_replaced_ends_nothing(opened):
    await conducted(opened, make_level(0))
    await make_worker(opened).handle(final(attempt=0))
    assert (await opened.load_tests.get("lt1")).value.state is State.RUNNING
    with pytest.raises(NotFound):
        await opened.objects.get(layout.perf_json_key("lt1"))


@pytest.mark.parametrize(
    ("state", "error", "expected"),
    [
        (State.CANCELLING, "", State.CANCELLED),
        (State.CANCELLING, "The endpoint went away.", State.CANCELLED),
        (State.RUNNING, "The endpoint went away.", State.FAILED),
    ],
)
async def test_the_end_state_is_the_one_the_conductor_left(opened, state, error, expected):
    test = await conducted(opened, make_level(0), state=state, error=error)
    begun = LevelStatus(1, LoadLevel(parallel=64), state="running")
    known = await opened.load_tests.get("lt1")
    await opened.load_tests.update(replace(test, levels=(*test.levels, begun)), known.revision)
    async with running(opened):
        await opened.bus.publish([final()])
        ended = await until_ended(opened)
    assert (ended.state, ended.error) == (expected, error)
    broken = "cancelled" if expected is State.CANCELLED else "failed"
    assert [level.state for level in ended.levels] == ["done", broken]
    perf = await perf_of(opened)
    assert perf["load_test"]["state"] == expected
    assert perf["notes"] == [f"Level 1 has no figures; it is {broken}."]


async def test_a_load_test_that_measured_nothing_ends_with_an_empty_report(opened):
    await conducted(opened, error="No generator took a seat.", error_reason="FAILED_PRECONDITION")
    await make_worker(opened).handle(final())
    assert (await opened.load_tests.get("lt1")).value.state is State.FAILED
    assert (await perf_of(opened))["levels"] == []
    assert await rows_of(opened) == []
    assert "No generator took a seat." in (await opened.objects.get(layout.perf_html_key("lt1"))).decode()


async def test_failures_and_a_limited_client_do_not_make_a_load_test_fail(opened):
    await conducted(opened, make_limited(make_failures(make_level(0), http_500=1990)))
    await make_worker(opened).handle(final())
    assert (await opened.load_tests.get("lt1")).value.state is State.SUCCEEDED
    assert (await perf_of(opened))["client_limited"]


async def test_records_that_break_off_are_read_as_far_as_they_go(opened):
    """A seat died: after some records, in the middle of one, or before it wrote anything."""
    await conducted(opened, make_level(0), seats=1)
    whole = records_of(range(10))
    for seat, data in ((1, records_of([20, 21])[:-1]), (2, HEAD[:5]), (3, b""), (4, records_of([30]))):
        await opened.objects.put(layout.level_records_key("lt1", 0, seat), data)
    assert len(whole) == len(HEAD) + 10 * RECORD.size
    await make_worker(opened).handle(final())
    assert [row["index"] for row in await rows_of(opened)] == [*range(10), 20, 30]


async def test_objects_that_are_no_records_or_documents_fail_the_load_test_and_say_so(opened):
    await conducted(opened, make_level(0))
    key = layout.level_records_key("lt1", 0, 1)
    await opened.objects.put(key, b"GARBAGE!" * 40)
    async with running(opened):
        await opened.bus.publish([final()])
        test = await until_ended(opened)
    assert (test.state, test.error_reason) == (State.FAILED, "REPORT_FAILED")
    assert key in test.error


async def test_two_aggregators_end_a_load_test_once(opened):
    await conducted(opened, *(make_level(number, repeat=number) for number in range(5)))
    workers = [make_worker(opened) for _ in range(3)]
    await asyncio.gather(*(worker.handle(final()) for worker in workers))
    known = await opened.load_tests.get("lt1")
    assert known.value.state is State.SUCCEEDED
    perf = await perf_of(opened)
    assert perf["repeats"][0]["levels"] == [0, 1, 2, 3, 4]
    assert [row["repeat"] for row in await rows_of(opened)] == [n for n in range(5) for _ in range(10)]
