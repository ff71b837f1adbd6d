import io
import json
import tracemalloc
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalmesh.domain.completion import Completion, CompletionError, ContinuationScore, Timing, TokenLogprob, Usage
from evalmesh.domain.content import ContentPart, ToolCall, ToolDefinition
from evalmesh.domain.request import Message
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.results import table as results_table
from evalmesh.results.table import ResultsWriter, read_results


def planned(index, repeats=1, **changes):
    sample = Sample(f"main/{index}", index, "main", f"What is {index}?", (str(index),), metadata={"level": "1"})
    messages = (Message("user", f"What is {index}?"),)
    digests = tuple(f"d{index}.{repeat}" for repeat in range(repeats))
    return PlannedSample(sample=sample, digests=digests, **({"kind": "chat", "messages": messages} | changes))


def answered(index, repeat=0, text="fine", **changes):
    fields = {"finish_reason": "stop", "usage": Usage(10, 5), "timing": Timing(1_772_000_000.5, 1.5, 0.25), "tries": 2}
    return Completion(f"main/{index}", repeat, f"d{index}.{repeat}", text=text, **(fields | changes))


def scored(index, repeat=0, **values):
    return Score(f"main/{index}", repeat, "scored", values or {"acc": 1.0}, answer=str(index), extractor="boxed")


def writer(sink, *score_names):
    return ResultsWriter(sink, run="r-1", benchmark="gsm8k", score_names=score_names or ("acc",))


def test_a_row_holds_sample_completion_and_score(tmp_path):
    path = tmp_path / "gsm8k.parquet"
    with writer(path) as results:
        results.add([planned(3)], [answered(3, reasoning="hm", reused_from="r-0")], [scored(3)])
    [row] = read_results(path)
    assert row == {
        "run": "r-1",
        "benchmark": "gsm8k",
        "subset": "main",
        "sample_id": "main/3",
        "index": 3,
        "repeat": 0,
        "input": "What is 3?",
        "target": ["3"],
        "choices": [],
        "prompt": '[{"role":"user","content":"What is 3?"}]',
        "completion": "fine",
        "reasoning": "hm",
        "finish_reason": "stop",
        "answer": "3",
        "extractor": "boxed",
        "score_acc": 1.0,
        "other_scores": None,
        "state": "scored",
        "reason": None,
        "explanation": None,
        "error_class": None,
        "error_message": None,
        "http_status": None,
        "tries": 2,
        "input_tokens": 10,
        "output_tokens": 5,
        "latency_s": 1.5,
        "ttft_s": 0.25,
        "start_time": 1_772_000_000.5,
        "digest": "d3.0",
        "reused_from": "r-0",
        "metadata": '{"level":"1"}',
        "group": None,
        "tags": [],
        "tools": None,
        "tool_calls": None,
        "refusal": None,
        "media": None,
        "continuations": None,
        "top_logprobs": None,
        "reference": None,
        "outcome": "answered",
        "turns": None,
    }


def test_a_conversation_of_several_turns_is_told_between_the_prompt_and_the_last_answer():
    sink = io.BytesIO()
    with writer(sink) as results:
        results.add([planned(0, followups=("2?", "3?"))], [answered(0, turns=("one", "two"))], [])
    [row] = read_results(sink.getvalue())
    assert [(turn["role"], turn["content"]) for turn in json.loads(row["turns"])] == [
        ("assistant", "one"),
        ("user", "2?"),
        ("assistant", "two"),
        ("user", "3?"),
    ]


def test_media_tools_and_continuations_have_their_columns():
    image = ContentPart("image", sha256="ab" * 32, mime="image/png", size_bytes=9)
    call, tool = ToolCall("c1", "add", '{"a":1}'), ToolDefinition("add", "Adds.", {"type": "object"})
    shown = {"kind": "image", "sha256": "ab" * 32, "mime": "image/png", "size_bytes": 9}
    turns = (
        Message("user", (image, ContentPart("text", "é?"))),
        Message("assistant", "", (call,)),
        Message("tool", "2", tool_call_id="c1"),
    )
    asked = replace(
        planned(0, messages=turns, tools=(tool,)), sample=Sample("main/0", 0, "main", "", (), group="g", tags=("t",))
    )
    judged = planned(1, kind="loglikelihood", messages=(), prompt="It is", continuations=(" good", " bad"))
    judged = replace(judged, sample=replace(judged.sample, reference={"test": "assert f(2**60)", "n": 2**60}))
    tokens = (TokenLogprob("No", -0.1, (("No", -0.1), ("Yes", -2.4))),)
    scores = (ContinuationScore(-0.5, 1, 5, is_greedy=True), ContinuationScore(-2.5))
    sink = io.BytesIO()
    with writer(sink) as results:
        results.add(
            [asked, judged],
            [
                answered(0, tool_calls=(call,), refusal="No.", media=(image,), top_logprobs=tokens),
                answered(1, continuations=scores),
            ],
            [],
        )
    first, second = read_results(sink.getvalue())
    assert json.loads(first["prompt"]) == [
        {"role": "user", "content": [shown, {"kind": "text", "text": "é?"}]},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "name": "add", "arguments": '{"a":1}'}]},
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
    ]
    assert json.loads(first["tools"]) == [{"name": "add", "description": "Adds.", "parameters": {"type": "object"}}]
    assert json.loads(first["tool_calls"]) == [{"id": "c1", "name": "add", "arguments": '{"a":1}'}]
    assert json.loads(first["media"]) == [shown]
    assert (first["refusal"], first["group"], first["tags"], first["continuations"]) == ("No.", "g", ["t"], None)
    assert json.loads(first["top_logprobs"]) == [
        {"token": "No", "logprob": -0.1, "top": [["No", -0.1], ["Yes", -2.4]]},
    ]
    assert json.loads(second["reference"]) == {"test": "assert f(2**60)", "n": 2**60}
    assert second["prompt"] == "It is"
    assert second["continuations"] == [
        {"text": " good", "logprob": -0.5, "n_tokens": 1, "n_bytes": 5, "is_greedy": True},
        {"text": " bad", "logprob": -2.5, "n_tokens": None, "n_bytes": None, "is_greedy": False},
    ]


