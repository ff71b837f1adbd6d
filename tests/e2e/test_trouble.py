"""Trouble is survived and told: the endpoint's, the data's, the disk's, and work that can never succeed."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.kit.cli import evalmesh, family, living, report_in, running, until
from tests.kit.model_servers import everywhere
from tests.kit.platform import metrics_of, opened, run_to_end, write_questions
from tests.kit.simulator import SimulatorProcess, simulator
from tests.kit.truth import asked_again, check_against_truth, results_of

from evalmesh.adapters.nats.connection import connect
from evalmesh.domain import layout
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.sdk import AsyncClient

pytestmark = pytest.mark.timeout(120)

SAMPLES = 200
NAME = "general_mcq"


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    return write_questions(tmp_path_factory.mktemp("questions") / "questions.jsonl", SAMPLES)


@contextlib.contextmanager
def serving(questions: Path, *flags: str, port: int = 0) -> Iterator[SimulatorProcess]:
    arguments = json.dumps({NAME: {"local_path": str(questions)}})
    with simulator("--benchmarks", NAME, "--dataset-args", arguments, *flags, port=port) as model:
        yield model


def make_spec(model: SimulatorProcess, questions: Path, **more: Any) -> RunSpec:
    return RunSpec(
        model=ModelSpec("simulated", url=model.url, concurrency=16, **more),
        benchmarks=(BenchmarkSpec(NAME, local_path=str(questions)),),
        shard_size=16,
    )


def command_line(model: SimulatorProcess, questions: Path, *more: str) -> list[str]:
    data = json.dumps({NAME: {"local_path": str(questions)}})
    command = ["eval", "--model", "simulated", "--api-url", model.url, "--datasets", NAME, "--dataset-args", data]
    return [*command, "--no-timestamp", *more]


async def check_all_scored(client: AsyncClient, run: Run, model: SimulatorProcess) -> None:
    assert (run.state, run.error) == (RunState.SUCCEEDED, "")
    right = await check_against_truth(client, run, NAME, model)
    metric = (await metrics_of(client, run, NAME))["accuracy"]
    assert (metric["n_scored"], metric["n_errored"], metric["n_unscored"]) == (SAMPLES, 0, 0)
    assert metric["value"] == pytest.approx(right / SAMPLES, abs=1e-12)


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("500:every=50", {}),
        ("429:every=50,retry_after=1s", {}),
        ("reset:rate=0.02", {"stream": True}),
        ("reset:rate=0.02", {}),
        ("malformed:rate=0.02", {}),
        ("malformed:rate=0.02", {"stream": True}),
        ("truncated:rate=0.02", {"stream": True}),
        ("stall:every=50,pause=30s", {"try_timeout_s": 0.5}),
    ],
)
async def test_every_sample_is_scored_through(questions, tmp_path, fault, options):
    with serving(questions, "--fault", fault) as model:
        async with opened(tmp_path) as (_, client):
            run = await run_to_end(client, make_spec(model, questions, **options))
            await check_all_scored(client, run, model)
        kind = fault.partition(":")[0]
        assert model.stats()["faults"].get(kind, 0) >= 2, "the trouble did not happen"
        assert asked_again(model, NAME) == sum(model.stats()["faults"].values())


FAILING = "default/17"


async def one_always_fails(questions: Path, work_dir: Path, on_error: str) -> tuple[Run, dict[str, Any], int]:
    """(run, its report, how many samples the model got right)."""
    with serving(questions, "--fail-sample", f"{NAME}/{FAILING}") as model:
        async with opened(work_dir) as (_, client):
            spec = replace(make_spec(model, questions, max_tries=2), on_error=on_error)
            run = await run_to_end(client, spec)
            right = await check_against_truth(client, run, NAME, model)
            return run, await client.report(run), right


@pytest.mark.parametrize(("on_error", "state"), [("exclude", "SUCCEEDED"), ("zero", "SUCCEEDED"), ("fail", "FAILED")])
async def test_one_sample_that_always_fails_is_named_and_counted(questions, tmp_path, on_error, state):
    run, report, right = await one_always_fails(questions, tmp_path, on_error)
    assert run.state == state
    benchmark = report["benchmarks"][0]
    metric = benchmark["metrics"][0]
    assert (metric["n_scored"], metric["n_errored"], metric["n_unscored"]) == (SAMPLES - 1, 1, 0)
    assert metric["value"] == pytest.approx(right / (SAMPLES if on_error == "zero" else SAMPLES - 1), abs=1e-12)
    assert metric["bounds"] == pytest.approx([right / SAMPLES, (right + 1) / SAMPLES])
    [errored] = benchmark["errored_samples"]
    assert (errored["sample_id"], errored["state"]) == (FAILING, "errored")
    assert "500" in errored["reason"]
    assert benchmark["error_classes"] == {"server": 1}
    assert report["config"]["on_error"] == on_error
    assert ("1 requests have no score" in run.error) == (on_error == "fail")


@pytest.mark.parametrize(("flags", "code"), [((), 3), (("--ignore-errors",), 0), (("--on-error", "fail"), 1)])
def test_the_exit_code_tells_that_one_sample_failed(questions, tmp_path, flags, code):
    with serving(questions, "--fail-sample", f"{NAME}/default/3") as model:
        limits = ("--limit", "20", "--generation-config", "retries=1")
        done = evalmesh(*command_line(model, questions, *limits, *flags), cwd=tmp_path)
    assert (done.returncode, done.quiet) == (code, True), done.stderr
    assert "default/3#0 at questions.jsonl: line 4" in done.stdout
    assert report_in(tmp_path / "outputs")["benchmarks"][0]["errored_samples"][0]["sample_id"] == "default/3"


@pytest.mark.alone
def test_an_endpoint_that_is_down_is_told_in_seconds(questions, tmp_path):
    down = SimulatorProcess(None, "http://127.0.0.1:9/v1")
    started = time.monotonic()
    with running(*command_line(down, questions), cwd=tmp_path) as command:
        members: set[int] = set()
        while command.process.poll() is None:
            members.update(family(command.process.pid))
            time.sleep(0.02)
        done = command.end()
        assert living(sorted(members)) == []
    assert (done.returncode, done.quiet) == (5, True), done.stderr
    assert time.monotonic() - started < 5
    assert "http://127.0.0.1:9" in done.stderr
    assert "refused" in done.stderr


KEY = "sk-test-0123456789abcdefSECRET"


def holding(folder: Path, text: str) -> list[Path]:
    """Files with this text in them, whatever their kind."""
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.mark.alone
@pytest.mark.parametrize("processes", [False, True])
def test_a_wrong_key_is_final_at_once_and_written_nowhere(questions, tmp_path, processes):
    with serving(questions, "--api-key", "the-right-one") as model:
        started = time.monotonic()
        flags = ["--processes"] if processes else []
        done = evalmesh(*command_line(model, questions, "--api-key", KEY, "--debug", *flags), cwd=tmp_path)
        took_s = time.monotonic() - started
        assert model.stats()["requests"] == 0
    assert done.returncode == 5, done.stderr
    assert took_s < (8 if processes else 3)
    assert "401" in done.stderr
    assert KEY not in done.stdout + done.stderr
    assert holding(tmp_path, KEY) == []


@pytest.mark.parametrize("given", ["flag", "variable"])
def test_the_right_key_works_and_is_written_nowhere(questions, tmp_path, given):
    with serving(questions, "--api-key", KEY) as model:
        command = command_line(model, questions, "--limit", "20", "--debug")
        more = ["--api-key", KEY] if given == "flag" else ["--api-key", "env:MY_KEY"]
        done = evalmesh(*command, *more, cwd=tmp_path, MY_KEY=KEY)
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout + done.stderr
    assert holding(tmp_path, KEY) == []


def test_a_key_that_stops_working_ends_the_run_soon(questions, tmp_path):
    with serving(questions, "--fault", "401:every=1") as model:
        done = evalmesh(*command_line(model, questions), cwd=tmp_path)
        assert model.stats()["requests"] <= 2 * 64
    assert (done.returncode, done.quiet) == (5, True), done.stderr
    assert "401" in done.stdout + done.stderr


def test_malformed_rows_are_errored_samples_with_their_line_named(questions, tmp_path):
    lines = questions.read_text().splitlines()[:20]
    lines[4] = '{"question": "broken'
    lines[9] = json.dumps({"question": "no options here", "answer": "A"})
    broken = tmp_path / "broken.jsonl"
    broken.write_text("\n".join(lines) + "\n")
    with serving(questions) as model:
        done = evalmesh(*command_line(model, broken), cwd=tmp_path)
        asked = set(model.samples(NAME))
    assert (done.returncode, done.quiet) == (3, True), done.stderr
    benchmark = report_in(tmp_path / "outputs")["benchmarks"][0]
    metric = benchmark["metrics"][0]
    assert (metric["n_scored"], metric["n_errored"], benchmark["n_samples"]) == (18, 2, 20)
    assert benchmark["error_classes"] == {"malformed_row": 2}
    reasons = {one["sample_id"]: one["reason"] for one in benchmark["errored_samples"]}
    assert set(reasons) == {"default/4", "default/9"}
    assert "line 5" in reasons["default/4"]
    assert "'A'" in reasons["default/9"]
    assert asked == {f"default/{index}" for index in range(20)} - set(reasons)


async def test_an_endpoint_that_dies_and_comes_back_costs_no_sample(questions, tmp_path):
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(serving(questions, "--ttft", "50ms"))
        port = int(model.root.rpartition(":")[2])
        async with opened(tmp_path) as (_, client):
            run = await client.create_run(make_spec(model, questions))
            await until_generated(client, run, SAMPLES // 3)
            before = model.stats()
            model.process.kill()
            await asyncio.sleep(5)
            back = stack.enter_context(serving(questions, port=port))
            ended = await asyncio.wait_for(client.wait_run(run), 60)
            rows = await results_of(client, run, NAME)
            assert ended.state is RunState.SUCCEEDED
            metric = (await metrics_of(client, run, NAME))["accuracy"]
            assert (metric["n_scored"], metric["n_errored"]) == (SAMPLES, 0)
            assert len({row["sample_id"] for row in rows}) == SAMPLES
            # Only what was in flight, or answered after the look at the statistics, may be asked of both; and of each
            # something small, before the run and when it came back.
            assert back.stats()["requests"] <= SAMPLES - before["answered"] + 2


async def until_generated(client: AsyncClient, run: Run, count: int) -> None:
    async for now in client.watch_run(run):
        assert not now.state.terminal, f"the run ended before the trouble began: {now}"
        if now.benchmarks[0].generated >= count:
            return


async def test_work_that_can_never_succeed_is_set_aside_and_the_run_ends(questions, tmp_path):
    """A shard whose requests turned into garbage on the disk, as a bad sector would do it."""
    with serving(questions, "--ttft", "100ms") as model:
        async with opened(tmp_path) as (platform, client):
            run = await client.create_run(make_spec(model, questions))
            await until_generated(client, run, 1)
            last = SAMPLES // 16
            stored = platform.settings.state_dir / "objects" / layout.output_key(run.id, NAME, "requests", last)
            first_line = stored.read_bytes().partition(b"\n")[0]
            stored.write_bytes(first_line + b"\n\x00\xff garbage\n")
            ended = await asyncio.wait_for(client.wait_run(run), 90)
            report = await client.report(run)
            dead = await dead_letters(platform.bus_url)
    assert ended.state is RunState.SUCCEEDED, ended.error
    metric = report["benchmarks"][0]["metrics"][0]
    lost = SAMPLES - last * 16
    assert (metric["n_scored"], metric["n_errored"]) == (SAMPLES - lost, lost)
    # Which rows they were is lost with the object; that they are missing, and why, is not.
    errored = report["benchmarks"][0]["errored_samples"]
    assert [one["sample_id"] for one in errored] == [f"default/shard-{last}+{place}" for place in range(lost)]
    assert all("requests" in one["reason"] for one in errored)
    assert report["benchmarks"][0]["error_classes"] == {"poison": lost}
    assert any(run.id in letter and "generate" in letter for letter in dead)


async def test_damaged_completions_cost_their_own_samples(questions, tmp_path):
    with serving(questions, "--ttft", "100ms") as model:
        async with opened(tmp_path) as (platform, client):
            run = await client.create_run(make_spec(model, questions))
            await until_generated(client, run, 1)
            last = SAMPLES // 16
            stored = platform.settings.state_dir / "objects" / layout.output_key(run.id, NAME, "generate", last)
            stored.parent.mkdir(parents=True, exist_ok=True)
            stored.write_bytes(b"\x00\xff garbage\n")
            ended = await asyncio.wait_for(client.wait_run(run), 90)
            report = await client.report(run)
    assert ended.state is RunState.SUCCEEDED, ended.error
    [benchmark] = report["benchmarks"]
    lost = SAMPLES - last * 16
    assert (benchmark["metrics"][0]["n_scored"], benchmark["metrics"][0]["n_errored"]) == (SAMPLES - lost, lost)
    assert [one["sample_id"] for one in benchmark["errored_samples"]] == [
        f"default/{index}" for index in range(last * 16, SAMPLES)
    ]
    assert benchmark["error_classes"] == {"poison": lost}


async def test_a_step_that_fails_each_time_is_tried_five_times_and_set_aside(questions, tmp_path, caplog):
    """Completions of samples that nobody asked about, as a mixed-up restore of the object store would leave them."""
    with serving(questions, "--ttft", "100ms") as model:
        async with opened(tmp_path) as (platform, client):
            run = await client.create_run(make_spec(model, questions))
            await until_generated(client, run, 1)
            last = SAMPLES // 16
            stored = platform.settings.state_dir / "objects" / layout.output_key(run.id, NAME, "generate", last)
            stored.parent.mkdir(parents=True, exist_ok=True)
            stored.write_text(json.dumps({"sample_id": "elsewhere/0", "repeat": 0, "digest": "", "text": "A"}) + "\n")
            ended = await asyncio.wait_for(client.wait_run(run), 90)
            metric = (await metrics_of(client, run, NAME))["accuracy"]
            rows = await results_of(client, run, NAME)
            dead = await dead_letters(platform.bus_url)
    assert ended.state is RunState.SUCCEEDED, ended.error
    lost = {f"default/{index}" for index in range(last * 16, SAMPLES)}
    assert (metric["n_scored"], metric["n_errored"]) == (SAMPLES - len(lost), len(lost))
    assert {row["sample_id"] for row in rows if row["state"] == "errored"} == lost
    assert all("elsewhere/0" in row["reason"] for row in rows if row["sample_id"] in lost)
    assert any(run.id in letter and "score" in letter for letter in dead)
    assert sum("/score/" in record.message and record.message.endswith(" failed") for record in caplog.records) == 5


async def dead_letters(url: str) -> list[str]:
    """Subject, headers and text of everything that was set aside."""
    connection = await connect(url, "test")
    try:
        stream = connection.client.jetstream()
        info = await stream.stream_info("DEAD")
        letters = []
        for sequence in range(info.state.first_seq, info.state.last_seq + 1):
            message = await stream.get_msg("DEAD", sequence)
            letters.append(f"{message.subject} {message.headers} {message.data!r}")
        return letters
    finally:
        await connection.close()


@pytest.mark.alone
async def test_cancel_is_prompt_and_resume_asks_only_what_was_in_flight(questions, tmp_path):
    with serving(questions, "--ttft", "250ms") as model:
        async with opened(tmp_path) as (_, client):
            run = await client.create_run(make_spec(model, questions))
            await until_generated(client, run, SAMPLES // 4)
            started = time.monotonic()
            await client.cancel_run(run)
            await asyncio.to_thread(
                until, lambda: model.stats()["in_flight"] == 0, 2.0, "the end of what was in flight"
            )
            assert time.monotonic() - started < 1.5
            ended = await asyncio.wait_for(client.wait_run(run), 10)
            assert ended.state is RunState.CANCELLED
            report = await client.report(run)
            benchmark = report["benchmarks"][0]
            done = benchmark["metrics"][0]["n_scored"]
            assert benchmark["n_not_run"] == SAMPLES - done
            assert (report["run"]["state"], report["run"]["complete"]) == ("CANCELLED", False)
            aborted = model.stats()["aborted"]
            asked = model.stats()["requests"]
            assert 0 < aborted <= 16
            await asyncio.sleep(0.5)
            assert model.stats()["requests"] == asked, "a cancelled run went on asking"
            resumed = await client.resume_run(run)
            ended = await asyncio.wait_for(client.wait_run(resumed), 60)
            await check_all_scored(client, ended, model)
            assert asked_again(model, NAME) <= aborted


async def test_a_repaired_key_is_used_by_the_pool_that_was_refused(tmp_path, questions, monkeypatch):
    """The pool stays open for minutes after its last run, and with it the memory of the key."""
    asked: list[str | None] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/models"):
            return web.json_response({"data": [{"id": "m"}]})
        asked.append(request.headers.get("Authorization"))
        # The first key is good for five requests.
        if asked[-1] != "Bearer sk-good-0123" and len(asked) > 5:
            return web.json_response({"error": {"message": "no such key"}}, status=401)
        return web.json_response({"choices": [{"message": {"content": "ANSWER: A"}, "finish_reason": "stop"}]})

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"
    model = ModelSpec("m", url=url, key_ref="env:EVALMESH_TEST_KEY")
    spec = RunSpec(model, (BenchmarkSpec(NAME, local_path=str(questions), limit=20),), shard_size=5)
    try:
        async with opened(tmp_path / "work", connections=(everywhere("env:EVALMESH_TEST_KEY"),)) as (_, client):
            monkeypatch.setenv("EVALMESH_TEST_KEY", "sk-gone-0123")
            refused = await run_to_end(client, spec)
            assert {row["error_class"] for row in await results_of(client, refused, NAME)} == {None, "auth"}
            monkeypatch.setenv("EVALMESH_TEST_KEY", "sk-good-0123")
            repaired = await run_to_end(client, spec)
            assert {row["state"] for row in await results_of(client, repaired, NAME)} == {"scored"}
    finally:
        await runner.cleanup()
