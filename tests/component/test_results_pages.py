"""Pages of results and reports over real gRPC: cut by size as well, and of the file as it is now."""

import asyncio
import io
import json
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from tests.kit.hosting import hosted
from tests.kit.results import KINDS, write_results

from evalmesh.adapters.environment import SystemClock
from evalmesh.domain import layout
from evalmesh.domain.completion import Completion
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.domain.sample import Sample
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.report_aggregator import service as report_aggregator
from evalmesh.report_aggregator.settings import ReportAggregatorSettings
from evalmesh.report_aggregator.tables import ResultTables
from evalmesh.results.table import ResultsWriter, read_results
from evalmesh.sdk import AsyncClient
from evalmesh.v1 import reports_pb2, reports_pb2_grpc

NAME = "general_mcq"
SPEC = RunSpec(ModelSpec("m", url="http://h/v1"), (BenchmarkSpec(NAME, local_path="/q.jsonl"),))
MIB = 1 << 20


@asynccontextmanager
async def serving(opened):
    service = report_aggregator.build(
        settings=ReportAggregatorSettings(drain_s=0.5),
        runs=opened.runs,
        load_tests=opened.load_tests,
        bus=opened.bus,
        objects=opened.objects,
        clock=SystemClock(),
    )
    async with hosted(service) as address:
        yield address


async def write(opened, *texts: str, run: str = "r1") -> None:
    """The results of a run that answered these."""
    sink = io.BytesIO()
    with ResultsWriter(sink, run=run, benchmark=NAME, score_names=["accuracy"]) as writer:
        for index, text in enumerate(texts):
            sample = Sample(f"s/{index}", index, "default", input="?", target=("A",))
            writer.add([PlannedSample(sample, "chat", ("d",))], [Completion(sample.id, 0, "d", text=text)], [])
    await opened.objects.put(layout.results_key(run, NAME), sink.getvalue())


async def test_long_answers_come_in_pages_of_few_rows(opened):
    texts = [f"{index}" + "x" * 8_000_000 for index in range(12)]
    await write(opened, *texts)
    async with serving(opened) as address, AsyncClient(address) as client:
        seen = [row["completion"] async for row in client.results("r1", NAME)]
    assert seen == texts


async def test_short_answers_still_come_in_pages_of_rows(opened):
    await write(opened, *map(str, range(450)))
    async with serving(opened) as address, AsyncClient(address) as client:
        assert [row["completion"] async for row in client.results("r1", NAME)] == [str(i) for i in range(450)]
        assert [row async for row in client.results("r1", NAME, state="errored")] == []


async def test_a_row_that_no_message_holds_is_cut_with_a_mark(opened, tmp_path):
    await write(opened, "short", "y" * (70 * MIB), "short too")
    async with serving(opened) as address, AsyncClient(address) as client:
        rows = [row["completion"] async for row in client.results("r1", NAME)]
        exported = await client.export("r1", f"results/{NAME}.parquet", tmp_path / "whole.parquet")
    assert (rows[0], rows[2]) == ("short", "short too")
    assert rows[1].startswith("yyy")
    assert rows[1].endswith(f" [... cut: {70 * MIB} characters in all, which the exported results hold]")
    assert [len(row["completion"]) for row in read_results(exported)] == [5, 70 * MIB, 9]


async def test_results_written_again_are_seen(opened):
    async with serving(opened) as address, AsyncClient(address) as client:
        for answer in ("first", "again", "third"):  # of one length: the size does not tell them apart
            await write(opened, answer)
            assert [row["completion"] async for row in client.results("r1", NAME)] == [answer]


async def test_a_copy_in_use_outlives_its_eviction(opened):
    for number in range(8):
        await write(opened, str(number), run=f"r{number}")
    tables = ResultTables(opened.objects)
    files = [await tables.open(layout.results_key(f"r{number}", NAME)) for number in range(8)]
    await write(opened, "new", run="r7")
    newest = await tables.open(layout.results_key("r7", NAME))
    read = [next(read_results(file))["completion"] for file in [*files, newest]]
    for file in [*files, newest]:
        file.close()
    await tables.close()
    assert read == [*map(str, range(8)), "new"]


