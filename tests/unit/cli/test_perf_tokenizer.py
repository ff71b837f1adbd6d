"""Finding a model's tokenizer on this machine."""

import json

import pytest

from evalmesh.cli.perf.config import PerfConfig
from evalmesh.cli.perf.spec import local_files, resolve
from evalmesh.cli.perf.tokenizer import find_tokenizer, pack_tokenizer
from evalmesh.domain.errors import InvalidInput


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    monkeypatch.setenv("HF_HUB_CACHE", "x")
    monkeypatch.delenv("HF_HUB_CACHE")
    return tmp_path


def model(folder, **files):
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text('{"model": {}}')
    for name, text in files.items():
        (folder / name.replace("_dot_", ".")).write_text(text)
    return folder


def test_a_folder_or_its_file(tmp_path):
    folder = model(tmp_path / "qwen")
    assert find_tokenizer(str(folder)) == find_tokenizer(str(folder / "tokenizer.json")) == folder


def test_only_what_is_needed_is_packed_and_always_alike(tmp_path):
    folder = model(tmp_path / "qwen", chat_template_dot_jinja="{{ messages }}", model_dot_safetensors="weights")
    packed = pack_tokenizer(folder)
    assert json.loads(packed) == {"tokenizer.json": '{"model": {}}', "chat_template.jinja": "{{ messages }}"}
    assert pack_tokenizer(folder) == packed


def test_a_hub_id_is_looked_up_in_both_caches(caches):
    base = caches / "hf" / "hub" / "models--org--qwen"
    model(base / "snapshots" / "aaa")
    newest = model(base / "snapshots" / "bbb")
    (base / "refs").mkdir()
    (base / "refs" / "main").write_text("bbb")
    assert find_tokenizer("org/qwen") == newest
    there = model(caches / "ms" / "models" / "org" / "qwen2___5")
    assert find_tokenizer("org/qwen2.5") == there


def test_what_is_not_here_is_not_downloaded(tmp_path):
    with pytest.raises(InvalidInput, match="Nothing is downloaded"):
        find_tokenizer("org/absent")
    with pytest.raises(InvalidInput, match=r"is no folder with a tokenizer\.json"):
        find_tokenizer("./absent")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "vocab.txt").write_text("a")
    with pytest.raises(InvalidInput, match="save_pretrained"):
        find_tokenizer(str(tmp_path / "old"))


def test_a_model_folder_is_its_own_tokenizer(tmp_path):
    folder = model(tmp_path / "qwen")
    config = PerfConfig(url="http://h/v1", model=str(folder))
    assert local_files(config).tokenizer == folder
    made = resolve(config)
    assert made.target.model == str(folder)
    assert made.prompts.tokenizer_digest
    assert local_files(PerfConfig(url="http://h/v1", model="qwen")).tokenizer is None


def test_token_ids_go_to_completions(tmp_path):
    folder = model(tmp_path / "qwen")
    config = PerfConfig(url="http://h/v1/chat/completions", model="m", tokenizer_path=str(folder), tokenize_prompt=True)
    made = resolve(config)
    assert (made.target.url, made.target.api) == ("http://h/v1/completions", "completions")
    assert made.prompts.tokenize
