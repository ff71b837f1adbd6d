"""The report aggregator over a real bus and a folder: every shard counts once, whoever takes it and however often."""

import asyncio
import io
import json
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from tests.kit.hosting import hosted
from tests.kit.services import plan_run, write_questions

from evalmesh.adapters.environment import SystemClock
from evalmesh.benchmarks import registry
from evalmesh.domain import layout
from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import NotFound
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec, RunState
from evalmesh.domain.score import Score
from evalmesh.domain.work import Queue, Shard, Task, WorkItem
from evalmesh.report_aggregator import service as report_aggregator
from evalmesh.report_aggregator.runs.shard_counts import count_scores
from evalmesh.report_aggregator.runs.worker import ReduceWorker
from evalmesh.report_aggregator.settings import ReportAggregatorSettings
from evalmesh.runtime.progress import read_progress
from evalmesh.runtime.runs import RunRecords
from evalmesh.scoring.reducers import HeatMap, LabelF1
from evalmesh.wire.runs.shard_files import BenchmarkFiles, RunFiles

REPORT = Queue.REDUCE
NAME = "general_mcq"


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
    return ReduceWorker(RunFiles(opened.objects), RunRecords(opened.runs, opened.bus, SystemClock()))


def spec_of(tmp_path, count, **more):
    path = write_questions(tmp_path / f"questions{count}.jsonl", count)
    return RunSpec(ModelSpec("m", url="http://h/v1"), (BenchmarkSpec(NAME, local_path=str(path)),), **more)


def report_item(shard, run="r1", **more):
    return WorkItem(run, Task.ARRIVE, NAME, "score", shard=Shard(shard, "default", 0, 1, 1), **more)


async def score_shards(opened, shards, right=lambda index: index % 4 == 0, run="r1"):
    """What runner and scorer leave behind: completions and scores, right where `right(row index)`."""
    files = RunFiles(opened.objects).of(run, NAME)
    for shard in shards:
        _, rows = await files.read_requests(shard)
        requests = [(row.sample, request) for row in rows for request in row.requests()]
        completions = [
            Completion(request.sample_id, request.repeat, request.digest, text="A") for _, request in requests
        ]
        scores = [
            Score(sample.id, request.repeat, "scored", {"accuracy": float(right(sample.index))}, answer="A")
            for sample, request in requests
        ]
        await files.of("generate").write(shard, completions)
        await files.of("score").write(shard, scores)


async def until_ended(opened, run="r1", within_s=20.0):
    async with asyncio.timeout(within_s):
        while True:
            known = (await opened.runs.get(run)).value
            if known.state.terminal:
                return known
            await asyncio.sleep(0.02)


async def report_of(opened, run="r1"):
    return json.loads(await opened.objects.get(layout.report_json_key(run)))


async def progress_of(opened, run="r1"):
    return await read_progress(opened.runs, run, NAME)


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
    scores = await RunFiles(opened.objects).of("r1", NAME).read_scores("score", 0)
    # What a worker that died in between leaves.
    record = await worker._progress.take_in("r1", NAME, count_scores(registry.get(NAME), "score", 0, scores))
    assert record.complete("score")
    assert await opened.bus.backlog(REPORT) == 0
    async with running(opened):
        await opened.bus.publish([report_item(0)])
        assert (await until_ended(opened)).state is RunState.SUCCEEDED


async def test_report_is_written_once(opened, tmp_path):
    await plan_run(opened, "r1", spec_of(tmp_path, 5))
    await score_shards(opened, [0])
    worker = make_worker(opened)
    await worker.handle(report_item(0))
    final = WorkItem("r1", Task.REDUCE, NAME)
    await worker.handle(final)
    first = await opened.objects.get(layout.report_json_key("r1"))
    ended = (await opened.runs.get("r1")).revision
    await make_worker(opened).handle(final)
    assert await opened.objects.get(layout.report_json_key("r1")) == first
    assert (await opened.runs.get("r1")).revision == ended


async def test_wish_of_an_earlier_attempt_does_not_end_a_resumed_run(opened, tmp_path):
    await plan_run(opened, "r1", spec_of(tmp_path, 5))
    known = await opened.runs.get("r1")
    await opened.runs.update(replace(known.value, attempt=1), known.revision)
    await make_worker(opened).handle(WorkItem("r1", Task.REDUCE, NAME, attempt=0))
    assert (await opened.runs.get("r1")).value.state is RunState.RUNNING
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
        known = await opened.runs.get("r1")
        await opened.runs.update(replace(known.value, state=RunState.CANCELLING), known.revision)
        await opened.runs.set_control("r1", "cancel")
        await opened.bus.publish([WorkItem("r1", Task.FINISH, error="cancel-1")])
        assert (await until_ended(opened)).state is RunState.CANCELLED
    (benchmark,) = (await report_of(opened))["benchmarks"]
    assert benchmark["n_not_run"] == 20
    assert benchmark["metrics"][0]["n_scored"] == 20
    rows = await rows_of(opened)
    assert len(rows) == 40
    assert sum(row["state"] == "scored" for row in rows) == 20


async def test_run_cancelled_before_it_was_planned_ends_without_a_report(opened, tmp_path):
    await plan_run(opened, "r1", spec_of(tmp_path, 5))
    await opened.objects.delete([layout.plan_key("r1", NAME)])
    known = await opened.runs.get("r1")
    await opened.runs.update(replace(known.value, state=RunState.CANCELLING), known.revision)
    await make_worker(opened).handle(WorkItem("r1", Task.FINISH, error="cancel-1"))
    assert (await opened.runs.get("r1")).value.state is RunState.CANCELLED


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
    await opened.objects.put(layout.output_key("r1", NAME, "score", 0), b"garbage\n")
    async with running(opened):
        await opened.bus.publish([report_item(0)])
        run = await until_ended(opened)
    assert (run.state, run.error_reason) == (RunState.FAILED, "REPORT_FAILED")
    assert layout.output_key("r1", NAME, "score", 0) in run.error


