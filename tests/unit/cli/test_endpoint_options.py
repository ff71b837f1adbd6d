"""How a command line says where a model is and what goes there: addresses, headers, certificates, keys left out."""

import json

import pytest

from evalmesh import TaskConfig
from evalmesh.cli.connections import keys_again
from evalmesh.cli.eval.evaluate import place_of, resolve
from evalmesh.cli.eval.keys import told_in_keys
from evalmesh.cli.flags import build_parser
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.cli.perf.spec import resolve as resolve_perf
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.request import GenerationConfig

BASE = {"model": "m", "api_url": "http://h:8000/v1", "datasets": ["gsm8k"]}
SECRET = "topsecretvalue"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.setenv("EVALMESH_API_KEY", "x")
    monkeypatch.delenv("EVALMESH_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def made(**changes):
    return resolve(TaskConfig(**{**BASE, **changes}))[1]


def load_test(**changes):
    return resolve_perf(PerfConfig(url="http://h:8000/v1/chat/completions", model="m", prompt="x", **changes))


def refusal(**changes):
    with pytest.raises(InvalidInput) as caught, told_in_keys(["gsm8k"]):
        made(**changes)
    return caught.value


@pytest.mark.parametrize(
    ("words", "headers"),
    [
        (["--header", "A=1"], {"A": "1"}),
        (["--header", "A=1", "--header", "B: 2=3"], {"A": "1", "B": "2=3"}),
        (["--headers", "A=1", "B=x:y", "--header", "A=2"], {"A": "2", "B": "x:y"}),
    ],
)
def test_both_commands_take_headers_in_the_same_ways(words, headers):
    for command, config in (("eval", TaskConfig), ("perf", PerfConfig)):
        given = vars(build_parser([command, *words]).parse_args([command, *words]))["headers"]
        assert config(headers=given).headers == headers
        assert config(headers=headers).headers == headers
        assert config(headers=json.dumps(headers)).headers == headers


@pytest.mark.parametrize("given", ["nothing", ["A=1", "x"], ["=x"], [7]])
def test_what_is_no_header_is_refused_without_its_text(given):
    for config in (TaskConfig, PerfConfig):
        with pytest.raises(InvalidInput, match=r"headers: the value \(withheld\).*NAME=VALUE"):
            config(headers=given)


@pytest.mark.parametrize("name", ["X-Api-Key", "X-Team", "Ocp-Apim-Subscription-Key", "Cookie", "X-Auth"])
def test_what_may_be_a_key_is_in_no_spec(name):
    variable = "EVALMESH_HEADER_" + name.upper().replace("-", "_")
    spec, test = made(headers={name: SECRET}), load_test(headers={name: SECRET})
    assert dict(spec.model.headers) == dict(test.target.headers) == {name: f"env:{variable}"}
    assert SECRET not in f"{spec}{test}"
    place = place_of(TaskConfig(**BASE, headers={name: SECRET}))
    assert place.keys == {variable: SECRET}
    assert [(one.hosts, dict(one.headers)) for one in place.connections] == [
        (("http://h:8000",), {name: f"env:{variable}"})
    ]


def test_what_is_plainly_none_stays_and_a_bearer_token_is_the_key():
    given = {
        "OpenAI-Organization": "org-of-mine-2",
        "X-Team": "a",
        "X-Org": "env:ORG",
        "Authorization": f"Bearer {SECRET}",
    }
    spec = made(headers=given)
    assert dict(spec.model.headers) == {"OpenAI-Organization": "org-of-mine-2", "X-Team": "a", "X-Org": "env:ORG"}
    assert spec.model.key_ref == "env:EVALMESH_API_KEY"
    assert place_of(TaskConfig(**BASE, headers=given)).keys == {"EVALMESH_API_KEY": SECRET}


def test_headers_win_over_those_of_the_generation_config():
    spec = made(headers={"A": "1"}, generation_config={"extra_headers": {"A": "0", "B": "2", "C": SECRET}})
    assert dict(spec.model.headers) == {"A": "1", "B": "2", "C": "env:EVALMESH_HEADER_C"}
    assert SECRET not in spec.client_config


def test_a_key_in_a_header_is_never_sent_to_a_server():
    found = refusal(headers={"X-Token": SECRET}, server="h:1")
    assert found.details["field"] == "headers.X-Token"
    assert SECRET not in found.message
    assert dict(made(headers={"X-Team": "a-team"}, server="h:1").model.headers) == {"X-Team": "a-team"}


def test_a_run_that_is_taken_up_again_asks_for_its_keys(monkeypatch):
    model = made(headers={"X-Team": SECRET}).model
    with pytest.raises(InvalidInput, match=r"EVALMESH_HEADER_X_TEAM, or give --header X-Team=VALUE"):
        keys_again("r", model, None, [])
    assert keys_again("r", model, None, [f"X-Team={SECRET}"]) == {"EVALMESH_HEADER_X_TEAM": SECRET}
    monkeypatch.setenv("EVALMESH_HEADER_X_TEAM", SECRET)
    assert keys_again("r", model, None, []) == {}


@pytest.mark.parametrize(
    ("url", "base", "kind"),
    [
        ("http://h:8000", "http://h:8000/v1", "chat"),
        ("http://h:8000/chat/completions", "http://h:8000/chat/completions", "chat"),
        ("http://h/v1/responses?a=1", "http://h/v1/responses?a=1", "chat"),
        ("https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=1",
         "https://x.openai.azure.com/openai/deployments/d?api-version=1", "chat"),
    ],
)  # fmt: skip
def test_addresses(url, base, kind):
    model = made(api_url=url).model
    assert (model.url, model.kind) == (base, kind)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:8000", "http address"),
        ("ftp://h/v1", "http address"),
        ("http://h:99999/v1", "port"),
        ("http://h/v1/embeddings", "embeddings"),
        ("http://me:pw@h/v1", "user or password"),
        ("http://h/v1?api_key=12345", "withheld"),
    ],
)
def test_an_address_that_is_none_is_refused_by_the_name_of_its_flag(url, words):
    found = refusal(api_url=url)
    assert found.message.startswith("api_url: ")
    assert words in found.message
    assert found.details["field"] == "api_url"
    assert "model." not in found.message
    assert "pw" not in found.message.replace("password", "")


