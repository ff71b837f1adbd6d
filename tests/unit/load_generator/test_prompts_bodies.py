"""Bodies are what the API makes of a prompt; the short cut to them changes nothing."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import LoadTarget, PromptSpec
from evalmesh.load_generator.apis import registry
from evalmesh.load_generator.apis.base import Ask, LoadApi, Reader, json_body
from evalmesh.load_generator.apis.chat import ChoicesReader
from evalmesh.load_generator.prompts.base import LoadPrompt
from evalmesh.load_generator.prompts.bodies import Bodies

TARGET = LoadTarget("http://127.0.0.1:9/v1/chat/completions", "tiny")

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


class ShoutingApi(LoadApi):
    """A plug-in that changes texts: they cannot be put into its bodies afterwards."""

    name = "shouting"
    path = "/shout"

    def body(self, ask: Ask) -> bytes:
        return json_body(ask, {"loud": ask.text.upper(), "length": len(ask.text), "max": ask.max_tokens})

    def reader(self) -> Reader:
        return ChoicesReader()


def bodies(api: str = "chat", **spec: Any) -> Bodies:
    return Bodies(registry.get(api), replace(TARGET, api=api), PromptSpec(**spec))


def made(prompt: LoadPrompt, limit: int = 0, api: str = "chat", **spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bodies(api, **spec).of(prompt, limit))
    return found


@given(st.text(), st.integers(0, 5))
def test_a_text_put_in_its_place_is_the_body_the_api_makes(text: str, limit: int) -> None:
    maker = bodies(body={"temperature": 0})
    maker.of(LoadPrompt(text="first"), limit)
    direct = registry.get("chat").body(
        Ask("tiny", stream=True, messages=({"role": "user", "content": text or "-"},), max_tokens=limit,
            extra={"temperature": 0})
    )  # fmt: skip
    assert json.loads(maker.of(LoadPrompt(text=text or "-"), limit)) == json.loads(direct)


def test_an_api_that_changes_texts_is_asked_for_each_body() -> None:
    maker = Bodies(ShoutingApi(), replace(TARGET, api="shouting"), PromptSpec())
    assert json.loads(maker.of(LoadPrompt(text="one"), 0)) == {"loud": "ONE", "length": 3, "max": 0}
    assert json.loads(maker.of(LoadPrompt(text="two words"), 4)) == {"loud": "TWO WORDS", "length": 9, "max": 4}


def test_limits_and_what_is_merged_in() -> None:
    body = made(LoadPrompt(text="hi"), 7, min_tokens=3, body={"top_p": 0.5, "stream_options": None})
    assert body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "max_tokens": 7,
        "min_tokens": 3,
        "top_p": 0.5,
    }


@pytest.mark.parametrize(("api", "key"), [("completions", "prompt"), ("responses", "input"), ("embeddings", "input")])
def test_other_apis_get_texts_too(api: str, key: str) -> None:
    body = made(LoadPrompt(text="hi"), api=api)
    assert body[key] in ("hi", [{"role": "user", "content": "hi"}])


def test_answers_of_exact_length_ignore_the_end_mark_unless_that_is_taken_out() -> None:
    assert made(LoadPrompt(text="hi", exact_output=True), 7)["ignore_eos"] is True
    assert "ignore_eos" not in made(LoadPrompt(text="hi", exact_output=True), 0)
    assert "ignore_eos" not in made(LoadPrompt(text="hi", exact_output=True), 7, body={"ignore_eos": None})
    assert made(LoadPrompt(text="hi", exact_output=True), 7, body={"ignore_eos": False})["ignore_eos"] is False


class TestTemplates:
    def test_placeholders_are_filled_wherever_they_stand(self) -> None:
        template = '{"m": "{model}", "in": [{"t": "say {prompt} now"}], "n": "{max_tokens}", "all": "{messages}"}'
        assert made(LoadPrompt(text='a "b" {model} {prompt}'), 5, template=template) == {
            "m": "tiny",
            "in": [{"t": 'say a "b" {model} {prompt} now'}],
            "n": 5,
            "all": [{"role": "user", "content": 'a "b" {model} {prompt}'}],
        }

    def test_what_is_merged_in_holds_here_too(self) -> None:
        template = '{"prompt": "{prompt}", "stop": 1, "none": null}'
        assert made(LoadPrompt(text="x"), template=template, body={"stop": None, "n": 2}) == {
            "prompt": "x",
            "none": None,
            "n": 2,
        }

    @pytest.mark.parametrize("template", ["{prompt}", "[1]", '"{prompt}"'])
    def test_what_is_no_object_is_refused(self, template: str) -> None:
        with pytest.raises(InvalidInput, match=r"prompts\.template"):
            bodies(template=template)


class TestRecorded:
    def test_a_recorded_body_stays_as_it_is_and_is_filled_up(self) -> None:
        recorded = {**CHAT, "model": "other", "temperature": 1, "stream": False}
        body = made(LoadPrompt(body=recorded), 9, body={"temperature": 0, "top_p": 0.9})
        assert body == {
            **CHAT,
            "model": "other",
            "temperature": 1,
            "top_p": 0.9,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 9,
        }

    def test_the_targets_model_stands_in(self) -> None:
        assert made(LoadPrompt(body=CHAT))["model"] == "tiny"

    def test_models_are_replaced_where_that_is_asked_for(self) -> None:
        recorded = {**CHAT, "model": "gpt"}
        assert made(LoadPrompt(body=recorded), args={"model_override": "mine"})["model"] == "mine"
        assert made(LoadPrompt(body=recorded), args={"model_mapping": {"gpt": "mine"}})["model"] == "mine"
        assert made(LoadPrompt(body=recorded), args={"model_mapping": {"other": "mine"}})["model"] == "gpt"

    def test_recorded_lengths_win_unless_they_are_part_of_the_load(self) -> None:
        recorded = {**CHAT, "max_tokens": 5}
        assert made(LoadPrompt(body=recorded), 9)["max_tokens"] == 5
        exact = made(LoadPrompt(body=recorded, exact_output=True), 9)
        assert (exact["max_tokens"], exact["ignore_eos"]) == (9, True)

    def test_keys_are_taken_out(self) -> None:
        assert "seed" not in made(LoadPrompt(body={**CHAT, "seed": 1}), body={"seed": None})


class TestConversations:
    @pytest.mark.parametrize(("api", "turns", "limit"), [
        ("chat", "messages", "max_tokens"), ("responses", "input", "max_output_tokens"),
    ])  # fmt: skip
    def test_the_body_leaves_out_what_the_engine_writes(self, api: str, turns: str, limit: str) -> None:
        maker = bodies(api, body={limit: 3, "temperature": 0})
        limited = json.loads(bytes(maker.around_turns(exact_output=True, limited=True)))
        assert not {turns, limit} & limited.keys()
        assert limited["ignore_eos"] is True
        free = json.loads(bytes(maker.around_turns(exact_output=False, limited=False)))
        assert free[limit] == 3
        assert "ignore_eos" not in free

    def test_an_api_without_conversations_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match="completions"):
            bodies("completions").around_turns(exact_output=False, limited=False)
