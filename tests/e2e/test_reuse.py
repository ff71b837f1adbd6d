"""What was generated once is not generated twice, and what has changed is never mixed with what was."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.kit.cli import evalmesh
from tests.kit.platform import metrics_of, opened, run_to_end, write_questions
from tests.kit.simulator import SimulatorProcess, simulator
from tests.kit.truth import check_against_truth, results_of

from evalmesh.domain.errors import FailedPrecondition
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.local.platform import open_platform
from evalmesh.local.settings import LocalSettings
from evalmesh.sdk import AsyncClient

pytestmark = pytest.mark.timeout(120)

NAME = "general_mcq"
FLAKY = ("default/3", "default/40")


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    return write_questions(tmp_path_factory.mktemp("questions") / "questions.jsonl", 100)


@pytest.fixture
def model(questions) -> Iterator[SimulatorProcess]:
    arguments = json.dumps({NAME: {"local_path": str(questions)}})
    with simulator("--benchmarks", NAME, "--dataset-args", arguments) as process:
        yield process


@pytest.fixture
def flaky(questions) -> Iterator[SimulatorProcess]:
    """Two samples fail the first two times they are asked."""
    arguments = json.dumps({NAME: {"local_path": str(questions)}})
    faults = [flag for sample in FLAKY for flag in ("--fault", f"500:sample={sample},tries=2")]
    with simulator("--benchmarks", NAME, "--dataset-args", arguments, *faults) as process:
        yield process


def make_spec(model: SimulatorProcess, questions: Path, *, limit: int = 60, **benchmark: Any) -> RunSpec:
    return RunSpec(
        model=ModelSpec("simulated", url=model.url),
        benchmarks=(BenchmarkSpec(NAME, local_path=str(questions), limit=limit, **benchmark),),
        generation=GenerationConfig(temperature=0.0),
        shard_size=16,
    )


async def reused_in(client: AsyncClient, run: Run) -> int:
    """How many completions are copies, by the report and by the results alike."""
    rows = await results_of(client, run, NAME)
    report = await client.report(run)
    copied = sum(row["reused_from"] is not None for row in rows)
    assert report["benchmarks"][0]["n_reused"] == copied
    return copied


async def follow_up(client: AsyncClient, model: SimulatorProcess, first: Run, spec: RunSpec) -> tuple[Run, int]:
    """(a run with the completions of `first` at hand, how many requests it sent)."""
    before = model.asked(NAME)
    run = await run_to_end(client, replace(spec, reuse_runs=(first.id,)))
    assert run.state is RunState.SUCCEEDED, run.error
    return run, model.asked(NAME) - before


@pytest.mark.parametrize("shard_size", [16, 7])
async def test_an_equal_run_asks_nothing(model, questions, tmp_path, shard_size):
    spec = make_spec(model, questions)
    async with opened(tmp_path) as (_, client):
        first = await run_to_end(client, spec)
        second, asked = await follow_up(client, model, first, replace(spec, shard_size=shard_size))
        assert (asked, await reused_in(client, second)) == (0, 60)
        await check_against_truth(client, second, NAME, model)
        assert await metrics_of(client, second, NAME) == await metrics_of(client, first, NAME)
        # A copy of a copy names the run that paid for it.
        third, asked = await follow_up(client, model, second, spec)
        assert asked == 0
        assert {row["reused_from"] for row in await results_of(client, third, NAME)} == {first.id}


@pytest.mark.parametrize(
    "change",
    ["prompt", "system prompt", "temperature", "max_tokens", "model", "options", "choices", "data"],
)
async def test_what_could_change_an_answer_is_asked_anew(model, questions, tmp_path, change):
    spec = make_spec(model, questions)
    other = tmp_path / "other.jsonl"
    other.write_text(
        questions.read_text() + questions.read_text().splitlines()[0].replace("entry 0", "entry 100") + "\n"
    )
    one = spec.benchmarks[0]
    changed = {
        "prompt": replace(
            spec,
            benchmarks=(replace(one, prompt_template="{question}\n{choices}\nReply `ANSWER: LETTER`, {letters}."),),
        ),
        "system prompt": replace(spec, benchmarks=(replace(one, system_prompt="Be brief."),)),
        "temperature": replace(spec, generation=GenerationConfig(temperature=0.5)),
        "max_tokens": replace(spec, generation=GenerationConfig(temperature=0.0, max_tokens=999)),
        "model": replace(spec, model=replace(spec.model, name="another")),
        "options": replace(spec, generation=GenerationConfig(temperature=0.0, extra_body={"min_p": 0.1})),
        "choices": replace(spec, benchmarks=(replace(one, shuffle_choices=True),)),
        "data": replace(spec, benchmarks=(replace(one, local_path=str(other)),)),
    }[change]
    async with opened(tmp_path) as (_, client):
        first = await run_to_end(client, spec)
        second, asked = await follow_up(client, model, first, changed)
        copied = await reused_in(client, second)
    assert asked + copied == 60
    # Options that happen to stay in place after shuffling are the same question.
    assert copied < 10 if change == "choices" else copied == 0


async def test_what_cannot_change_an_answer_is_copied(model, questions, tmp_path):
    spec = make_spec(model, questions)
    moved = model.url.replace("127.0.0.1", "localhost")
    faster = replace(spec.model, url=moved, concurrency=3, stream=True, try_timeout_s=5.0, display_name="same")
    async with opened(tmp_path) as (_, client):
        first = await run_to_end(client, spec)
        changed = replace(spec, model=faster, on_error="zero", display_name="again", labels={"a": "b"})
        assert (await follow_up(client, model, first, changed))[1] == 0


async def test_a_bigger_limit_asks_only_for_the_new_ones(model, questions, tmp_path):
    async with opened(tmp_path) as (_, client):
        first = await run_to_end(client, make_spec(model, questions, limit=25))
        second, asked = await follow_up(client, model, first, make_spec(model, questions, limit=90))
        assert (asked, await reused_in(client, second)) == (65, 25)
        await check_against_truth(client, second, NAME, model)
        third, asked = await follow_up(client, model, second, make_spec(model, questions, limit=30))
        assert (asked, await reused_in(client, third)) == (0, 30)


async def test_more_repeats_ask_only_for_the_new_ones(model, questions, tmp_path):
    spec = replace(make_spec(model, questions, limit=20), generation=GenerationConfig(temperature=1.0, seed=5))
    async with opened(tmp_path) as (_, client):
        first = await run_to_end(client, replace(spec, repeats=2))
        second, asked = await follow_up(client, model, first, replace(spec, repeats=3))
        assert (asked, await reused_in(client, second)) == (20, 40)


async def test_errors_are_no_answers_and_are_asked_again(flaky, questions, tmp_path):
    spec = make_spec(flaky, questions)
    spec = replace(spec, model=replace(spec.model, max_tries=2))
    async with opened(tmp_path) as (_, client):
        first = await run_to_end(client, spec)
        metric = (await metrics_of(client, first, NAME))["accuracy"]
        assert (metric["n_scored"], metric["n_errored"]) == (58, 2)
        second, asked = await follow_up(client, flaky, first, spec)
        assert (asked, await reused_in(client, second)) == (2, 58)
        metric = (await metrics_of(client, second, NAME))["accuracy"]
        assert (metric["n_scored"], metric["n_errored"]) == (60, 0)
        rows = await results_of(client, second, NAME)
        assert {row["sample_id"] for row in rows if row["reused_from"] is None} == set(FLAKY)


async def test_rescoring_asks_nothing_and_writes_the_results_anew(model, questions, tmp_path):
    spec = make_spec(model, questions)
    async with opened(tmp_path) as (platform, client):
        run = await run_to_end(client, spec)
        before, rows = await client.report(run), await results_of(client, run, NAME)
        with pytest.raises(FailedPrecondition, match="use-cache"):
            await client.resume_run(run)
        objects = platform.settings.state_dir / "objects" / "runs" / run.id
        scores = {path: path.stat().st_mtime_ns for path in (objects / NAME / "score").iterdir()}
        asked = model.asked(NAME)
        again = await client.wait_run(await client.resume_run(run, rescore=True))
        assert again.state is RunState.SUCCEEDED
        assert model.asked(NAME) == asked
        assert {path for path, time in scores.items() if path.stat().st_mtime_ns > time} == set(scores)
        after = await client.report(run)
        assert after["benchmarks"] == before["benchmarks"]
        assert after["run"]["attempt"] == before["run"]["attempt"] + 1
        assert await results_of(client, run, NAME) == rows


async def test_a_rescore_needs_no_model_runner(model, questions, tmp_path):
    spec = make_spec(model, questions)
    async with opened(tmp_path) as (_, client):
        run = await run_to_end(client, spec)
        before = await client.report(run)
    hosted = frozenset({"gateway", "dataset_loader", "scorer", "report_aggregator"})
    settings = LocalSettings(tmp_path, hosted=hosted, ack_wait_s=2.0)
    async with open_platform(settings) as platform, AsyncClient(platform.address) as client:
        again = await asyncio.wait_for(client.wait_run(await client.resume_run(run, rescore=True)), 30)
        assert again.state is RunState.SUCCEEDED
        assert (await client.report(run))["benchmarks"] == before["benchmarks"]


@pytest.mark.parametrize("named_by", ["id", "folder"])
def test_the_command_line_reuses_a_run(model, questions, tmp_path, named_by):
    data = json.dumps({NAME: {"local_path": str(questions)}})
    command = ["eval", "--model", "simulated", "--api-url", model.url, "--datasets", NAME, "--dataset-args", data]
    assert evalmesh(*command, "--limit", "20", cwd=tmp_path).returncode == 0
    [folder] = (tmp_path / "outputs").glob("2*_*")
    first = folder if named_by == "folder" else folder.name.rpartition("_")[2]
    asked = model.asked(NAME)
    done = evalmesh(*command, "--limit", "25", "--use-cache", first, "--rerun-review", cwd=tmp_path)
    assert (done.returncode, done.quiet) == (0, True), done.stderr
    assert model.asked(NAME) == asked + 5
    [second] = set((tmp_path / "outputs").glob("2*_*")) - {folder}
    report = json.loads((second / "report.json").read_text())
    assert (report["benchmarks"][0]["n_reused"], report["config"]["reuse_runs"]) == (
        20,
        [folder.name.rpartition("_")[2]],
    )
    lonely = evalmesh(*command, "--rerun-review", cwd=tmp_path)
    assert (lonely.returncode, "use_cache" in lonely.stderr) == (2, True)
