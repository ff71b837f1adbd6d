"""The report aggregator over a real bus and a folder: every shard counts once, whoever takes it and however often."""

import asyncio
import io
import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from tests.kit.nats import running_server
from tests.kit.services import plan_run, write_questions

from evalmesh.adapters.connections import open_connections
from evalmesh.adapters.environment import SystemClock
from evalmesh.benchmarks import registry
from evalmesh.domain import layout
from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import NotFound
from evalmesh.domain.progress import ProgressRecord
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec, RunState
from evalmesh.domain.score import Score
from evalmesh.domain.work import Step, WorkItem
from evalmesh.ports.bus import Queue
from evalmesh.report_aggregator import service as report_aggregator
from evalmesh.report_aggregator.runs.shard_counts import count_scores
from evalmesh.report_aggregator.runs.worker import ReportWorker
from evalmesh.report_aggregator.settings import ReportAggregatorSettings
from evalmesh.runtime.serve import ServiceHost
from evalmesh.wire.codec import decode_json
from evalmesh.wire.runs.shard_files import ShardFiles

REPORT = Queue(Step.REPORT)
NAME = "general_mcq"


@pytest.fixture
async def opened(tmp_path):
    with running_server(tmp_path / "nats") as nats:
        async with open_connections(nats.url, (tmp_path / "objects").as_uri(), "test", 2.0) as connections:
            yield connections


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
    host = ServiceHost([service], "127.0.0.1:0")
    await host.start()
    try:
        yield service
    finally:
        await host.stop(0.1)


def make_worker(opened):
    return ReportWorker(files=ShardFiles(opened.objects), runs=opened.runs, bus=opened.bus, clock=SystemClock())


def spec_of(tmp_path, count, **more):
    path = write_questions(tmp_path / f"questions{count}.jsonl", count)
    return RunSpec(ModelSpec("m", url="http://h/v1"), (BenchmarkSpec(NAME, local_path=str(path)),), **more)


def report_item(shard, run="r1", **more):
    return WorkItem(run, Step.REPORT, NAME, shard, **more)


async def score_shards(opened, shards, right=lambda index: index % 4 == 0, run="r1"):
    """What runner and scorer leave behind: completions and scores, right where `right(row index)`."""
    files = ShardFiles(opened.objects)
    for shard in shards:
        _, rows = await files.read_requests(run, NAME, shard)
        requests = [(row.sample, request) for row in rows for request in row.requests()]
        completions = [
            Completion(request.sample_id, request.repeat, request.digest, text="A") for _, request in requests
        ]
        scores = [
            Score(sample.id, request.repeat, "scored", {"accuracy": float(right(sample.index))}, answer="A")
            for sample, request in requests
        ]
        await files.write_completions(run, NAME, shard, completions)
        await files.write_scores(run, NAME, shard, scores)


async def until_ended(opened, run="r1", within_s=20.0):
    async with asyncio.timeout(within_s):
        while True:
            known = (await opened.runs.get_run(run)).value
            if known.state.terminal:
                return known
            await asyncio.sleep(0.02)


async def report_of(opened, run="r1"):
    return json.loads(await opened.objects.get(layout.report_json_key(run)))


async def progress_of(opened, run="r1"):
    return decode_json(ProgressRecord, (await opened.runs.get_progress(run)).value).benchmarks[NAME]


async def rows_of(opened, run="r1"):
    return pq.read_table(io.BytesIO(await opened.objects.get(layout.results_key(run, NAME)))).to_pylist()


async def test_all_shards_make_a_report(opened, tmp_path):
    await plan_run(opened, "r1", spec_of(tmp_path, 40, shard_size=5))
    await score_shards(opened, range(8))
    async with running(opened):
        await opened.bus.publish([report_item(shard) for shard in range(8)])
        run = await until_ended(opened)
    assert run.state is RunState.SUCCEEDED
    metric = (await report_of(opened))["benchmarks"][0]["metrics"][0]
    assert (metric["value"], metric["n_scored"]) == (0.25, 40)
    assert len(await rows_of(opened)) == 40


async def test_shard_reported_twice_counts_once(opened, tmp_path):
    await plan_run(opened, "r1", spec_of(tmp_path, 20, shard_size=5))
    await score_shards(opened, range(4))
    worker = make_worker(opened)
    for shard in (0, 1, 0, 0, 1):
        await worker.handle(report_item(shard))
    known = await progress_of(opened)
    assert (known.done, known.scored, known.total) == (10, 10, 20)
    assert await opened.bus.backlog(REPORT) == 0, "the run was called complete"


