"""Which engine runs the model that a command names, and what of a command then makes no sense."""

import json
from pathlib import Path

import pytest

from evalmesh import TaskConfig
from evalmesh.cli.eval.engines import told_of_kind
from evalmesh.cli.eval.evaluate import place_of
from evalmesh.cli.eval.reuse import differences
from evalmesh.cli.eval.spec import repeating, to_run_spec
from evalmesh.domain.digest import model_identity
from evalmesh.domain.errors import EvalmeshError
from evalmesh.domain.run import ModelSpec, RunSpec
from evalmesh.wire.runs.checks import check_spec


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EVALMESH_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "tokens").mkdir()
    monkeypatch.chdir(tmp_path)


def spec(**given: object) -> RunSpec:
    made = to_run_spec(TaskConfig(**{"datasets": ["gsm8k"], **given}))
    check_spec(made)
    return made


@pytest.mark.parametrize(
    ("given", "engine"),
    [
        ({"model": "ckpt"}, "transformers"),
        ({"model": "./ckpt"}, "transformers"),
        ({"model": "./not-there"}, "transformers"),
        ({"model": "ckpt", "api_url": "http://h/v1"}, "openai"),
        ({"model": "ckpt", "engine": "openai", "api_url": "http://h/v1"}, "openai"),
        ({"model": "ckpt", "eval_type": "service", "api_url": "http://h/v1"}, "openai"),
        ({"model": "org/name", "engine": "transformers"}, "transformers"),
        ({"model": "org/name", "eval_type": "llm_ckpt"}, "transformers"),
        ({"model": "org/name", "eval_type": "checkpoint", "engine": "transformers"}, "transformers"),
        ({"model": "ckpt", "engine": "vllm"}, "vllm"),
    ],
)
def test_the_engine_is_the_one_that_is_said_or_the_one_that_the_model_needs(
    given: dict[str, object], engine: str
) -> None:
    assert spec(**given).model.engine == engine


def test_a_folder_is_run_here_whatever_address_the_environment_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere/v1")
    monkeypatch.setenv("EVALMESH_API_KEY", "key")
    config = TaskConfig(model="ckpt", datasets=["gsm8k"], model_args={"tokenizer": "tokens", "dtype": "auto"})
    made = to_run_spec(config)
    assert made.model.name == str(tmp_path / "ckpt")
    assert made.model.label == "ckpt"
    assert (made.model.url, made.model.key_ref, dict(made.model.headers)) == ("", "", {})
    assert made.model.args == {"tokenizer": str(tmp_path / "tokens"), "dtype": "auto"}
    assert (place_of(config).connections, dict(place_of(config).keys)) == ((), {})
    assert repeating(config, made)["model"] == str(tmp_path / "ckpt")
    check_spec(made)


@pytest.mark.parametrize(
    ("files", "given", "kind"),
    [
        ({}, {}, "chat"),
        ({"tokenizer_config.json": "{}"}, {}, "completion"),
        ({"tokenizer_config.json": "{}"}, {"request_kind": "chat"}, "chat"),
        ({"tokenizer_config.json": "{}"}, {"model_args": {"chat_template": "{{ messages }}"}}, "chat"),
        ({"tokenizer_config.json": "{}", "chat_template.jinja": "x"}, {}, "chat"),
        ({"tokenizer_config.json": '{"chat_template": "x"}'}, {}, "chat"),
        ({"tokenizer_config.json": "no JSON"}, {}, "chat"),
    ],
)
def test_a_model_without_a_chat_template_is_asked_in_plain_text(
    tmp_path: Path, files: dict[str, str], given: dict[str, object], kind: str
) -> None:
    for name, text in files.items():
        (tmp_path / "ckpt" / name).write_text(text)
    assert spec(model="ckpt", **given).model.kind == kind
    told = told_of_kind(dict(TaskConfig(model="ckpt", datasets=["gsm8k"], **given)))
    assert bool(told) == (kind == "completion")


def test_a_folder_in_a_file_is_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "mine").mkdir(parents=True)
    file = tmp_path / "elsewhere" / "run.json"
    file.write_text(json.dumps({"model": "mine", "datasets": ["gsm8k"]}))
    assert to_run_spec(TaskConfig.load(str(file), {})).model.name == str(tmp_path / "elsewhere" / "mine")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"engine": "transformers", "model": "ckpt", "api_url": "http://h/v1"}, ["api_url", "transformers", "itself"]),
        ({"engine": "vllm", "model": "m", "api_key": "env:HOME"}, ["api_key", "vllm", "itself"]),
        ({"model": "./ckpt", "stream": True}, ["stream", "itself"]),
        ({"engine": "openai", "eval_type": "llm_ckpt", "model": "ckpt"}, ["engine", "'openai'", "llm_ckpt"]),
        ({"eval_type": "llm_ckpt"}, ["model", "missing", "folder"]),
        ({"model": "org/name"}, ["api_url", "missing", "--engine transformers"]),
    ],
)
def test_what_contradicts_itself_is_refused_by_its_keys(given: dict[str, object], words: list[str]) -> None:
    with pytest.raises(EvalmeshError) as caught:
        spec(**given)
    assert all(word in caught.value.message for word in words), caught.value.message


def test_answers_are_of_the_weights_and_not_of_the_folder_or_the_number_of_copies() -> None:
    first = ModelSpec("/a", engine="transformers", weights="a" * 64, args={"data_parallel": 2, "dtype": "float16"})
    moved = ModelSpec("/b", engine="transformers", weights="a" * 64, args={"dtype": "float16"})
    trained_on = ModelSpec("/a", engine="transformers", weights="b" * 64, args={"dtype": "float16"})
    assert model_identity(first) == model_identity(moved)
    assert model_identity(moved) != model_identity(trained_on)


def test_what_can_be_copied_is_not_told_by_the_names_of_folders() -> None:
    before, now = spec(model="./ckpt"), spec(model="./tokens", model_args={"devices": [0]})
    assert differences(before, now) == []
    assert differences(before, spec(model="./ckpt", model_args={"dtype": "float16"})) == [
        "model_args is {'dtype': 'float16'}, and was {}"
    ]