async def test_runs_that_never_complete_leave_nothing_in_memory(opened, tmp_path):
    worker = make_worker(opened)
    for number in range(20):
        run = f"r{number}"
        await plan_run(opened, run, spec_of(tmp_path, 10, shard_size=5))
        await score_shards(opened, [0], run=run)
        await worker.handle(report_item(0, run=run))
    assert not worker._progress._waiting


# Blocks


@pytest.fixture
def small_blocks(monkeypatch):
    for module in ("domain.plan", "domain.progress", "report_aggregator.runs.fold", "report_aggregator.runs.worker"):
        monkeypatch.setattr(f"evalmesh.{module}.BLOCK_SHARDS", 4)


async def settled(opened):
    async with asyncio.timeout(20):
        while await opened.bus.backlog(REPORT):  # noqa: ASYNC110  (a queue has no event for it)
            await asyncio.sleep(0.02)


async def folded(opened, run="r1"):
    return sorted([info.key async for info in opened.objects.list(layout.folded_prefix(run, NAME))])


async def test_full_blocks_are_folded_while_the_run_goes_on(opened, tmp_path, small_blocks):
    await plan_run(opened, "r1", spec_of(tmp_path, 60, shard_size=5))
    await score_shards(opened, range(12))
    async with running(opened):
        await opened.bus.publish([report_item(shard) for shard in range(9)])
        await settled(opened)
        kept = [key("r1", NAME, block) for block in (0, 1) for key in (layout.tallies_key, layout.rows_key)]
        assert await folded(opened) == kept
        await opened.bus.publish([report_item(shard) for shard in range(9, 12)])
        assert (await until_ended(opened)).state is RunState.SUCCEEDED
    metric = (await report_of(opened))["benchmarks"][0]["metrics"][0]
    assert (metric["value"], metric["n_scored"]) == (0.25, 60)
    assert [row["index"] for row in await rows_of(opened)] == list(range(60))


async def test_what_is_folded_is_not_read_again(opened, tmp_path, small_blocks):
    """A crash at the end starts nothing from zero: without the shards of a folded block the report is the same."""
    await plan_run(opened, "r1", spec_of(tmp_path, 60, shard_size=5))
    await score_shards(opened, range(12))
    async with running(opened):
        await opened.bus.publish([report_item(shard) for shard in range(11)])
        await settled(opened)
    gone = [
        layout.output_key("r1", NAME, stage, shard) for shard in range(8) for stage in ("requests", "generate", "score")
    ]
    await opened.objects.delete(gone)
    async with running(opened):
        await opened.bus.publish([report_item(11)])
        assert (await until_ended(opened)).state is RunState.SUCCEEDED
    metric = (await report_of(opened))["benchmarks"][0]["metrics"][0]
    assert (metric["value"], metric["n_scored"]) == (0.25, 60)
    assert len(await rows_of(opened)) == 60


@pytest.mark.parametrize("size", [1, 3, 7, 60])
async def test_blocks_do_not_show_in_the_report(opened, tmp_path, small_blocks, size):
    await plan_run(opened, "r1", spec_of(tmp_path, 60, shard_size=size, repeats=2))
    shards = -(-60 // size)
    await score_shards(opened, range(shards), right=lambda index: index % 7 in {1, 5})
    async with running(opened):
        await opened.bus.publish([report_item(shard) for shard in range(shards)])
        await until_ended(opened)
    (benchmark,) = (await report_of(opened))["benchmarks"]
    assert [metric["value"] for metric in benchmark["metrics"]] == [17 / 60] * 4
    assert len({(row["sample_id"], row["repeat"]) for row in await rows_of(opened)}) == 120


# Over all samples together


async def test_reducers_see_every_row_once_however_it_is_cut(opened, tmp_path, small_blocks, monkeypatch):
    reducers = (LabelF1(average="macro"), HeatMap("map", "accuracy", "row", "column"))
    monkeypatch.setattr("evalmesh.benchmarks.general_mcq.BENCHMARK", replace(registry.get(NAME), reducers=reducers))
    await plan_run(opened, "r1", spec_of(tmp_path, 60, shard_size=3))
    await score_shards(opened, range(20))
    async with running(opened):
        await opened.bus.publish([report_item(shard) for shard in range(20)])
        await until_ended(opened)
    (benchmark,) = (await report_of(opened))["benchmarks"]
    f1 = next(metric for metric in benchmark["metrics"] if metric["name"] == "f1")
    # "A" is answered 60 times and right 15 times; the other three labels are never found.
    assert f1["value"] == pytest.approx((2 * 15 / (2 * 15 + 45)) / 4)
    assert f1["n_scored"] == 60
    assert benchmark["artefacts"]["map"]["cells"] == [{"x": "", "y": "", "value": 0.25, "n": 60}]


async def test_a_run_broken_by_an_impossible_count_heals(opened, tmp_path):
    """Stored by a build that let it in; int64, which the results are made of, cannot hold it."""
    await plan_run(opened, "r1", spec_of(tmp_path, 20))
    await score_shards(opened, [0])
    key = layout.output_key("r1", NAME, "generate", 0)
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
    await plan_run(opened, "r1", spec_of(tmp_path, 90, repeats=100))
    index = await BenchmarkFiles(opened.objects, "r1", NAME).find_index()
    assert [(shard.samples, shard.requests) for shard in index.shards()] == [(40, 4000), (40, 4000), (10, 1000)]