async def test_aggregators_share_the_work_and_lose_nothing(opened, tmp_path):
    """They change one record at the same time: compare-and-set decides, and the loser tries again."""
    await plan_run(opened, "r1", spec_of(tmp_path, 300, shard_size=3))
    await score_shards(opened, range(100))
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(running(opened))
        # Every shard twice: as two attempts of the score step would.
        await opened.bus.publish([report_item(shard, attempt=attempt) for attempt in (0, 1) for shard in range(100)])
        run = await until_ended(opened)
    assert run.state is RunState.SUCCEEDED
    known = await progress_of(opened)
    assert (known.done, known.scored, known.value_sum) == (300, 300, 75.0)
    assert (await report_of(opened))["benchmarks"][0]["metrics"][0]["n_scored"] == 300


async def test_crash_between_progress_and_the_wish_for_a_report_is_made_up_for(opened, tmp_path):
    await plan_run(opened, "r1", spec_of(tmp_path, 5))
    await score_shards(opened, [0])
    worker = make_worker(opened)
    files = ShardFiles(opened.objects)
    counts = count_scores(registry.get("general_mcq"), 0, await files.read_scores("r1", "general_mcq", 0))
    # What a worker that died in between leaves.
    assert await worker._progress.take_in(await files.read_plan("r1"), counts)
    assert await opened.bus.backlog(REPORT) == 0
    async with running(opened):
        await opened.bus.publish([report_item(0)])
        assert (await until_ended(opened)).state is RunState.SUCCEEDED


async def test_report_is_written_once(opened, tmp_path):
    await plan_run(opened, "r1", spec_of(tmp_path, 5))
    await score_shards(opened, [0])
    worker = make_worker(opened)
    await worker.handle(report_item(0))
    final = WorkItem("r1", Step.REPORT, final=True)
    await worker.handle(final)
    first = await opened.objects.get(layout.report_json_key("r1"))
    ended = (await opened.runs.get_run("r1")).revision
    await make_worker(opened).handle(final)
    assert await opened.objects.get(layout.report_json_key("r1")) == first
    assert (await opened.runs.get_run("r1")).revision == ended


async def test_wish_of_an_earlier_attempt_does_not_end_a_resumed_run(opened, tmp_path):
    await plan_run(opened, "r1", spec_of(tmp_path, 5))
    known = await opened.runs.get_run("r1")
    await opened.runs.update_run(replace(known.value, attempt=1), known.revision)
    await make_worker(opened).handle(WorkItem("r1", Step.REPORT, final=True, attempt=0))
    assert (await opened.runs.get_run("r1")).value.state is RunState.RUNNING
    with pytest.raises(NotFound):
        await report_of(opened)


async def test_cancelled_run_reports_what_is_finished_and_counts_what_is_not(opened, tmp_path):
    await plan_run(opened, "r1", spec_of(tmp_path, 20, shard_size=5, repeats=2))
    await score_shards(opened, [0, 2])
    async with running(opened):
        await opened.bus.publish([report_item(0), report_item(2)])
        async with asyncio.timeout(10):
            while await opened.bus.backlog(REPORT):  # noqa: ASYNC110  (a queue has no event for it)
                await asyncio.sleep(0.02)
        known = await opened.runs.get_run("r1")
        await opened.runs.update_run(replace(known.value, state=RunState.CANCELLING), known.revision)
        await opened.runs.set_control("r1", "cancel")
        await opened.bus.publish([WorkItem("r1", Step.REPORT, final=True, error="cancel-1")])
        assert (await until_ended(opened)).state is RunState.CANCELLED
    (benchmark,) = (await report_of(opened))["benchmarks"]
    assert benchmark["n_not_run"] == 20
    assert benchmark["metrics"][0]["n_scored"] == 20
    rows = await rows_of(opened)
    assert len(rows) == 40
    assert sum(row["state"] == "scored" for row in rows) == 20


async def test_run_cancelled_before_it_was_planned_ends_without_a_report(opened, tmp_path):
    await plan_run(opened, "r1", spec_of(tmp_path, 5))
    await opened.objects.delete([layout.plan_key("r1")])
    known = await opened.runs.get_run("r1")
    await opened.runs.update_run(replace(known.value, state=RunState.CANCELLING), known.revision)
    await make_worker(opened).handle(WorkItem("r1", Step.REPORT, final=True, error="cancel-1"))
    assert (await opened.runs.get_run("r1")).value.state is RunState.CANCELLED


