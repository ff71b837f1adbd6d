"""Media, tools, refusals and log probabilities: what goes on the wire, and what is read of answers."""

import base64
import json

import pytest
from tests.kit.model_servers import any_server

from evalmesh.adapters.openai.body import BodyEncoder
from evalmesh.adapters.openai.target import resolve_target
from evalmesh.dialect.answer import Answer, Fault, StreamedAnswer, parse_answer
from evalmesh.dialect.logprobs import read_token_logprobs
from evalmesh.domain.completion import TokenLogprob
from evalmesh.domain.content import ContentPart, ToolCall, ToolDefinition
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.media import media_part
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.domain.run import ModelSpec

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
WAV = b"RIFF\x24\0\0\0WAVEfmt "
MP3 = b"ID3\x03some sound"
MP4 = b"\0\0\0\x18ftypisom\0\0\0\0"
ADD = ToolDefinition("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}})


def body_of(request: Request, config: GenerationConfig | None = None, *media: bytes, **args) -> dict:
    model = ModelSpec("m", url="http://127.0.0.1:1/v1", args=args)
    encoder = BodyEncoder(model, resolve_target(model, any_server()))
    at_hand = {media_part(one).sha256: one for one in media}
    return json.loads(encoder.encode(request, config or GenerationConfig(), at_hand))


def ask(*messages: Message, **more) -> Request:
    return Request("s", 0, "chat", "", messages, **more)


def data_url(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def test_parts_are_sent_as_data_urls_in_their_order():
    parts = (ContentPart("text", "Ä"), *map(media_part, (PNG, WAV, MP3, MP4)), ContentPart("text", "?"))
    body = body_of(ask(Message("system", "Be brief."), Message("user", parts)), None, PNG, WAV, MP3, MP4)
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Ä"},
                {"type": "image_url", "image_url": {"url": data_url("image/png", PNG)}},
                {"type": "input_audio", "input_audio": {"data": base64.b64encode(WAV).decode(), "format": "wav"}},
                {"type": "input_audio", "input_audio": {"data": base64.b64encode(MP3).decode(), "format": "mp3"}},
                {"type": "video_url", "video_url": {"url": data_url("video/mp4", MP4)}},
                {"type": "text", "text": "?"},
            ],
        },
    ]


def test_a_medium_that_is_not_at_hand_is_named():
    part = media_part(PNG)
    with pytest.raises(InvalidInput, match=part.sha256):
        body_of(ask(Message("user", (part,))))


def test_tools_and_a_conversation_with_calls_are_sent():
    call = ToolCall("c1", "add", '{"a":1}')
    turns = (Message("user", "Add."), Message("assistant", "", (call,)), Message("tool", "2", tool_call_id="c1"))
    body = body_of(ask(*turns, tools=(ADD,), tool_choice="required"), GenerationConfig(seed=3))
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}],
        },
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
    ]
    assert body["tools"] == [
        {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": ADD.parameters}}
    ]
    assert (body["tool_choice"], body["seed"]) == ("required", 3)
    named = body_of(ask(Message("user", "Add."), tools=(ADD,), tool_choice="add"))
    assert named["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert body_of(ask(Message("user", "Add."))).keys() == {"model", "messages"}


def test_tools_of_the_user_and_of_the_benchmark_do_not_meet():
    config = GenerationConfig(extra_body={"tools": []})
    assert body_of(ask(Message("user", "x")), config)["tools"] == []
    with pytest.raises(InvalidInput, match="the benchmark brings its own"):
        body_of(ask(Message("user", "x"), tools=(ADD,)), config)


def test_log_probabilities_are_asked_for_as_each_api_has_it():
    config = GenerationConfig(top_logprobs=2)
    chat = body_of(ask(Message("user", "x")), config)
    text = body_of(Request("s", 0, "completion", "", prompt="x"), config)
    assert (chat["logprobs"], chat["top_logprobs"], text["logprobs"]) == (True, 2, 2)


def whole(message: dict, finish: str = "stop", **choice) -> Answer | Fault:
    body = {"choices": [{"index": 0, "message": message, "finish_reason": finish, **choice}]}
    return parse_answer(json.dumps(body).encode())


def streamed(*deltas: dict, finish: str = "stop") -> Answer | Fault:
    answer = StreamedAnswer()
    for delta in deltas:
        failure = answer.add(json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode(), 1.0)
        if failure is not None:
            return failure
    assert (
        answer.add(json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}).encode(), 1.0) is None
    )
    assert answer.add(b"[DONE]", 1.0) is None
    return answer.end()


def piece(index: int | None, arguments: object, **more) -> dict:
    at = {} if index is None else {"index": index}
    function = {"arguments": arguments} | ({"name": more.pop("name")} if "name" in more else {})
    return {"tool_calls": [{**at, **more, "function": function}]}


