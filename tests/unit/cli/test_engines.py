"""Which API an endpoint speaks, as a command line says it, and where its key goes."""

import pytest

from evalmesh import TaskConfig
from evalmesh.cli.eval.spec import declared, to_run_spec
from evalmesh.domain.errors import InvalidInput
from evalmesh.wire.runs.checks import check_spec

ANTHROPIC = "https://api.anthropic.com"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    for name in ("EVALMESH_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def model(**given):
    spec = to_run_spec(TaskConfig(**{"model": "m", "datasets": ["gsm8k"], **given}))
    check_spec(spec)
    return spec.model


@pytest.mark.parametrize(
    ("given", "engine", "url"),
    [
        ({"api_url": "http://h:8000/v1"}, "openai", "http://h:8000/v1"),
        ({"api_url": "http://h:8000/v1/messages"}, "anthropic", "http://h:8000/v1/messages"),
        ({"api_url": ANTHROPIC, "engine": "anthropic"}, "anthropic", f"{ANTHROPIC}/v1"),
        ({"api_url": f"{ANTHROPIC}/v1", "engine": "anthropic"}, "anthropic", f"{ANTHROPIC}/v1"),
        ({"api_url": "http://h:8000/v1/messages", "engine": "openai"}, "openai", "http://h:8000/v1/messages"),
        ({"engine": "litellm", "model": "groq/llama"}, "litellm", ""),
        ({"engine": "litellm", "model": "openai/m", "api_url": "http://h:1"}, "litellm", "http://h:1"),
    ],
)
def test_the_engine_is_said_or_follows_from_the_address(given, engine, url):
    made = model(**given)
    assert (made.engine, made.url, made.kind) == (engine, url, "chat")


def test_anthropics_key_goes_home_only(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-1234")
    assert model(api_url=ANTHROPIC, engine="anthropic").key_ref == "env:ANTHROPIC_API_KEY"
    assert model(api_url="http://h:8000", engine="anthropic").key_ref == ""
    monkeypatch.setenv("EVALMESH_API_KEY", "mine")
    assert model(api_url=ANTHROPIC, engine="anthropic").key_ref == "env:EVALMESH_API_KEY"


def test_a_key_for_litellm_is_bound_to_its_provider_or_its_address(monkeypatch):
    monkeypatch.setenv("KEY", "x1234")
    given = {"datasets": ["gsm8k"], "engine": "litellm", "api_key": "env:KEY"}
    [own] = declared(TaskConfig(model="groq/llama", **given))
    assert (own.hosts, own.key_ref) == (("https://groq.litellm",), "env:KEY")
    [own] = declared(TaskConfig(model="openai/m", api_url="http://h:1/v1", **given))
    assert own.hosts == ("http://h:1",)


def test_other_engines_need_an_address():
    with pytest.raises(InvalidInput, match="api_url: missing"):
        model(engine="anthropic")
    with pytest.raises(InvalidInput, match=r"images, and evaluations ask for text"):
        model(api_url="http://h:8000/v1/images/generations")
