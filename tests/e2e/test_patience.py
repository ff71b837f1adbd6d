"""A run does not spend itself on a dead or wrong endpoint, and nothing that was answered is asked twice."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from tests.kit.cli import evalmesh, report_in, running, until
from tests.kit.platform import metrics_of, opened, run_to_end, write_questions
from tests.kit.simulator import SimulatorProcess, simulator

from evalmesh.domain.errors import Unavailable
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.sdk import AsyncClient

pytestmark = pytest.mark.timeout(120)

SAMPLES = 120
NAME = "general_mcq"


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    return write_questions(tmp_path_factory.mktemp("questions") / "questions.jsonl", SAMPLES)


@contextlib.contextmanager
def serving(questions: Path, *flags: str, port: int = 0) -> Iterator[SimulatorProcess]:
    arguments = json.dumps({NAME: {"local_path": str(questions)}})
    with simulator("--benchmarks", NAME, "--dataset-args", arguments, *flags, port=port) as model:
        yield model


def make_spec(url: str, questions: Path, **more) -> RunSpec:
    model = ModelSpec("simulated", url=url, concurrency=8, **more)
    return RunSpec(model, (BenchmarkSpec(NAME, local_path=str(questions)),), shard_size=16)


def command_line(url: str, questions: Path, *more: str) -> list[str]:
    data = json.dumps({NAME: {"local_path": str(questions)}})
    command = ["eval", "--model", "simulated", "--api-url", url, "--datasets", NAME, "--dataset-args", data]
    return [*command, "--no-timestamp", *more]


async def until_generated(client: AsyncClient, run: Run, count: int) -> None:
    async for now in client.watch_run(run):
        assert not now.state.terminal, f"the run ended before the trouble began: {now}"
        if now.benchmarks[0].generated >= count:
            return


async def until_noticed(client: AsyncClient, run: Run) -> str:
    async for now in client.watch_run(run):
        if now.notice:
            return now.notice
    raise AssertionError("the run ended without a word")


async def test_an_endpoint_that_stays_away_ends_the_run_and_another_address_goes_on(questions, tmp_path):
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(serving(questions, "--ttft", "100ms"))
        async with opened(tmp_path) as (_, client):
            run = await client.create_run(make_spec(model.url, questions, outage_timeout_s=8.0))
            await until_generated(client, run, SAMPLES // 3)
            first = model.samples(NAME)
            model.process.kill()
            assert "has not answered for" in await until_noticed(client, run)
            ended = await asyncio.wait_for(client.wait_run(run), 30)
            assert (ended.state, ended.error_reason) == (RunState.FAILED, "UNAVAILABLE")
            assert model.root.removeprefix("http://") in ended.error
            [benchmark] = (report := await client.report(run))["benchmarks"]
            assert report["run"]["complete"] is False
            metric = benchmark["metrics"][0]
            assert (metric["n_errored"], benchmark["error_classes"]) == (0, {})
            assert metric["n_scored"] + benchmark["n_not_run"] == SAMPLES
            assert 0 <= benchmark["n_not_judged"] <= benchmark["n_not_run"] < SAMPLES

            with pytest.raises(Unavailable, match="refused"):
                await client.resume_run(run)
            assert (await client.get_run(run)).state is RunState.FAILED, "a refused resume changes nothing"

            other = stack.enter_context(serving(questions))
            resumed = await client.resume_run(run, url=other.url)
            assert (resumed.moved_url, resumed.spec.model.url) == (other.url, model.url)
            ended = await asyncio.wait_for(client.wait_run(run), 30)
            assert (ended.state, ended.error) == (RunState.SUCCEEDED, "")
            metric = (await metrics_of(client, run, NAME))["accuracy"]
            assert (metric["n_scored"], metric["n_errored"]) == (SAMPLES, 0)
            assert (await client.report(run))["model"]["url"] == other.url
            answered = {name for name, sample in first.items() if sample["answered"]}
            assert answered.isdisjoint(other.samples(NAME)), "what was answered before the look was asked again"


class Failing:
    """Answers `good` requests, then fails each as it is told to, until it is mended."""

    def __init__(self, good: int, http_status: int) -> None:
        self.good = good
        self.http_status = http_status
        self.asked = 0
        self.failed: Counter[str] = Counter()
        """Requests that were failed, and how often each."""
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/models"):
            return web.json_response({"data": [{"id": "simulated"}]})
        self.asked += 1
        body = await request.content.read()
        if self.asked > self.good:
            self.failed[json.loads(body)["messages"][-1]["content"]] += 1
            return web.json_response({"error": {"message": "out of order"}}, status=self.http_status)
        return web.json_response({"choices": [{"message": {"content": "ANSWER: A"}, "finish_reason": "stop"}]})


@asynccontextmanager
async def failing(good: int, http_status: int) -> AsyncIterator[Failing]:
    server = Failing(good, http_status)
    runner = web.ServerRunner(web.Server(server.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("http_status", "reason"), [(500, "REQUESTS_FAILED"), (404, "REQUESTS_FAILED"), (401, "UNAUTHENTICATED")]
)
@pytest.mark.parametrize("good", [1, 40])
async def test_what_fails_alike_ends_the_run_and_is_asked_again_when_mended(
    questions, tmp_path, good, http_status, reason
):
    async with failing(good, http_status) as server, opened(tmp_path) as (_, client):
        failed = await run_to_end(client, make_spec(server.url, questions))
        assert (failed.state, failed.error_reason) == (RunState.FAILED, reason)
        assert "20 requests in a row failed alike, none succeeded" in failed.error
        assert f"{http_status}: out of order" in failed.error
        assert max(server.failed.values()) <= 2
        [benchmark] = (await client.report(failed))["benchmarks"]
        assert (benchmark["metrics"][0]["n_errored"], benchmark["error_classes"]) == (0, {})
        server.good = 10**6
        await client.resume_run(failed)
        ended = await asyncio.wait_for(client.wait_run(failed), 30)
        assert ended.state is RunState.SUCCEEDED
        metric = (await metrics_of(client, failed, NAME))["accuracy"]
        assert (metric["n_scored"], metric["n_errored"]) == (SAMPLES, 0)


async def test_an_outage_by_status_is_waited_out(questions, tmp_path):
    async with failing(40, 503) as server, opened(tmp_path) as (_, client):
        run = await client.create_run(make_spec(server.url, questions, max_tries=2))
        assert "503" in await until_noticed(client, run)
        server.good = 10**6
        ended = await asyncio.wait_for(client.wait_run(run), 30)
        assert (ended.state, ended.notice) == (RunState.SUCCEEDED, "")
        metric = (await metrics_of(client, run, NAME))["accuracy"]
        assert (metric["n_scored"], metric["n_errored"]) == (SAMPLES, 0)


async def test_a_note_tells_that_the_endpoint_lists_another_model(questions, tmp_path):
    async with failing(10**6, 500) as server, opened(tmp_path) as (_, client):
        spec = make_spec(server.url, questions)
        run = await client.create_run(replace(spec, model=replace(spec.model, name="my-model")))
        await asyncio.wait_for(client.wait_run(run), 30)
        [note] = (await client.report(run))["run"]["notes"]
        assert "'my-model'" in note
        assert "simulated" in note


# The command line


def test_a_wrong_path_key_or_model_is_refused_before_there_is_a_run(questions, tmp_path):
    with serving(questions, "--api-key", "the-right-one") as model:
        wrong_path = model.url.replace("/v1", "/v2")
        for url, key, code, words in (
            (wrong_path, "the-right-one", 2, "--api-url"),
            (model.url, "bad-key", 5, "--api-key"),
        ):
            done = evalmesh(*command_line(url, questions, "--api-key", key), cwd=tmp_path)
            assert (done.returncode, done.quiet) == (code, True), done.stderr
            assert words in done.stderr
            assert "env:EVALMESH_API_KEY" not in done.stderr
        assert model.samples(NAME) == {}
    assert not list(tmp_path.glob("outputs/run.yaml"))


def test_an_endpoint_that_starts_late_is_waited_for_with_a_word(questions, tmp_path):
    with serving(questions) as model:
        url, port = model.url, int(model.root.rpartition(":")[2])
    with running(*command_line(url, questions, "--ready-timeout", "60"), cwd=tmp_path) as command:
        until(lambda: "Waiting for it" in command.stderr)
        with serving(questions, port=port):
            done = command.end(60)
    assert (done.returncode, done.quiet) == (0, True), done.stderr
    assert report_in(tmp_path / "outputs")["benchmarks"][0]["metrics"][0]["n_scored"] == SAMPLES


def test_a_run_that_lost_its_endpoint_goes_on_at_another_address(questions, tmp_path):
    with serving(questions, "--ttft", "100ms") as model:
        flags = ("--outage-timeout", "3", "--eval-batch-size", "8")
        with running(*command_line(model.url, questions, *flags), cwd=tmp_path) as command:
            until(lambda: len(model.samples(NAME)) > 20)
            model.process.kill()
            done = command.end(60)
    assert (done.returncode, done.quiet) == (5, True), done.stderr
    assert "has not answered for" in done.stderr
    assert "were not run" in done.stdout
    run = next(word for word in done.stdout.split() if word.startswith("1") and len(word) == 14)
    with serving(questions) as other:
        done = evalmesh("runs", "resume", run, "--api-url", f"{other.url}/chat/completions", cwd=tmp_path)
    assert (done.returncode, done.quiet) == (0, True), done.stderr
    metric = report_in(tmp_path / "outputs")["benchmarks"][0]["metrics"][0]
    assert (metric["n_scored"], metric["n_errored"]) == (SAMPLES, 0)