def test_null_removes_what_the_benchmark_says():
    generation = made(generation_config={"max_tokens": None, "temperature": None, "top_logprobs": None}).generation
    assert generation == GenerationConfig(extra_body={"max_tokens": None, "temperature": None, "logprobs": None})
    newer = made(generation_config={"max_completion_tokens": 9, "extra_body": {"seed": None}}).generation
    assert newer == GenerationConfig(extra_body={"max_completion_tokens": 9, "seed": None})
    with pytest.raises(InvalidInput, match=r"generation_config\.max_completion_tokens"):
        made(generation_config={"max_completion_tokens": "many"})


@pytest.mark.parametrize("limit", [{"max_completion_tokens": 9}, {"max_tokens": None}, {"max_tokens": 9}])
def test_a_limit_among_the_extra_arguments_is_the_only_one(limit):
    assert load_test(extra_args=limit).prompts.output_tokens is None


def test_certificates(tmp_path, monkeypatch):
    (tmp_path / "ca.pem").write_text("x")
    monkeypatch.chdir(tmp_path)
    model = made(ca_file="ca.pem", insecure=True).model
    assert (model.ca_file, model.verify_tls) == (str(tmp_path / "ca.pem"), False)
    assert refusal(ca_file="nowhere.pem").details["field"] == "ca_file"
    assert made(ca_file="/theirs.pem", server="h:1").model.ca_file == "/theirs.pem"


def test_an_api_that_nobody_brings_is_refused_with_the_names_that_are_typed(tmp_path):
    from evalmesh.cli.perf.run import place_of as place_of_perf  # noqa: PLC0415

    with pytest.raises(
        InvalidInput, match=r"api: there is none named 'nope'.*openai_chat, openai_completions"
    ) as caught:
        place_of_perf(PerfConfig(api="nope", model="m", work_dir=str(tmp_path)))
    assert caught.value.details["field"] == "api"
