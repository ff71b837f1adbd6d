"""Kill anything in mid-run: it ends with every sample once, the same score, and almost nothing asked twice."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.kit.nats import kill as kill_nats
from tests.kit.simulator import SimulatorProcess, simulator
from tests.kit.truth import asked_again, check_against_truth

from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.local.platform import LocalPlatform, open_platform
from evalmesh.local.settings import LocalSettings
from evalmesh.sdk import AsyncClient

SAMPLES = 600
CONCURRENCY = 16
LATENCY_S = 0.08
REQUESTS_PER_S = CONCURRENCY / LATENCY_S
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    """Own questions, so that the test needs no data but itself."""
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    with path.open("w") as file:
        for number in range(SAMPLES):
            options = {letter: f"value {number * 7 + place}" for place, letter in enumerate("ABCD")}
            row = {"question": f"Which value belongs to entry {number}?", **options, "answer": "ABCD"[number % 4]}
            file.write(json.dumps(row) + "\n")
    return path


@pytest.fixture
def model(questions) -> Iterator[SimulatorProcess]:
    arguments = json.dumps({"general_mcq": {"local_path": str(questions)}})
    with simulator("--benchmarks", "general_mcq", "--dataset-args", arguments, "--ttft", f"{LATENCY_S * 1000}ms") as it:
        yield it


def make_spec(model: SimulatorProcess, questions: Path) -> RunSpec:
    return RunSpec(
        model=ModelSpec("simulated", url=model.url, concurrency=CONCURRENCY),
        benchmarks=(BenchmarkSpec("general_mcq", local_path=str(questions)),),
    )


@asynccontextmanager
async def opened(work_dir: Path, *, processes: bool) -> AsyncIterator[tuple[LocalPlatform, AsyncClient]]:
    settings = LocalSettings(work_dir, processes=processes, ack_wait_s=2.0, log_level="INFO")
    async with open_platform(settings) as platform, AsyncClient(platform.address) as client:
        yield platform, client


async def until_done(client: AsyncClient, run: Run, done: int) -> None:
    """Returns when this many requests are in the results."""
    async for now in client.watch_run(run):
        assert not now.state.terminal, f"the run ended before the trouble began: {now}"
        if now.benchmarks[0].generated >= done:
            return


async def check_end(client: AsyncClient, run: Run, model: SimulatorProcess, *, asked_again_at_most: int) -> None:
    ended = await asyncio.wait_for(client.wait_run(run), 90)
    assert (ended.state, ended.error) == (RunState.SUCCEEDED, "")
    right = await check_against_truth(client, run, "general_mcq", model)
    metric = (await client.report(run))["benchmarks"][0]["metrics"][0]
    assert (metric["n_scored"], metric["n_errored"], metric["n_unscored"]) == (SAMPLES, 0, 0)
    assert metric["value"] == pytest.approx(right / SAMPLES, abs=1e-12)
    assert asked_again(model, "general_mcq") <= asked_again_at_most


@pytest.mark.parametrize("room", ["gateway", "dataset_loader", "model_runner", "scorer", "report_aggregator"])
async def test_kill_9_of_a_service(room, tmp_path, questions, model):
    async with opened(tmp_path, processes=True) as (platform, client):
        run = await client.create_run(make_spec(model, questions))
        if room != "dataset_loader":
            await until_done(client, run, SAMPLES // 3)
        assert platform.processes is not None
        child = platform.processes.children[room].process
        assert child is not None
        os.kill(child.pid, signal.SIGKILL)
        lost = CONCURRENCY + REQUESTS_PER_S if room == "model_runner" else 0
        await check_end(client, run, model, asked_again_at_most=int(lost))


async def test_kill_9_of_nats_server(tmp_path, questions, model):
    async with opened(tmp_path, processes=True) as (platform, client):
        run = await client.create_run(make_spec(model, questions))
        for done in (SAMPLES // 4, SAMPLES // 2):
            await until_done(client, run, done)
            assert platform.nats is not None
            assert platform.nats.server is not None
            await asyncio.to_thread(kill_nats, platform.nats.server)
        await check_end(client, run, model, asked_again_at_most=0)


async def test_object_store_fails_for_ten_seconds(tmp_path, questions, model):
    async with opened(tmp_path, processes=True) as (platform, client):
        run = await client.create_run(make_spec(model, questions))
        await until_done(client, run, SAMPLES // 4)
        objects = platform.settings.state_dir / "objects"
        away = objects.with_name("objects-away")
        objects.rename(away)
        await asyncio.sleep(10)
        away.rename(objects)
        await check_end(client, run, model, asked_again_at_most=0)


Stop = Callable[[LocalPlatform], Awaitable[None]]


async def test_platform_killed_as_a_whole_and_resumed(tmp_path, questions, model):
    """What `kill -9` of the command line does to the platform it holds, and what `runs resume` does after it."""
    async with opened(tmp_path, processes=True) as (platform, client):
        run = await client.create_run(make_spec(model, questions))
        await until_done(client, run, SAMPLES // 3)
        assert platform.processes is not None
        assert platform.nats is not None
        assert platform.nats.server is not None
        platform.processes.forget()
        for child in platform.processes.children.values():
            assert child.process is not None
            os.kill(child.process.pid, signal.SIGKILL)
        kill_nats(platform.nats.server)
        shutil.copytree(platform.settings.state_dir, tmp_path / "crashed" / ".evalmesh")
    async with opened(tmp_path / "crashed", processes=False) as (_, client):
        assert not (await client.get_run(run)).state.terminal
        await client.resume_run(run, takeover=True)
        lost = CONCURRENCY + REQUESTS_PER_S
        await check_end(client, run, model, asked_again_at_most=int(lost))
