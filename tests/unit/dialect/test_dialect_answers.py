"""Answers of the other two APIs, as an evaluation and as a load test reads them; and leaves of any type."""

import json
from math import inf, nan

import pytest
from tests.kit.habits.loose import VALUES

from evalmesh.dialect.answer import Answer, Fault, StreamedAnswer, parse_answer
from evalmesh.dialect.logprobs import read_legacy, read_token_logprobs
from evalmesh.dialect.loose import count_of, number_of, text_of, whole
from evalmesh.dialect.responses import StreamedResponse, input_items, parse_response
from evalmesh.dialect.sse import is_stream
from evalmesh.domain.content import ToolCall
from evalmesh.load.measure.records import Outcome
from evalmesh.load_generator.apis import registry

ITEM = {"type": "message", "content": [{"type": "output_text", "text": "It is 18."}]}
THOUGHT = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": {"a": 1}}
USAGE = {"input_tokens": 7, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}}
RESPONSE = {"status": "completed", "output": [THOUGHT, ITEM], "usage": USAGE}


def data(value):
    return json.dumps(value).encode()


def responded(*events):
    """What both make of a stream: (the answer, the outcome)."""
    answer, reader = StreamedResponse(), registry.get("responses").reader()
    fault = None
    for one in events:
        fault = fault or answer.add(data(one), 1.0)
        reader.event(data(one), 1.0)
    return fault or answer.end(), reader.outcome()


def delta(kind, text):
    return {"type": f"response.{kind}.delta", "delta": text}


def last(kind="completed", **response):
    return {"type": f"response.{kind}", "response": {**RESPONSE, "status": kind, **response}}


def test_a_response_in_one_piece_and_in_events():
    streamed, outcome = responded(
        {"type": "response.created", "response": {"status": "in_progress", "output": []}},
        delta("reasoning_summary_text", "Hm."),
        delta("output_text", "It is "),
        delta("output_text", "18."),
        last(),
    )
    assert outcome is Outcome.OK
    for answer in (parse_response(data(RESPONSE)), streamed):
        assert isinstance(answer, Answer)
        assert (answer.text, answer.reasoning, answer.finish_reason) == ("It is 18.", "Hm.", "stop")
        assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.reasoning_tokens) == (7, 5, 2)


def test_what_only_the_last_event_says_is_read_from_it():
    answer, outcome = responded(delta("function_call_arguments", "{}"), last(output=[CALL]))
    assert outcome is Outcome.OK
    assert answer.tool_calls == (ToolCall("c1", "add", '{"a": 1}'),)
    assert answer.finish_reason == "tool_calls"
    text, _ = responded(last())
    assert text.text == "It is 18."


@pytest.mark.parametrize(
    ("events", "kind", "outcome"),
    [
        ([delta("output_text", "It")], "truncated", Outcome.TRUNCATED),
        ([delta("output_text", "It"), last("failed", error={"message": "oom"})], "reported", Outcome.ERROR_EVENT),
        ([delta("output_text", "It"), {"type": "error", "message": "oom"}], "reported", Outcome.ERROR_EVENT),
        ([{"type": "error", "error": {"message": "oom"}}], "reported", Outcome.ERROR_EVENT),
    ],
)
def test_responses_that_are_none(events, kind, outcome):
    fault, counted = responded(*events)
    assert isinstance(fault, Fault)
    assert (fault.kind, counted) == (kind, outcome)