def test_every_planned_request_has_one_row_in_planned_order():
    sink = io.BytesIO()
    failed = answered(1, 1, text="", error=CompletionError("server", "boom", 500))
    with writer(sink) as results:
        results.add(
            [planned(0), planned(1, repeats=2)],
            [failed, answered(1), answered(0)],
            [Score("main/1", 1, "errored", reason="boom"), scored(1)],
        )
        assert results.rows == 3
    rows = list(read_results(sink.getvalue()))
    assert [(row["sample_id"], row["repeat"], row["state"]) for row in rows] == [
        ("main/0", 0, "not_run"),
        ("main/1", 0, "scored"),
        ("main/1", 1, "errored"),
    ]
    assert rows[2]["completion"] is None
    assert (rows[2]["error_class"], rows[2]["http_status"], rows[2]["score_acc"]) == ("server", 500, None)


def test_text_prompts_are_kept_as_they_are_and_unlisted_scores_are_kept():
    sink = io.BytesIO()
    with writer(sink, "acc") as results:
        results.add([planned(0, messages=(), prompt="Q: 0\nA:")], [answered(0)], [scored(0, acc=0.0, f1=0.5)])
    [row] = read_results(sink.getvalue())
    assert row["prompt"] == "Q: 0\nA:"
    assert json.loads(row["other_scores"]) == {"f1": 0.5}


def test_no_rows_make_a_readable_empty_table():
    sink = io.BytesIO()
    writer(sink, "acc", "f1").close()
    assert list(read_results(sink.getvalue())) == []
    assert {"score_acc", "score_f1"} <= set(pq.read_schema(pa.BufferReader(sink.getvalue())).names)


def test_half_a_surrogate_pair_does_not_lose_the_report():
    sink = io.BytesIO()
    with writer(sink) as results:
        results.add([planned(0)], [answered(0, text="half \ud83d pair")], [scored(0)])
    [row] = read_results(sink.getvalue())
    assert row["completion"] == "half ? pair"


def test_row_groups_close_by_rows_and_by_bytes(tmp_path):
    path = tmp_path / "a.parquet"
    with writer(path) as results:
        for start in range(0, 5000, 500):
            indices = range(start, start + 500)
            results.add([planned(i) for i in indices], [answered(i) for i in indices], [scored(i) for i in indices])
        long = range(5000, 5040)
        results.add([planned(i) for i in long], [answered(i, text="x" * 1_000_000) for i in long], [])
    metadata = pq.read_metadata(path)
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    # 16 MiB of text close a group: 17 rows of a million characters.
    assert sizes == [4096, 921, 17, 6]
    assert metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize("start", [0, 1, 4095, 4096, 4999, 5000, 9000])
def test_reading_can_start_anywhere(tmp_path, start):
    path = tmp_path / "a.parquet"
    with writer(path) as results:
        results.add([planned(i) for i in range(5000)], [], [])
    rows = read_results(path, columns=["index"], start_row=start, batch_rows=700)
    assert [row["index"] for row in rows] == list(range(start, 5000))


def test_memory_does_not_grow_with_the_samples(tmp_path, monkeypatch):
    # Small groups, because tracing allocations makes every row slow.
    monkeypatch.setattr(results_table, "ROWS_PER_GROUP", 512)

    def peak_bytes(shards):
        tracemalloc.start()
        arrow_before, arrow_peak = pa.total_allocated_bytes(), 0
        with writer(tmp_path / f"{shards}.parquet") as results:
            for shard in range(shards):
                indices = range(shard * 64, shard * 64 + 64)
                results.add([planned(i) for i in indices], [answered(i) for i in indices], [scored(i) for i in indices])
                arrow_peak = max(arrow_peak, pa.total_allocated_bytes() - arrow_before)
        python_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return python_peak + arrow_peak

    peak_bytes(16)  # what is allocated once
    few, many = peak_bytes(16), peak_bytes(64)
    held_per_row = few / 512
    # Every row group leaves its entry in the footer: 16 KB, whatever it holds. Rows leave nothing.
    assert many - few < 0.05 * held_per_row * (64 - 16) * 64


def test_rows_of_a_build_with_fewer_columns_are_taken_over(tmp_path):
    path, sink = tmp_path / "old.parquet", io.BytesIO()
    with writer(path) as results:
        results.add([planned(0), planned(1)], [answered(0)], [])
    table = pq.read_table(path).drop_columns(["reference", "top_logprobs", "tools", "outcome"])
    pq.write_table(table, path)
    with writer(sink) as results:
        results.copy(path.read_bytes())
        results.add([planned(2)], [answered(2)], [])
    rows = list(read_results(sink.getvalue()))
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert rows[0]["completion"] == rows[2]["completion"]
    assert rows[0]["reference"] is None