def test_calls_of_a_whole_answer_are_read_whatever_form_their_arguments_have():
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": "é"}'}},
        {"id": None, "function": {"name": "sub", "arguments": {"a": 1}}},
        {"function": {"name": "now", "arguments": None}},
    ]
    answer = whole({"content": None, "tool_calls": calls}, "tool_calls")
    assert answer.tool_calls == (
        ToolCall("c1", "add", '{"a": "é"}'),
        ToolCall("", "sub", '{"a": 1}'),
        ToolCall("", "now", ""),
    )
    assert (answer.text, answer.finish_reason) == ("", "tool_calls")
    legacy = whole({"content": None, "function_call": {"name": "add", "arguments": "{}"}}, "function_call")
    assert legacy.tool_calls == (ToolCall("", "add", "{}"),)


@pytest.mark.parametrize(
    "deltas",
    [
        # by index, interleaved
        [
            piece(0, "", id="c1", name="add"),
            piece(1, "", id="c2", name="sub"),
            piece(0, '{"a"'),
            piece(1, "{}"),
            piece(0, ":1}"),
        ],
        # id and name in every chunk
        [
            piece(0, '{"a"', id="c1", name="add"),
            piece(0, ":1}", id="c1", name="add"),
            piece(1, "{}", id="c2", name="sub"),
        ],
        # without an index, or with one for all: a new id is a new call
        [piece(None, '{"a":1}', id="c1", name="add"), piece(None, "{}", id="c2", name="sub")],
        [piece(0, '{"a":1}', id="c1", name="add"), piece(0, "{}", id="c2", name="sub")],
    ],
)
def test_streamed_calls_are_put_together(deltas):
    answer = streamed({"role": "assistant", "content": ""}, *deltas, finish="tool_calls")
    assert answer.tool_calls == (ToolCall("c1", "add", '{"a":1}'), ToolCall("c2", "sub", "{}"))
    assert answer.first_token_at is not None


def test_a_refusal_is_kept_apart_from_the_text():
    assert (whole({"content": None, "refusal": "No."}).refusal, whole({"content": "Yes."}).refusal) == ("No.", None)
    assert whole({"content": [{"type": "refusal", "refusal": "No."}]}).refusal == "No."
    answer = streamed({"refusal": "N"}, {"refusal": "o."})
    assert (answer.refusal, answer.text) == ("No.", "")


def test_text_is_taken_from_content_parts_and_thoughts_are_not_text():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "A"},
        {"type": "output_text", "text": "B"},
        {"text": "C"},
    ]
    for answer in (whole({"content": parts}), streamed({"content": parts[:2]}, {"content": parts[2:]})):
        assert (answer.text, answer.reasoning) == ("ABC", "Hm.")


def test_media_of_an_answer_are_read():
    image = {"type": "image_url", "image_url": {"url": data_url("image/png", PNG)}}
    answer = whole({"content": "Here.", "images": [image, image]})
    assert (answer.text, answer.media) == ("Here.", [PNG, PNG])
    assert whole({"content": [{"type": "text", "text": "Here."}, image]}).media == [PNG]
    spoken = whole({"content": None, "audio": {"data": base64.b64encode(WAV).decode(), "transcript": "Hello"}})
    assert (spoken.text, spoken.media) == ("Hello", [WAV])
    halves = [base64.b64encode(half).decode() for half in (WAV[:7], WAV[7:])]
    assert streamed(*({"audio": {"data": half}} for half in halves)).media == [WAV]
    assert streamed({"images": [image]}).media == [PNG]


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "file:///etc/passwd", "data:image/png,raw", None])
def test_what_a_model_points_at_is_not_fetched(url):
    message = {"content": "Here.", "images": [{"type": "image_url", "image_url": {"url": url}}]}
    for answer in (whole(message), streamed(message)):
        assert isinstance(answer, Fault)
        assert (answer.kind, answer.final) == ("malformed", True)


def test_token_log_probabilities_of_both_apis_are_read():
    tokens = [{"token": "A", "logprob": -0.5, "bytes": [65], "top_logprobs": [{"token": "B", "logprob": -1.0}]}]
    logprobs = {"content": [*tokens, {"token": "C", "logprob": -0.25}], "refusal": None}
    answer = whole({"content": "AC"}, logprobs=logprobs)
    read = (TokenLogprob("A", -0.5, (("B", -1.0),)), TokenLogprob("C", -0.25))
    assert read_token_logprobs(answer.logprobs) == read
    legacy = {"tokens": ["A", "C"], "token_logprobs": [-0.5, -0.25], "top_logprobs": [{"B": -1.0}, None]}
    body = json.dumps({"choices": [{"text": "AC", "logprobs": legacy}]}).encode()
    assert read_token_logprobs(parse_answer(body).logprobs) == read
    stream = StreamedAnswer()
    for one in logprobs["content"]:
        chunk = {"choices": [{"delta": {"content": one["token"]}, "logprobs": {"content": [one]}}]}
        assert stream.add(json.dumps(chunk).encode(), 1.0) is None
    assert stream.add(b"[DONE]", 1.0) is None
    assert read_token_logprobs(stream.end().logprobs) == read


def test_a_plain_answer_has_nothing_but_text():
    answer = whole({"role": "assistant", "content": "A", "tool_calls": None, "refusal": None, "audio": None})
    assert (answer.text, answer.tool_calls, answer.media, read_token_logprobs(answer.logprobs)) == ("A", (), [], ())
