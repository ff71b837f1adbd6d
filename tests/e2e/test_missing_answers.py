"""An endpoint that gives every kind of answer that is none: all of them are counted, told and kept."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from jsonschema import Draft202012Validator
from tests.kit.cli import evalmesh, report_in
from tests.kit.platform import opened, run_to_end, write_questions
from tests.kit.truth import results_of

from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec, RunState
from evalmesh.results.table import read_results

pytestmark = pytest.mark.timeout(120)

NAME = "general_mcq"
REFUSAL = "I can't help with that. \x1b[2J"
_CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
_HABITS = (
    ("answered", {"content": "ANSWER: {letter}"}, "stop"),
    ("empty", {"content": None}, "stop"),
    ("cut", {"content": "First we look at"}, "length"),
    ("answered", {"content": "ANSWER: {letter}"}, "stop"),
    ("refused", {"content": None, "refusal": REFUSAL}, "stop"),
    ("filtered", {"content": ""}, "content_filter"),
    ("answered_cut", {"content": "\\boxed{{{letter}}} since"}, "length"),
    ("tool_calls", {"content": None, "tool_calls": [_CALL]}, "tool_calls"),
    ("only_thinking", {"content": "", "reasoning_content": "ANSWER: {letter}"}, "stop"),
    ("only_thinking", {"content": "<think>ANSWER: {letter}"}, "stop"),
    ("not_found", {"content": "Who knows."}, "stop"),
    ("answered", {"content": "ANSWER: {letter}"}, "stop"),
)
ROWS = 3 * len(_HABITS)
COUNTS = {word: 3 * count for word, count in Counter(word for word, _, _ in _HABITS).items()}
CAUSES = {word: count for word, count in COUNTS.items() if not word.startswith("answered")}
OUTCOMES = {
    "answered": COUNTS["answered"] + COUNTS["answered_cut"],
    "answered_cut": 3,
    "no_answer": sum(CAUSES.values()),
    "no_answer_causes": CAUSES,
}


def _number(text: str) -> int:
    return int(text.partition("entry ")[2].partition("?")[0] or 0)  # none in what is asked before a run


async def _answer(request: web.Request) -> web.Response:
    body = await request.json()
    number = _number(body["messages"][-1]["content"])
    _, message, finish = _HABITS[number % len(_HABITS)]
    letter = "ABCD"[number % 4]
    said = {
        key: value.format(letter=letter) if isinstance(value, str) and key != "refusal" else value
        for key, value in message.items()
    }
    choice = {"index": 0, "message": {"role": "assistant", **said}, "finish_reason": finish}
    return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 3}})


@asynccontextmanager
async def odd_model() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/v1/models", _listed)
    app.router.add_post("/v1/chat/completions", _answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def _listed(_: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "odd", "object": "model"}]})


async def _evaluated(tmp_path: Path, *more: str):
    questions = write_questions(tmp_path / "questions.jsonl", ROWS)
    args = json.dumps({NAME: {"local_path": str(questions)}})
    async with odd_model() as url:
        flags = ["--model", "odd", "--api-url", url, "--datasets", NAME, "--dataset-args", args, *more]
        return await asyncio.to_thread(evalmesh, "eval", *flags, cwd=tmp_path)


async def test_the_command_tells_what_is_missing_and_what_that_means(tmp_path):
    done = await _evaluated(tmp_path, "--generation-config", '{"max_tokens": 64}')
    assert (done.returncode, done.quiet) == (0, True)  # every request has a score: how good that is, the report says
    line = next(line for line in done.stdout.splitlines() if "no answer found" in line)
    assert line.startswith(f"{NAME}: no answer found 24 (only thinking 6, ")
    assert "cut at max_tokens 3" in line
    assert line.endswith("); answered although cut at max_tokens 3")
    for told in (done.stdout, done.stderr):
        assert f"warning: {NAME}: 67% of the answers (24 of 36) were nothing but thinking (6) or " in told
        assert "\x1b" not in told
    report = report_in(tmp_path / "outputs")
    Draft202012Validator(json.loads((Path(__file__).parents[2] / "docs/report.schema.json").read_text())).validate(
        report
    )
    [benchmark] = report["benchmarks"]
    assert benchmark["outcomes"] == benchmark["subsets"][0]["outcomes"] == OUTCOMES
    assert benchmark["metrics"][0]["value"] == pytest.approx(12 / 36)
    [warning] = report["warnings"]
    assert (warning["kind"], warning["benchmark"], warning["count"]) == ("no_answer", NAME, 24)
    assert warning["score_range"] == pytest.approx([12 / 36, 1.0])


async def test_the_page_and_the_rows_hold_them(tmp_path):
    await _evaluated(tmp_path)
    [folder] = [path.parent for path in (tmp_path / "outputs").glob("*/report.json")]
    page = (folder / "report.html").read_text()
    banner = page.partition('<p class="banner bad" role="alert"><strong>')[2]
    assert ": no answer found 24 (" in banner.partition("</strong>")[0]
    rows = list(read_results(folder / f"results/{NAME}.parquet"))
    assert Counter(row["outcome"] for row in rows) == COUNTS
    assert {row["refusal"] for row in rows if row["outcome"] == "refused"} == {REFUSAL}
    [predictions] = folder.glob("predictions/*/*.jsonl")
    refusals = [
        choice["message"]["metadata"]
        for line in predictions.read_text().splitlines()
        for choice in json.loads(line)["model_output"]["choices"]
        if choice["message"]["metadata"]
    ]
    assert refusals == [{"refusal": REFUSAL}] * 3


async def test_shards_and_blocks_add_up_and_progress_counts_the_same(tmp_path):
    rows = 67 * len(_HABITS)  # more shards than a block has
    questions = write_questions(tmp_path / "questions.jsonl", rows)
    async with odd_model() as url, opened(tmp_path / "work") as (_, client):
        spec = RunSpec(
            model=ModelSpec("odd", url=url),
            benchmarks=(BenchmarkSpec(NAME, local_path=str(questions)),),
            shard_size=11,
        )
        run = await run_to_end(client, spec)
        assert run.state is RunState.SUCCEEDED, run.error
        expected = {word: 67 * count // 3 for word, count in COUNTS.items()}
        [progress] = (await client.get_run(run.id)).benchmarks
        assert progress.outcomes == expected
        [benchmark] = (await client.report(run))["benchmarks"]
        assert benchmark["outcomes"]["no_answer_causes"] == {word: expected[word] for word in CAUSES}
        assert benchmark["outcomes"]["answered"] == expected["answered"] + expected["answered_cut"]
        assert Counter(row["outcome"] for row in await results_of(client, run, NAME)) == expected
