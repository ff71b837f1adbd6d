"""Which call an address names, where the others are, and what goes into a body."""

import pytest

from evalmesh.dialect.addresses import key_header, read_address
from evalmesh.dialect.bodies import merged

AZURE = "https://x.openai.azure.com/openai/deployments/gpt"


@pytest.mark.parametrize(
    ("given", "call", "chat", "completions", "models"),
    [
        ("http://h:1/v1", None, "/v1/chat/completions", "/v1/completions", "/v1/models"),
        ("http://h:1/v1/", None, "/v1/chat/completions", "/v1/completions", "/v1/models"),
        ("http://h:1", None, "/v1/chat/completions", "/v1/completions", "/v1/models"),
        ("http://h:1/", None, "/v1/chat/completions", "/v1/completions", "/v1/models"),
        ("http://h:1/chat/completions", "chat", "/chat/completions", "/completions", "/models"),
        ("http://h:1/v1/chat/completions", "chat", "/v1/chat/completions", "/v1/completions", "/v1/models"),
        ("http://h:1/v1/completions/", "completions", "/v1/chat/completions", "/v1/completions", "/v1/models"),
        ("http://h:1/v1/responses", "responses", "/v1/chat/completions", "/v1/completions", "/v1/models"),
        ("http://h:1/v1/models", None, "/v1/chat/completions", "/v1/completions", "/v1/models"),
        ("http://h:1/a%2Fb/v1#x", None, "/a%2Fb/v1/chat/completions", "/a%2Fb/v1/completions", "/a%2Fb/v1/models"),
    ],
)
def test_of_any_address_all_calls_are_known(given, call, chat, completions, models):
    for query in ("", "?api-version=1&a=/completions"):
        before, mark, fragment = given.partition("#")
        address = read_address(before + query + mark + fragment)
        assert address.call == call
        found = (address.url("chat"), address.url("completions"), address.models_url)
        assert found == tuple(f"http://h:1{path}{query}" for path in (chat, completions, models))


def test_an_ending_stays_as_it_was_given():
    assert read_address("http://h/v1/reranks").url("rerank") == "http://h/v1/reranks"


@pytest.mark.parametrize("ending", ["", "/chat/completions", "/completions"])
def test_a_deployment_on_azure(ending):
    address = read_address(f"{AZURE}{ending}?api-version=2024-10-21")
    assert address.url("chat") == f"{AZURE}/chat/completions?api-version=2024-10-21"
    assert address.models_url == "https://x.openai.azure.com/openai/models?api-version=2024-10-21"
    assert key_header(f"{AZURE}{ending}?api-version=1", "k") == ("api-key", "k")
    assert key_header(f"{AZURE}{ending}", "eyJ0.a.b") == ("Authorization", "Bearer eyJ0.a.b")
    assert key_header("https://x.openai.azure.com/openai/v1", "k") == ("Authorization", "Bearer k")


@pytest.mark.parametrize(
    ("extra", "body"),
    [
        ({}, {"max_tokens": 4, "stream_options": {"include_usage": True}, "temperature": 0}),
        ({"temperature": None}, {"max_tokens": 4, "stream_options": {"include_usage": True}}),
        ({"max_tokens": None, "stream_options": None, "absent": None}, {"temperature": 0}),
        (
            {"stream_options": {"more": 1}, "temperature": 1},
            {"max_tokens": 4, "stream_options": {"include_usage": True, "more": 1}, "temperature": 1},
        ),
        ({"stream_options": {"include_usage": None}}, {"max_tokens": 4, "stream_options": {}, "temperature": 0}),
        (
            {"max_completion_tokens": 9},
            {"max_completion_tokens": 9, "stream_options": {"include_usage": True}, "temperature": 0},
        ),
        (
            {"max_completion_tokens": 9, "max_tokens": 7, "stream_options": None},
            {"max_completion_tokens": 9, "max_tokens": 7, "temperature": 0},
        ),
        ({"max_completion_tokens": None, "stream_options": None}, {"max_tokens": 4, "temperature": 0}),
        (
            {"nested": {"kept": None}, "stream_options": None},
            {"max_tokens": 4, "temperature": 0, "nested": {"kept": None}},
        ),
    ],
)
def test_what_the_user_adds_to_a_body(extra, body):
    base = {"max_tokens": 4, "stream_options": {"include_usage": True}, "temperature": 0}
    assert merged(base, extra) == body
    assert base["stream_options"] == {"include_usage": True}
