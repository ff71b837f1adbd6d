"""What is made of messages: whole and streamed, as they should be and as servers write them."""

import itertools
import json

import pytest

from evalmesh.dialect.answer import Answer, Fault
from evalmesh.dialect.anthropic.addresses import key_header, read_address
from evalmesh.dialect.anthropic.answer import StreamedMessage, parse_message
from evalmesh.dialect.sse import SseParser
from evalmesh.domain.completion import Usage
from evalmesh.domain.content import ToolCall

TEXT = {"type": "text", "text": "It is 4."}
THOUGHT = {"type": "thinking", "thinking": "2 + 2", "signature": "abc"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 2, "b": [1, "é"]}}
USAGE = {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 1, "output_tokens": 7}


def message(*content: object, **more: object) -> bytes:
    found = {"type": "message", "role": "assistant", "content": list(content), "stop_reason": "end_turn"}
    return json.dumps({**found, "usage": USAGE, **more}).encode()


def read(body: bytes) -> Answer:
    found = parse_message(body)
    assert isinstance(found, Answer), found
    return found


def event(kind: str, **body: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **body})}\n\n".encode()


def block(index: int, begin: dict, *deltas: dict) -> bytes:
    pieces = [event("content_block_delta", index=index, delta=delta) for delta in deltas]
    stop = event("content_block_stop", index=index)
    return event("content_block_start", index=index, content_block=begin) + b"".join(pieces) + stop


START = event("message_start", message={"content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}})
THINKS = block(
    0,
    {"type": "thinking", "thinking": "", "signature": ""},
    {"type": "thinking_delta", "thinking": "2 +"},
    {"type": "thinking_delta", "thinking": " 2"},
    {"type": "signature_delta", "signature": "abc"},
)
SAYS = block(
    1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "It is "}, {"type": "text_delta", "text": "4."}
)
CALLS = block(
    2,
    {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}},
    {"type": "input_json_delta", "partial_json": ""},
    {"type": "input_json_delta", "partial_json": '{"a":2,'},
    {"type": "input_json_delta", "partial_json": '"b":[1,"é"]}'},
)
ENDED = event("message_delta", delta={"stop_reason": "tool_use", "stop_sequence": None}, usage={"output_tokens": 7})
STOP = event("message_stop")
STREAM = START + event("ping") + THINKS + SAYS + CALLS + ENDED + STOP


def streamed(data: bytes, *cuts: int) -> Answer | Fault:
    parser, answer = SseParser(), StreamedMessage()
    edges = [0, *cuts, len(data)]
    payloads = [one for start, end in itertools.pairwise(edges) for one in parser.feed(data[start:end])]
    for payload in [*payloads, *parser.finish()]:
        if (fault := answer.add(payload, 1.0)) is not None:
            return fault
    return answer.end()


def test_a_message_is_read_whole():
    answer = read(message(THOUGHT, TEXT, CALL, stop_reason="tool_use"))
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("It is 4.", "2 + 2", "tool_calls")
    assert answer.tool_calls == (ToolCall("toolu_1", "add", '{"a":2,"b":[1,"é"]}'),)
    assert answer.usage == Usage(16, 7, None, 5)  # what came from a cache is no part of input_tokens