async def test_malformed_rows_are_errored_results(opened, tmp_path):
    spec = spec_of(tmp_path, 6)
    path = tmp_path / "questions6.jsonl"
    lines = path.read_text().splitlines()
    lines[2] = '{"question": "no options", "answer": "A"}'
    lines[4] = "not json"
    path.write_text("\n".join(lines) + "\n")
    await plan_run(opened, "r1", spec)
    await score_shards(opened, [0])
    async with running(opened):
        await opened.bus.publish([report_item(0)])
        run = await until_ended(opened)
    assert run.state is RunState.SUCCEEDED
    (benchmark,) = (await report_of(opened))["benchmarks"]
    metric = benchmark["metrics"][0]
    assert (benchmark["n_samples"], metric["n_scored"], metric["n_errored"]) == (6, 4, 2)
    assert benchmark["error_classes"] == {"malformed_row": 2}
    known = await progress_of(opened)
    assert (known.total, known.done, known.errored) == (6, 6, 2)


async def test_shard_that_was_set_aside_is_errored_and_the_run_ends(opened, tmp_path):
    await plan_run(opened, "r1", spec_of(tmp_path, 10, shard_size=5))
    await score_shards(opened, [0])
    async with running(opened):
        await opened.bus.publish([report_item(0), report_item(1, error="it never finished")])
        assert (await until_ended(opened)).state is RunState.SUCCEEDED
    metric = (await report_of(opened))["benchmarks"][0]["metrics"][0]
    assert (metric["n_scored"], metric["n_errored"]) == (5, 5)
    assert {row["reason"] for row in await rows_of(opened) if row["state"] == "errored"} == {
        "poison: it never finished"
    }


async def test_shard_that_was_scored_before_it_was_set_aside_keeps_its_scores(opened, tmp_path):
    """The scorer did its work and died before it could say so, time and again."""
    await plan_run(opened, "r1", spec_of(tmp_path, 10, shard_size=5))
    await score_shards(opened, [0, 1])
    async with running(opened):
        await opened.bus.publish([report_item(0), report_item(1, error="it never finished")])
        await until_ended(opened)
    metric = (await report_of(opened))["benchmarks"][0]["metrics"][0]
    assert (metric["n_scored"], metric["n_errored"]) == (10, 0)
    assert {row["state"] for row in await rows_of(opened)} == {"scored"}


async def test_results_that_cannot_be_computed_fail_the_run_and_say_why(opened, tmp_path):
    await plan_run(opened, "r1", spec_of(tmp_path, 5))
    await score_shards(opened, [0])
    await opened.objects.put(layout.scores_key("r1", NAME, 0), b"garbage\n")
    async with running(opened):
        await opened.bus.publish([report_item(0)])
        run = await until_ended(opened)
    assert (run.state, run.error_reason) == (RunState.FAILED, "REPORT_FAILED")
    assert layout.scores_key("r1", NAME, 0) in run.error


async def test_runs_that_never_complete_leave_nothing_in_memory(opened, tmp_path):
    worker = make_worker(opened)
    for number in range(20):
        run = f"r{number}"
        await plan_run(opened, run, spec_of(tmp_path, 10, shard_size=5))
        await score_shards(opened, [0], run=run)
        await worker.handle(report_item(0, run=run))
    assert not worker._progress._waiting
    assert len(worker._plans._plans) <= 8


async def test_a_run_broken_by_an_impossible_count_heals(opened, tmp_path):
    """Stored by a build that let it in; int64, which the results are made of, cannot hold it."""
    await plan_run(opened, "r1", spec_of(tmp_path, 20))
    await score_shards(opened, [0])
    key = layout.completions_key("r1", NAME, 0)
    stored = await opened.objects.get(key)
    first, _, rest = stored.partition(b"\n")
    row = json.loads(first) | {"usage": {"input_tokens": 2**64 - 1, "output_tokens": 3}}
    await opened.objects.put(key, json.dumps(row).encode() + b"\n" + rest)
    async with running(opened):
        await opened.bus.publish([report_item(0)])
        run = await until_ended(opened)
    assert (run.state, run.error) == (RunState.SUCCEEDED, "")
    row = (await rows_of(opened))[0]
    assert (row["completion"], row["input_tokens"], row["output_tokens"]) == ("A", None, 3)


async def test_many_repeats_are_planned_in_smaller_shards(opened, tmp_path):
    plan = await plan_run(opened, "r1", spec_of(tmp_path, 90, repeats=100))
    assert [(shard.samples, shard.requests) for shard in plan.benchmarks[0].shards] == [
        (40, 4000),
        (40, 4000),
        (10, 1000),
    ]
