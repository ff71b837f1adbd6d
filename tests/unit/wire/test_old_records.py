"""Records that evalmesh 0.1 wrote, byte for byte, and what today's reader makes of them."""

from pathlib import Path

import pytest

from evalmesh.domain.completion import Completion, ContinuationScore
from evalmesh.domain.content import ContentPart, ToolCall, ToolDefinition
from evalmesh.domain.digest import GenerationDigest, pool_id
from evalmesh.domain.errors import InternalError
from evalmesh.domain.request import GenerationConfig, Message
from evalmesh.domain.run import ModelSpec, RunState
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.domain.shard_data import PlannedSample, ShardHeader
from evalmesh.wire import codec

RECORDS = Path(__file__).parent / "records_0_1"
MODEL = ModelSpec("org/tiny", url="http://127.0.0.1:1/v1")
SHA = "ab" * 32
IMAGE = ContentPart("image", sha256=SHA, mime="image/png", size_bytes=12_345)


def planned_rows() -> tuple[ShardHeader, list[PlannedSample]]:
    head, _, body = (RECORDS / "requests.jsonl").read_bytes().partition(b"\n")
    # What it might have reused is told in a form of its own since: see below.
    head = head.replace(b'[["r0",2]]', b"[]")
    return codec.decode_json(ShardHeader, head), codec.decode_rows(PlannedSample, body)


def digest_of(planned: PlannedSample, config: GenerationConfig | None = None) -> str:
    return GenerationDigest(MODEL, "toy", 3, SHA, config or GenerationConfig()).of(planned, 0)


def chat(*messages: Message, **more) -> PlannedSample:
    return PlannedSample(Sample("s/0", 0, "s", "", ()), "chat", (), messages, **more)


def test_a_shard_is_read():
    header, rows = planned_rows()
    assert (header.generation.max_tokens, header.generation.top_logprobs, header.reuse) == (64, None, ())
    assert [message.content for message in rows[0].messages] == ["Be brief.", "What is 2 + 3?"]
    assert [request.id for request in rows[0].requests()] == ["main/0#0", "main/0#1"]
    assert (rows[1].prompt, rows[2].continuations, rows[2].sample.choices) == (
        "Färbe é\n\n",
        (" green", " blue"),
        ("green", "blue"),
    )


def test_a_shard_that_might_have_reused_another_run_is_to_be_planned_anew():
    head = (RECORDS / "requests.jsonl").read_bytes().partition(b"\n")[0]
    with pytest.raises(InternalError, match=r"requests/0 is no ShardHeader .* start the run anew"):
        codec.decode_json(ShardHeader, head, "runs/r/b/requests/0")


def test_completions_are_read_and_old_fields_find_their_new_place():
    said, failed, reused, judged, embedded = codec.decode_rows(Completion, (RECORDS / "completions.jsonl").read_bytes())
    assert (said.text, said.reasoning, said.finish_reason, said.tries) == ("5", "adding", "stop", 2)
    assert (said.usage.cached_tokens, said.timing.ttft_s, said.tool_calls) == (4, 0.1, ())
    assert (failed.error.error_class, failed.error.http_status) == ("server", 500)
    assert reused.reused_from == "r0"
    assert judged.continuations == (ContinuationScore(-2.5), ContinuationScore(-0.5, is_greedy=True))
    assert embedded.embeddings == ((0.5, -0.25),)
    again = codec.decode_json(Completion, codec.encode_json(judged))
    assert again == judged
    assert again.logprobs == ()


def test_scores_and_the_run_record_are_read():
    scored, errored = codec.decode_rows(Score, (RECORDS / "scores.jsonl").read_bytes())
    assert (dict(scored.values), scored.answer, errored.state) == ({"accuracy": 1.0}, "5", "errored")
    run = codec.decode_run((RECORDS / "run.json").read_bytes())
    assert (run.id, run.state, run.spec.model.name, run.spec.benchmarks[0].limit) == (
        "r1",
        RunState.SUCCEEDED,
        "org/tiny",
        3,
    )