@pytest.mark.parametrize(("reason", "finish"), [("max_output_tokens", "length"), ("content_filter", "content_filter")])
def test_a_response_that_was_cut(reason, finish):
    cut = {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": reason}}
    assert parse_response(data(cut)).finish_reason == finish
    answer, outcome = responded(delta("output_text", "It"), last("incomplete", incomplete_details={"reason": reason}))
    assert (answer.finish_reason, outcome) == (finish, Outcome.OK)


@pytest.mark.parametrize("kind", VALUES)
def test_no_other_field_costs_a_response_its_text(kind):
    value = VALUES[kind]
    for name in ("id", "object", "created_at", "usage", "incomplete_details", "metadata", "reasoning", "message"):
        body = data({**RESPONSE, name: value})
        assert parse_response(body).text == "It is 18.", name
        reader = registry.get("responses").reader()
        reader.whole(body, 1.0)
        assert reader.outcome() is Outcome.OK, name
        streamed, outcome = responded(delta("output_text", "It is 18."), last(**{name: value}))
        assert (streamed.text, outcome) == ("It is 18.", Outcome.OK), name
    for name in ("id", "status", "role", "summary"):
        body = data({**RESPONSE, "output": [{**THOUGHT, name: value}, {**ITEM, name: value}, value]})
        assert parse_response(body).text == "It is 18.", name


@pytest.mark.parametrize("kind", VALUES)
def test_no_other_field_costs_a_text_completion_its_text(kind):
    value = VALUES[kind]
    for name in ("index", "logprobs", "stop_reason", "delta", "message"):
        if name in {"delta", "message"} and value not in (None, [], True, 0.5):
            continue  # these have text of their own
        chunk = {"choices": [{"index": 0, "text": "18", "finish_reason": None, name: value}]}
        answer, reader = StreamedAnswer(), registry.get("completions").reader()
        for one in (data(chunk), b"[DONE]"):
            assert answer.add(one, 1.0) is None
            reader.event(one, 1.0)
        assert (answer.end().text, reader.outcome()) == ("18", Outcome.OK), name
        assert parse_answer(data(chunk)).text == "18", name


def test_chats_become_items():
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]
    assert input_items(turns) == [
        {"role": "user", "content": "Add."},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
    ]


def test_leaves_of_any_type():
    assert [count_of(one) for one in (7, 7.0, "7", " 7.9 ", True, -1, nan, inf, 2**64, None, [7], "x")] == [
        7, 7, 7, 7, None, None, None, None, None, None, None, None,
    ]  # fmt: skip
    assert [number_of(one) for one in (-0.5, "-0.5", "-inf", nan, True, None, 10**400)] == [
        -0.5, -0.5, -inf, None, None, None, None,
    ]  # fmt: skip
    assert [text_of(one) for one in ("a", ["a", {"text": "b"}], {"thinking": [{"text": "c"}]}, 7, None)] == [
        "a", "ab", "c", "", "",
    ]  # fmt: skip
    deep = "x"
    for _ in range(100):
        deep = [deep]
    assert text_of(deep) == ""
    assert whole("\ud83d\ude00 \ud83d") == "\U0001f600 \ufffd"


@pytest.mark.parametrize(
    ("start", "streams"),
    [
        (b"", None), (b"\n \r\n", None), (b"\xef\xbb", None), (b"\xef\xbb\xbf", None), (b"dat", None),
        (b"\n\neve", None),
        (b"data: {", True), (b"\xef\xbb\xbf\ndata:", True), (b": hello", True), (b"event: x", True), (b"data\n", True),
        (b"id:1", True), (b"retry: 3", True), (b"error: {}", True),
        (b"{", False), (b"\n\n[", False), (b"<html>", False), (b"\x1f\x8b", False), (b"database is locked", False),
        (b"Internal error", False), (b"\xef\xbb\xbf{", False),
    ],
)  # fmt: skip
def test_what_is_a_stream_is_told_by_how_it_begins(start, streams):
    assert is_stream(start) is streams


def test_log_probabilities_of_odd_forms_cost_nothing():
    for odd in (b"null", b"7", b'"x"', b"[]", b'{"content": 7}', b'{"content": [7, {"token": 1}]}', b"{oops"):
        assert read_token_logprobs([odd]) == ()
        assert read_legacy(odd) is None
    loose = b'{"content": [{"token": "A", "logprob": "-0.5", "top_logprobs": {"token": "B", "logprob": -Infinity}}]}'
    [one] = read_token_logprobs([loose])
    assert (one.token, one.logprob, one.top) == ("A", -0.5, (("B", -inf),))