async def test_many_readers_of_many_tables_see_their_own(opened):
    for number in range(8):
        await write(opened, *[f"{number}/{row}" for row in range(300)], run=f"r{number}")

    async with serving(opened) as address, AsyncClient(address) as client:

        async def read(number: int) -> list[str]:
            return [row["completion"] async for row in client.results(f"r{number}", NAME)]

        for number, rows in enumerate(await asyncio.gather(*(read(number) for number in range(8)))):
            assert rows == [f"{number}/{row}" for row in range(300)]


async def test_large_reports_come_in_small_pages(opened):
    runs = [f"20run{number:02d}" for number in range(20)]
    for run in runs:
        await opened.runs.create(Run(run, SPEC, RunState.SUCCEEDED, 1.0))
        document = json.dumps({"run": run, "padding": "p" * (5 * MIB)}).encode()
        await opened.objects.put(layout.report_json_key(run), document)
    async with serving(opened) as address, AsyncClient(address) as client:
        assert [report["run"] async for report in client.list_reports()] == runs[::-1]


async def write_kinds(opened, *, run: str = "r1") -> None:
    """Results of every kind in a run with a report of two benchmarks."""
    for name in (NAME, "other"):
        with tempfile.TemporaryDirectory() as folder:
            path = write_results(Path(folder) / "x.parquet", (("a", KINDS * 2), ("b", KINDS)), name=name, run=run)
            await opened.objects.put(layout.results_key(run, name), path.read_bytes())
    report = json.dumps({"benchmarks": [{"name": NAME}, {"name": "other"}]})
    await opened.objects.put(layout.report_json_key(run), report.encode())


async def test_rows_are_filtered_searched_ordered_and_cut_to_columns_by_the_service(opened):
    await write_kinds(opened)
    async with serving(opened) as address, AsyncClient(address) as client:
        wrong = [row async for row in client.results("r1", NAME, grades=["wrong", "no_answer"], subset="b")]
        assert [(row["sample_id"], row["grade"]) for row in wrong] == [("b/101", "wrong"), ("b/102", "no_answer")]
        found = client.results("r1", NAME, search="DANUBE", order_by="index desc", columns=["sample_id", "http_status"])
        assert [row async for row in found] == [
            {"sample_id": id_, "http_status": 500} for id_ in ("b/103", "a/9", "a/3")
        ]
        assert [row["sample_id"] async for row in client.results("r1", NAME, sample_id="a/4#0")] == ["a/4"]
        every = [row["benchmark"] async for row in client.results("r1", grades="right", columns="benchmark")]
        assert every == [NAME] * 3 + ["other"] * 3
        assert await client.result_counts("r1", NAME, grades="right") == dict.fromkeys(KINDS, 3)
        assert await client.result_counts("r1", NAME, subset="b", search="elbe") == {"wrong": 1}


async def test_a_query_that_no_results_can_answer_is_refused_by_its_field(opened):
    await write_kinds(opened)
    wrong = [
        ({"grades": "good"}, "grades: 'good'"),
        ({"order_by": "latency_s, index"}, "order_by: "),
        ({"order_by": "beauty"}, "order_by: there is no column 'beauty'"),
        ({"columns": "beauty"}, "columns: there is no column 'beauty'"),
        ({"search": "x" * 1001}, "search: 1001 characters"),
        ({"state": "lost"}, "score_state: 'lost'"),
    ]
    async with serving(opened) as address, AsyncClient(address) as client:
        for asked, message in wrong:
            with pytest.raises(InvalidInput, match=f"^{message}"):
                _ = [row async for row in client.results("r1", NAME, **asked)]


async def test_a_page_goes_on_only_where_the_same_was_asked(opened):
    await write_kinds(opened)
    async with serving(opened) as address, grpc.aio.insecure_channel(address) as channel:
        stub = reports_pb2_grpc.ReportServiceStub(channel)
        asked = reports_pb2.QueryResultsRequest(parent="runs/r1", benchmark=NAME, page_size=2, order_by="index desc")
        first = await stub.QueryResults(asked)
        asked.page_token = first.next_page_token
        second = await stub.QueryResults(asked)
        asked.order_by = "index"
        with pytest.raises(grpc.aio.AioRpcError, match="page_token"):
            await stub.QueryResults(asked)
    indices = [json.loads(text)["index"] for page in (first, second) for text in page.results]
    assert indices == [105, 104, 103, 102]
    assert not first.HasField("counts")
