"""What is sent to the messages API."""

import base64
import json

import pytest
from tests.kit.model_servers import any_server

from evalmesh.adapters.openai.anthropic_door import ANTHROPIC, AnthropicDoor
from evalmesh.adapters.openai.target import resolve_target
from evalmesh.domain.content import ContentPart, ToolCall, ToolDefinition
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.media import media_part
from evalmesh.domain.request import GenerationConfig, Message, Request
from evalmesh.domain.run import ModelSpec

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
WAV = b"RIFF\x24\0\0\0WAVEfmt "
ADD = ToolDefinition("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}})
HI = Message("user", "Hi")


def body_of(request: Request, config: GenerationConfig | None = None, *media: bytes, **more) -> dict:
    model = ModelSpec("claude", engine="anthropic", url="http://127.0.0.1:1", **more)
    (way,) = AnthropicDoor(model, resolve_target(model, any_server(), ANTHROPIC)).ways("chat")
    at_hand = {media_part(one).sha256: one for one in media}
    return json.loads(way.encode(request, config or GenerationConfig(), at_hand))


def ask(*messages: Message, **more) -> Request:
    return Request("s", 0, "chat", "", messages, **more)


def test_the_plainest_request_says_how_long_an_answer_may_be():
    assert body_of(ask(HI)) == {
        "model": "claude",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_system_prompts_stand_apart_and_turns_of_one_role_become_one():
    turns = (Message("system", "Be brief."), HI, Message("user", "there"), Message("assistant", "Yes?"))
    body = body_of(ask(*turns, Message("system", "Be kind.")))
    assert body["system"] == "Be brief.\n\nBe kind."
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]},
        {"role": "assistant", "content": "Yes?"},
    ]


def test_options_have_the_names_of_this_api():
    config = GenerationConfig(
        max_tokens=9, temperature=0.5, top_p=0.9, top_k=3, stop=("END", "\n"), seed=4, reasoning_effort="high"
    )
    body = body_of(ask(HI), config, stream=True)
    del body["messages"], body["model"]
    assert body == {
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "stop_sequences": ["END"],
        "output_config": {"effort": "high"},
        "stream": True,
    }


@pytest.mark.parametrize("name", ["frequency_penalty", "presence_penalty", "repetition_penalty", "top_logprobs"])
def test_options_that_it_has_not_are_refused_by_name(name):
    with pytest.raises(InvalidInput, match=name):
        body_of(ask(HI), GenerationConfig(**{name: 1}))


def test_extras_win_and_null_takes_a_field_out():
    config = GenerationConfig(temperature=0.0, extra_body={"temperature": None, "thinking": {"type": "adaptive"}})
    body = body_of(ask(HI), config, args={"extra_body": {"max_tokens": 77, "metadata": {"user_id": "u"}}})
    assert "temperature" not in body
    assert (body["max_tokens"], body["metadata"], body["thinking"]) == (77, {"user_id": "u"}, {"type": "adaptive"})


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("", None),
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("add", {"type": "tool", "name": "add"}),
    ],
)
def test_tools_and_the_choice_among_them(choice, sent):
    body = body_of(ask(HI, tools=(ADD, ToolDefinition("now")), tool_choice=choice))
    assert body["tools"] == [
        {"name": "add", "description": "Adds.", "input_schema": ADD.parameters},
        {"name": "now", "input_schema": {"type": "object"}},
    ]
    assert body.get("tool_choice") == sent


def test_calls_and_their_results_are_blocks_of_their_turns():
    calls = (ToolCall("1", "add", '{"a":1}'), ToolCall("2", "add", "no json"))
    results = (Message("tool", "1", tool_call_id="1"), Message("tool", "2", tool_call_id="2"))
    body = body_of(ask(HI, Message("assistant", "Well", calls), *results, Message("user", "So?"), tools=(ADD,)))
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Well"},
                {"type": "tool_use", "id": "1", "name": "add", "input": {"a": 1}},
                {"type": "tool_use", "id": "2", "name": "add", "input": {"arguments": "no json"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": "1"},
                {"type": "tool_result", "tool_use_id": "2", "content": "2"},
                {"type": "text", "text": "So?"},
            ],
        },
    ]


def test_images_go_as_base64_and_other_media_are_refused_by_name():
    body = body_of(ask(Message("user", (ContentPart("text", "What?"), media_part(PNG)))), None, PNG)
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "What?"},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()},
        },
    ]
    with pytest.raises(InvalidInput, match="audio/wav"):
        body_of(ask(Message("user", (media_part(WAV),))), None, WAV)


def test_headers_carry_key_and_version():
    model = ModelSpec("claude", engine="anthropic", url="http://127.0.0.1:1", key_ref="env:KEY")
    target = resolve_target(model, any_server({"KEY": "sesame-key"}, "env:KEY"), ANTHROPIC)
    assert target.headers["x-api-key"] == "sesame-key"
    assert target.headers["anthropic-version"] == "2023-06-01"
    assert "Authorization" not in target.headers
    own = ModelSpec("claude", engine="anthropic", url="http://127.0.0.1:1", headers={"Anthropic-Version": "2099-01-01"})
    headers = resolve_target(own, any_server(), ANTHROPIC).headers
    assert [value for name, value in headers.items() if name.lower() == "anthropic-version"] == ["2099-01-01"]


def test_models_of_other_kinds_are_refused():
    model = ModelSpec("claude", engine="anthropic", url="http://127.0.0.1:1", kind="completion")
    with pytest.raises(InvalidInput, match="has chat"):
        AnthropicDoor(model, resolve_target(model, any_server(), ANTHROPIC))