def test_plain_requests_keep_the_digest_they_had():
    header, rows = planned_rows()
    digest = GenerationDigest(MODEL, "toy", 3, SHA, header.generation)
    assert [tuple(digest.of(row, repeat) for repeat in (0, 1)) for row in rows] == [row.digests for row in rows]
    assert digest_of(rows[0]) == "b416efddb4f45fe2d466ffcbdfb3fffd8c76792430da8eb735e3c1f83b28c225"
    assert pool_id(MODEL) == "tiny-8dd669d22e"


def test_whatever_a_request_holds_is_in_its_digest():
    look = ContentPart("text", "Look.")
    other = ContentPart("image", sha256="cd" * 32, mime="image/png", size_bytes=12_345)
    call = ToolCall("c1", "add", "{}")
    tool = ToolDefinition("add", parameters={"type": "object"})
    requests = [
        chat(Message("user", "Look.")),
        chat(Message("user", (look,))),
        chat(Message("user", (look, IMAGE))),
        chat(Message("user", (IMAGE, look))),
        chat(Message("user", (look, other))),
        chat(Message("user", "Look."), Message("assistant", "Yes."), Message("user", "And now?")),
        chat(Message("user", "Look."), Message("user", "And now?"), Message("assistant", "Yes.")),
        chat(Message("user", "Look."), Message("assistant", "", (call,)), Message("tool", "5", tool_call_id="c1")),
        chat(Message("user", "Look."), Message("assistant", "", (call,)), Message("tool", "5", tool_call_id="c2")),
        chat(Message("user", "Look."), tools=(tool,)),
        chat(Message("user", "Look."), tools=(tool,), tool_choice="required"),
        chat(Message("user", "Look."), tools=(ToolDefinition("add", "Adds.", {"type": "object"}),)),
        chat(Message("user", '[["user","Look."]]')),
        chat(continuations=("Look.",)),
        chat(continuations=("Look.",), rolling=True),
        chat(continuations=("Look.",), contexts=("Now.",)),
        chat(Message("user", "Look."), followups=("And now?",)),
    ]
    digests = [digest_of(one) for one in requests]
    assert len(set(digests)) == len(requests)
    assert [digest_of(one) for one in codec.decode_rows(PlannedSample, codec.encode_rows(requests))] == digests
    assert digest_of(requests[0], GenerationConfig(top_logprobs=0)) != digests[0]


@pytest.mark.parametrize(
    "content",
    ['[{"kind":"hologram","sha256":"x"}]', '{"parts":[]}', '[{"kind":"image","url":"http://127.0.0.1/a.png"}]', "5"],
)
def test_a_newer_form_is_told_in_one_sentence_that_says_what_to_do(content):
    sample = '{"id":"s","index":0,"subset":"s","input":"","target":[]}'
    messages = f'[{{"role":"user","content":{content}}}]'
    row = f'{{"sample":{sample},"kind":"chat","digests":[],"messages":{messages}}}'
    with pytest.raises(
        InternalError, match=r"runs/r/b/requests/0, line 1 is no PlannedSample .*newer evalmesh.*start the run anew"
    ):
        codec.decode_rows(PlannedSample, row.encode() + b"\n", "runs/r/b/requests/0")


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        (IMAGE, "[image png 12 KiB sha256:abababababab]"),
        (ContentPart("audio", sha256=SHA, mime="audio/wav", size_bytes=900), "[audio wav 900 B sha256:abababababab]"),
        (
            ContentPart("video", sha256=SHA, mime="video/mp4", size_bytes=3 << 20),
            "[video mp4 3.0 MiB sha256:abababababab]",
        ),
        (ContentPart("text", "words"), "words"),
    ],
)
def test_parts_are_shown_in_short(part, shown):
    assert str(part) == shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "image", "mime": "image/png"},
        {"kind": "image", "sha256": "../../etc/passwd", "mime": "image/png"},
        {"kind": "image", "sha256": SHA},
        {"kind": "audio", "sha256": SHA, "mime": "audio/wav", "text": "and text"},
        {"kind": "text", "text": "a", "sha256": SHA},
    ],
)
def test_a_part_is_text_or_names_its_bytes(wrong):
    with pytest.raises(ValueError, match="sha256"):
        ContentPart(**wrong)
