"""The whole platform on S3, each service in a process of its own: right to the sample, even if the store goes away."""

import asyncio
import json
from contextlib import asynccontextmanager, contextmanager

import pytest
from tests.kit.nats import running_server
from tests.kit.s3 import MotoServer, RcloneServer, running
from tests.kit.services import all_services, write_questions
from tests.kit.simulator import simulator
from tests.kit.truth import asked_again, check_against_truth

from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec, RunState
from evalmesh.local.platform import LocalSettings, open_platform
from evalmesh.sdk import AsyncClient

SAMPLES = 150
CONCURRENCY = 8


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return write_questions(tmp_path_factory.mktemp("questions") / "questions.jsonl", SAMPLES)


@contextmanager
def model(questions, latency_ms):
    arguments = json.dumps({"general_mcq": {"local_path": str(questions)}})
    with simulator("--benchmarks", "general_mcq", "--dataset-args", arguments, "--ttft", f"{latency_ms}ms") as running:
        yield running


@asynccontextmanager
async def platform_on(store, folder):
    with running_server(folder / "nats") as nats:
        environment = {
            "EVALMESH_BUS_URL": nats.url,
            "EVALMESH_OBJECTS_URL": store.url("evaluations"),
            "EVALMESH_ACK_WAIT_S": "2",
            **store.environ,
        }
        with all_services(environment) as children:
            async with AsyncClient(children["gateway"].address) as client:
                yield client


def spec_of(simulated, questions):
    return RunSpec(
        ModelSpec("simulated", url=simulated.url, concurrency=CONCURRENCY),
        (BenchmarkSpec("general_mcq", local_path=str(questions)),),
        shard_size=16,
    )


async def check_end(client, run, simulated):
    ended = await asyncio.wait_for(client.wait_run(run), 60)
    assert (ended.state, ended.error) == (RunState.SUCCEEDED, "")
    right = await check_against_truth(client, run, "general_mcq", simulated)
    metric = (await client.report(run))["benchmarks"][0]["metrics"][0]
    assert (metric["n_scored"], metric["n_errored"], metric["n_unscored"]) == (SAMPLES, 0, 0)
    assert metric["value"] == pytest.approx(right / SAMPLES, abs=1e-12)
    assert asked_again(simulated, "general_mcq") == 0


@pytest.mark.parametrize("kind", ["moto", "rclone"])
async def test_run_is_right_to_the_sample(kind, tmp_path, questions):
    """On a server that honours conditional puts, and on one that checks signatures."""
    server = MotoServer() if kind == "moto" else RcloneServer(tmp_path / "data")
    with running(server) as store, model(questions, 5) as simulated:
        async with platform_on(store, tmp_path) as client:
            run = await client.create_run(spec_of(simulated, questions))
            await check_end(client, run, simulated)
            page = await client.export(run, "report.html", tmp_path / "report.html")
            assert page.stat().st_size > 1000


async def test_store_is_killed_in_mid_run_and_comes_back(tmp_path, questions):
    with running(RcloneServer(tmp_path / "data")) as store, model(questions, 150) as simulated:
        async with platform_on(store, tmp_path) as client:
            run = await client.create_run(spec_of(simulated, questions))
            async for now in client.watch_run(run):
                assert not now.state.terminal
                if now.benchmarks[0].generated >= SAMPLES // 4:
                    break
            store.kill()
            await asyncio.sleep(3)
            await asyncio.to_thread(store.start)
            await check_end(client, run, simulated)


async def test_platform_in_one_process_takes_a_bucket_as_its_store(tmp_path, questions, monkeypatch):
    with running(MotoServer()) as store, model(questions, 5) as simulated:
        for name, value in store.environ.items():
            monkeypatch.setenv(name, value)
        settings = LocalSettings(tmp_path, objects_url=store.url("one"))
        async with open_platform(settings) as platform, AsyncClient(platform.address) as client:
            run = await client.create_run(spec_of(simulated, questions))
            await check_end(client, run, simulated)
        assert not (tmp_path / ".evalmesh" / "objects").exists()
