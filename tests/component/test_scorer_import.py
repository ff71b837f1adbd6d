"""Uploading completions: whatever is sent, it is taken or refused by line, and nothing else waits for it."""

import json

import grpc.aio
import pytest
from tests.kit.platform import metrics_of, opened, run_to_end, write_questions

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec, RunState
from evalmesh.wire.runs.scoring import ScoringItem

NAME = "general_mcq"


@pytest.fixture
async def running(tmp_path):
    async with opened(tmp_path / "work") as found:
        yield found


def rows_of(count: int) -> bytes:
    return b"".join(json.dumps({"index": i, "text": f"ANSWER: {'ABCD'[i % 4]}"}).encode() + b"\n" for i in range(count))


async def test_what_is_uploaded_is_scored(running, tmp_path):
    _, client = running
    file = tmp_path / "completions.jsonl"
    file.write_bytes(rows_of(40))
    imported = await client.import_completions(file)
    again = await client.import_completions(file)
    assert (imported.row_count, again) == (40, imported)
    questions = write_questions(tmp_path / "questions.jsonl", 40)
    spec = RunSpec(
        ModelSpec("recorded", engine="recorded"),
        (BenchmarkSpec(NAME, local_path=str(questions)),),
        completions_digest=imported.digest,
    )
    run = await run_to_end(client, spec)
    assert run.state is RunState.SUCCEEDED
    assert (await metrics_of(client, run, NAME))["accuracy"]["value"] == 1.0


@pytest.mark.parametrize("line", [b"[" * 50_000, b'{"a": ' * 50_000, b"\x00\xff", b'{"index": 0}', b"{}"])
async def test_what_no_run_could_score_is_refused_by_line(running, tmp_path, line):
    _, client = running
    file = tmp_path / "completions.jsonl"
    file.write_bytes(rows_of(3) + line)
    with pytest.raises(InvalidInput, match="line 4 "):
        await client.import_completions(file)


async def test_an_empty_upload_is_refused(running, tmp_path):
    _, client = running
    (tmp_path / "empty.jsonl").write_bytes(b"\n\n")
    with pytest.raises(InvalidInput, match="empty"):
        await client.import_completions(tmp_path / "empty.jsonl")


async def test_bytes_that_are_no_message_are_refused_through_the_gateway(running):
    platform, _ = running
    async with grpc.aio.insecure_channel(platform.address) as channel:
        call = channel.stream_unary("/evalmesh.v1.ScoringService/ImportCompletions")(
            iter([b"\xff" * 100]), metadata=(("authorization", f"Bearer {platform.token}"),)
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_item_is_refused_that_its_benchmark_has_nothing_to_compare_with(running):
    _, client = running
    item = ScoringItem("a", "ANSWER: A", target=(), reference={"checks": ["short"]})
    for name in ("general_mcq", "starter_math"):
        with pytest.raises(InvalidInput, match=r"items\[0\].target: empty; " + name):
            await client.score(name, [item])
    free = ScoringItem("a", "Danube", target=("The Danube",))
    bare = ScoringItem("b", "Danube", target=(), reference="no target")
    first, second = await client.score("general_qa", [free, bare])
    assert first.values["exact_match"] == 1
    assert (second.state, second.answer) == ("unscored", "Danube")
