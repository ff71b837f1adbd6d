"""Thinking and calls of tools are taken out of answers by vLLM's own parsers."""

import json

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from evalmesh.adapters.engines.engine import EngineError
from evalmesh.adapters.engines.vllm.parsing import Parsed, Parsers
from evalmesh.domain.content import ToolDefinition
from evalmesh.domain.request import Message, Request

# What libraries warn of while they are imported is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

TOOL = ToolDefinition("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}})
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 4}}\n</tool_call>'


@pytest.fixture(scope="module")
def thinking(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    marks = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
    tokenizer.add_tokens([AddedToken(mark, special=False) for mark in marks])
    return tokenizer


def read(parsers: Parsers, tokenizer, text: str, *tools: ToolDefinition) -> Parsed:
    request = Request("s", 0, "chat", "d", messages=(Message("user", "4?"),), tools=tools)
    reading = parsers.begin(request, {})
    assert reading is not None
    return reading.read(text, tokenizer.encode(text, add_special_tokens=False), [])


def test_thinking_is_parted_from_the_answer(thinking):
    parsers = Parsers("deepseek_r1", "", thinking, None)
    found = read(parsers, thinking, "two and two<think>is what</think>4")
    assert (found.text, found.tool_calls) == ("4", ())
    assert "is what" in (found.reasoning or "")
    assert parsers.reads_tools is False


def test_thinking_that_is_cut_is_no_answer(thinking):
    found = read(Parsers("deepseek_r1", "", thinking, None), thinking, "<think>two and two")
    assert (found.text, found.reasoning) == ("", "two and two")


def test_calls_of_tools_are_found(thinking):
    parsers = Parsers("", "hermes", thinking, None)
    assert parsers.reads_tools is True
    found = read(parsers, thinking, f"Let me see. {CALL}", TOOL)
    assert [call.name for call in found.tool_calls] == ["add"]
    assert json.loads(found.tool_calls[0].arguments) == {"a": 4}
    assert found.tool_calls[0].id
    assert "tool_call" not in found.text
    assert read(parsers, thinking, "Nothing to call.", TOOL).text == "Nothing to call."


def test_without_parsers_and_for_plain_prompts_answers_stay_as_they_are(thinking):
    ask = Request("s", 0, "completion", "d", prompt="4?")
    assert Parsers("", "", thinking, None).begin(ask, {}) is None
    assert Parsers("deepseek_r1", "", thinking, None).begin(ask, {}) is None


@pytest.mark.parametrize(
    ("reasoning", "tools", "field", "words"),
    [
        ("deepseek_r2", "", "reasoning_parser", "did you mean 'deepseek_r1'?"),
        ("", "hermess", "tool_call_parser", "did you mean 'hermes'?"),
    ],
)
def test_a_parser_that_there_is_not_is_refused_by_name(thinking, reasoning, tools, field, words):
    with pytest.raises(EngineError, match=f"model.args.{field} is ") as caught:
        Parsers(reasoning, tools, thinking, None)
    assert words in caught.value.sentence
    assert caught.value.field == f"model.args.{field}"


def test_a_parser_that_does_not_fit_the_tokenizer_is_refused(tiny):
    with pytest.raises(EngineError, match="does not fit this model"):
        Parsers("deepseek_r1", "", AutoTokenizer.from_pretrained(tiny), None)
