"""Comparisons over real gRPC, of results that lie in a store."""

import json

import pytest
from tests.component.test_results_pages import serving
from tests.kit.compared import Answered, samples, write_run

from evalmesh.domain import layout
from evalmesh.domain.comparison import ComparisonWish
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.results.comparing.alike import Source
from evalmesh.results.comparing.comparison import compare_runs
from evalmesh.sdk import AsyncClient

COUNT = 5000
ANSWERS = {f"main/{at}": "why " * 200 for at in range(COUNT)}
A = Answered(samples(*(at % 2 for at in range(COUNT))), answers=ANSWERS)
B = Answered(samples(*(at % 3 > 0 for at in range(COUNT))), answers=ANSWERS)


@pytest.fixture
async def stored(opened, tmp_path):
    """Two runs in the store, as sources on disk too."""
    sources = []
    for run, answered in (("r1", A), ("r2", B)):
        place = write_run(tmp_path, run, answered, model=run)
        report, table = place / "report.json", place / "results/gsm8k.parquet"
        await opened.objects.put(layout.report_json_key(run), report.read_bytes())
        await opened.objects.put(layout.results_key(run, "gsm8k"), table.read_bytes())
        sources.append(Source(json.loads(report.read_text()), lambda _, table=table: table.open("rb")))
    return sources


async def test_a_platform_says_what_files_say(opened, stored):
    wish = ComparisonWish(flips=None, texts=True)
    local = compare_runs(stored, wish, "")
    async with serving(opened) as address, AsyncClient(address) as client:
        found = await client.compare_runs(["r1", "runs/r2"], wish)
    # Five megabytes of answers: more than one message.
    flips = found.pop("flips")
    metric = local.document["comparisons"][0]["benchmarks"][0]["metrics"][0]
    assert len(flips) == metric["wins"] + metric["losses"] > 2000
    assert flips == list(local.flips(texts=True))
    expected = json.loads(json.dumps(local.document)) | {"create_time": found["create_time"]}
    assert found == expected


async def test_without_a_wish_there_are_no_flips(opened, stored):
    async with serving(opened) as address, AsyncClient(address) as client:
        found = await client.compare_runs(["r1", "r2"])
    assert found["flips"] == []


async def test_what_cannot_be_compared_is_refused_by_name(opened, stored):
    await opened.runs.create(
        Run("r3", RunSpec(ModelSpec("m", url="http://h/v1"), (BenchmarkSpec("gsm8k"),)), RunState.RUNNING, 1.0)
    )
    async with serving(opened) as address, AsyncClient(address) as client:
        with pytest.raises(InvalidInput, match="2 to 20 runs"):
            await client.compare_runs(["r1"])
        with pytest.raises(NotFound, match="r3 has no report yet"):
            await client.compare_runs(["r1", "r3"])
        with pytest.raises(InvalidInput, match="arc is not in both r1 and r2; in both are: gsm8k"):
            await client.compare_runs(["r1", "r2"], ComparisonWish(("arc",)))
        with pytest.raises(InvalidInput, match="flip_count: -2"):
            await client.compare_runs(["r1", "r2"], ComparisonWish(flips=-2))
