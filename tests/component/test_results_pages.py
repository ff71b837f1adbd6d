"""Pages of results and reports over real gRPC: cut by size as well, and of the file as it is now."""

import asyncio
import io
import json
from contextlib import asynccontextmanager

from tests.kit.hosting import hosted

from evalmesh.adapters.environment import SystemClock
from evalmesh.domain import layout
from evalmesh.domain.completion import Completion
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.domain.sample import Sample
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.report_aggregator import service as report_aggregator
from evalmesh.report_aggregator.settings import ReportAggregatorSettings
from evalmesh.report_aggregator.tables import ResultTables
from evalmesh.results.table import ResultsWriter, read_results
from evalmesh.sdk import AsyncClient

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