def test_a_stream_says_the_same_wherever_it_is_cut():
    whole = read(message(THOUGHT, TEXT, CALL, stop_reason="tool_use"))
    for cut in range(0, len(STREAM), 7):
        answer = streamed(STREAM, cut)
        assert isinstance(answer, Answer)
        assert (answer.text, answer.reasoning, answer.tool_calls) == (whole.text, whole.reasoning, whole.tool_calls)
        assert (answer.finish_reason, answer.usage) == (whole.finish_reason, whole.usage)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "unknown"),
        ("something new", "unknown"),
        (None, "unknown"),
    ],
)
def test_every_reason_to_stop(reason, finish):
    assert read(message(TEXT, stop_reason=reason)).finish_reason == finish
    ended = event("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 7})
    answer = streamed(START + SAYS + ended + STOP)
    assert isinstance(answer, Answer)
    assert (answer.text, answer.finish_reason) == ("It is 4.", finish)


def test_a_refusal_is_told_apart():
    why = {"type": "refusal", "category": "cyber", "explanation": "It could do harm."}
    answer = read(message(stop_reason="refusal", stop_details=why))
    assert (answer.text, answer.refusal, answer.finish_reason) == ("", "It could do harm.", "content_filter")
    ended = event("message_delta", delta={"stop_reason": "refusal", "stop_details": why}, usage={})
    streamed_answer = streamed(START + ended + STOP)
    assert isinstance(streamed_answer, Answer)
    assert streamed_answer.refusal == "It could do harm."


@pytest.mark.parametrize(
    ("kind", "status"),
    [("overloaded_error", "529"), ("rate_limit_error", "429"), ("api_error", "500"), ("invalid_request_error", "400")],
)
def test_an_error_in_a_stream_has_the_status_that_it_stands_for(kind, status):
    said = event("error", error={"type": kind, "message": "Sorry"})
    for data in (START + SAYS + said, said, START + THINKS + said + STOP):
        found = streamed(data)
        assert isinstance(found, Fault)
        assert (found.kind, found.code) == ("reported", status)
        assert "Sorry" in found.message
    whole = parse_message(json.dumps({"type": "error", "error": {"type": kind, "message": "Sorry"}}).encode())
    assert isinstance(whole, Fault)
    assert (whole.kind, whole.code) == ("reported", status)


ODD = {
    "nothing but the end of the text": START + SAYS + ENDED,
    "no ping, no start": SAYS + ENDED + STOP,
    "blocks that never begin": START
    + event("content_block_delta", index=1, delta={"type": "text_delta", "text": "It is 4."})
    + ENDED
    + STOP,
    "no index at all": START
    + event("content_block_start", content_block={"type": "text", "text": ""})
    + event("content_block_delta", delta={"type": "text_delta", "text": "It is 4."})
    + ENDED,
    "the text in the start of its block": START + block(0, TEXT) + ENDED + STOP,
    "another end mark": START + SAYS + ENDED + b"data: [DONE]\n\n",
    "events of another time": START + event("content_block_news", index=0) + SAYS + ENDED + STOP,
    "an error after the end": START + SAYS + ENDED + event("error", error={"type": "api_error", "message": "x"}),
    "rubbish after the end": START + SAYS + ENDED + b"data: {\n\n",
    "no usage": event("message_start", message={}) + SAYS + event("message_delta", delta={"stop_reason": "end_turn"}),
    "usage of null": START + SAYS + event("message_delta", delta={"stop_reason": "end_turn"}, usage=None) + STOP,
    "blocks of other kinds": START
    + block(5, {"type": "redacted_thinking", "data": "xyz"})
    + block(6, {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})
    + SAYS
    + ENDED,
}


@pytest.mark.parametrize("name", ODD)
def test_odd_streams_keep_their_text(name):
    answer = streamed(ODD[name])
    assert isinstance(answer, Answer), answer
    assert answer.text == "It is 4."
    assert answer.tool_calls == ()


@pytest.mark.parametrize("data", [START + SAYS, START, b"", START + SAYS + event("message_delta", delta={}, usage={})])
def test_a_stream_that_does_not_end_is_truncated(data):
    found = streamed(data)
    assert isinstance(found, Fault)
    assert found.kind == "truncated"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'"text"', b'{"type":"message"}'])
def test_what_is_no_message_is_named(body):
    found = parse_message(body)
    assert isinstance(found, Fault)
    assert found.kind == "malformed"


@pytest.mark.parametrize(
    ("content", "text"),
    [("It is 4.", "It is 4."), ([], ""), ([TEXT, TEXT], "It is 4.It is 4."), ([{"type": "text", "text": None}], "")],
)
def test_odd_contents(content, text):
    assert read(message(content=content)).text == text


@pytest.mark.parametrize(
    ("given", "call"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1/messages", "https://api.anthropic.com/v1/messages"),
        ("http://h:1/gate/anthropic", "http://h:1/gate/anthropic/v1/messages"),
        ("http://h:1/x?beta=1", "http://h:1/x/v1/messages?beta=1"),
    ],
)
def test_addresses(given, call):
    assert read_address(given).url("messages") == call


def test_keys_and_tokens_have_headers_of_their_own():
    assert key_header("u", "sk-ant-api03-x") == ("x-api-key", "sk-ant-api03-x")
    assert key_header("u", "sk-ant-oat01-x") == ("Authorization", "Bearer sk-ant-oat01-x")
