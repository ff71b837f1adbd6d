"""Completions made elsewhere, row by row, from a file of any size."""

import io
import json

import pytest

from evalmesh.domain.completion import Completion, ContinuationScore
from evalmesh.domain.content import ToolCall
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import Request
from evalmesh.domain.sample import Sample
from evalmesh.results.recorded import RecordedCompletions


def of(*rows: object, before: bytes = b"") -> RecordedCompletions:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    return RecordedCompletions(io.BytesIO(before + b"\n".join(lines)))


def answer(recorded: RecordedCompletions, index: int, subset: str = "default", repeat: int = 0) -> str | None:
    sample = Sample(f"{subset}/{index}", index, subset, input="?", target=("A",))
    completion = recorded.answer(sample, Request(sample.id, repeat, "chat", "d"))
    return completion.text if completion.error is None else None


def test_rows_are_found_by_id_and_by_index_in_any_order():
    recorded = of(
        {"index": 1, "text": "one"},
        b"",
        {"id": "default/0", "completion": "zero"},
        {"index": 1, "subset": "other", "output": "önë"},
        {"index": 1, "repeat": 1, "response": "again"},
    )
    assert len(recorded) == 4
    assert [answer(recorded, 0), answer(recorded, 1), answer(recorded, 1, "other")] == ["zero", "one", "önë"]
    assert [answer(recorded, 1, repeat=1), answer(recorded, 2)] == ["again", None]


def test_windows_files_are_read():
    recorded = of({"index": 0, "text": "a"}, {"index": 1, "text": "b"}, before=b"\xef\xbb\xbf")
    assert [answer(recorded, 0), answer(recorded, 1)] == ["a", "b"]
    recorded = of(b'{"index": 0, "text": "a"}\r', b'{"index": 1, "text": "b"}\r')
    assert [answer(recorded, 0), answer(recorded, 1)] == ["a", "b"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (b"[" * 100_000, "is not a JSON object"),
        (b'{"index": 0, "text": "x", "more": ' + b'{"a":' * 100_000, "is not a JSON object"),
        (b'{"index": ' + b"9" * 10_000 + b', "text": "x"}', ""),
        (b'{"id": "x", "text": "\xff"}', "is not a JSON object"),
        (b"[]", "is not a JSON object"),
        (b'{"index": 0}', "has no text"),
        (b'{"text": "x"}', "neither an id nor an index"),
        (b'{"index": 0, "text": "x", "repeat": "y"}', "repeat"),
        (b'{"index": 1, "text": "x"}', "is the second one"),
        (b'{"index": 0, "text": "' + b"x" * (65 << 20) + b'"}', "is longer than 64 MiB"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_its_line(row, problem):
    with pytest.raises(InvalidInput, match="line 2 ") as caught:
        of({"index": 1, "text": "fine"}, row)
    assert problem in caught.value.message
    assert len(caught.value.message) < 1000


def completion(row: dict) -> Completion:
    recorded = of({"index": 0, **row})
    sample = Sample("default/0", 0, "default", input="?", target=("A",))
    return recorded.answer(sample, Request(sample.id, 0, "chat", "d"))


@pytest.mark.parametrize(
    "calls",
    [
        [{"id": "1", "name": "add", "arguments": {"a": 1}}],
        [{"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
        '[{"id": "1", "name": "add", "arguments": "{\\"a\\": 1}"}]',
    ],
    ids=["plain", "OpenAI", "as results have it"],
)
def test_calls_of_tools_are_an_answer(calls):
    found = completion({"tool_calls": calls})
    assert found.text == ""
    assert found.tool_calls == (ToolCall("1", "add", '{"a": 1}'),)


def test_log_likelihoods_are_an_answer():
    found = completion({"continuations": [-1.5, {"text": " b", "logprob": -2, "n_tokens": None, "n_bytes": 2}]})
    assert found.continuations == (ContinuationScore(-1.5), ContinuationScore(-2.0, 0, 2))


def test_what_stands_beside_the_text_is_kept():
    found = completion({"text": "A", "reasoning": "hm", "finish_reason": "max_tokens", "tool_calls": None})
    assert (found.text, found.reasoning, found.finish_reason) == ("A", "hm", "length")
    assert completion({"text": "A", "finish_reason": "eos", "reasoning": {"any": 1}}).finish_reason == "stop"
    assert completion({"refusal": "I will not."}).refusal == "I will not."


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"tool_calls": [{"id": "1"}]}, r"tool_calls\[0\] has no name"),
        ({"tool_calls": "add(1)"}, "tool_calls"),
        ({"text": "A", "tool_calls": [1]}, r"tool_calls\[0\]"),
        ({"continuations": [" a", " b"]}, r"continuations\[0\]"),
        ({"tool_calls": [], "continuations": []}, "has no text"),
    ],
)
def test_parts_that_cannot_be_read_are_named(row, problem):
    with pytest.raises(InvalidInput, match=f"line 1 .*{problem}"):
        of({"index": 0, **row})


def test_rows_of_other_tools_are_read():
    own = {"index": 0, "model_output": {"id": "run/law/1#2", "choices": [{"message": {"content": "own"}}]}}
    evalscope = {"index": 3, "model_output": {"choices": [{"message": {"content": "es"}, "stop_reason": "max_tokens"}]}}
    parts = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "said"}]
    review = {"index": 4, "messages": [{"role": "assistant", "content": parts}], "sample_score": {"score": {}}}
    repeated = {
        "index": 9,
        "messages": [],
        "sample_score": {"group_id": 5, "generation_index": 1, "score": {"prediction": "r"}},
    }
    failed = {"index": 6, "model_output": {"choices": [], "error": "timeout"}}
    recorded = of(own, evalscope, review, repeated, failed)
    assert len(recorded) == 4
    assert answer(recorded, 1, "law", repeat=2) == "own"
    assert [answer(recorded, 3), answer(recorded, 4), answer(recorded, 5, repeat=1)] == ["es", "said", "r"]
    assert answer(recorded, 6) is None
    assert recorded.unused() == ""


def test_samples_of_lm_evaluation_harness_are_read():
    twice = {"doc_id": 0, "target": "A", "resps": [["first", "second"]], "filter": "strict-match"}
    recorded = of(twice, {**twice, "filter": "flexible-extract"}, {"doc_id": 1, "resps": [["other"]], "filter": "none"})
    assert [answer(recorded, 0), answer(recorded, 0, repeat=1), answer(recorded, 1)] == ["first", "second", "other"]
    likely = of({"doc_id": 2, "resps": [[["-1.5", "True"]], [["-0.5", "False"]]], "filter": "none"})
    sample = Sample("default/2", 2, "default", input="?", target=("A",))
    found = likely.answer(sample, Request(sample.id, 0, "loglikelihood", "d"))
    assert found.continuations == (ContinuationScore(-1.5, 0, 0, is_greedy=True), ContinuationScore(-0.5))


def test_what_no_request_took_is_counted_and_named():
    recorded = of({"index": 0, "text": "a"}, {"index": 7, "subset": "law", "text": "b"}, {"id": "x/9", "text": "c"})
    assert answer(recorded, 0) == "a"
    assert recorded.unused() == (
        "2 of 3 given completions match no sample that was asked for: id 'x/9', index 7 of law"
    )
    assert recorded.unused().count(",") == 1


def test_utf_16_is_refused_by_name():
    with pytest.raises(InvalidInput, match="line 1 is UTF-16; save the file as UTF-8"):
        RecordedCompletions(io.BytesIO('{"index": 0, "text": "a"}'.encode("utf-16")))
