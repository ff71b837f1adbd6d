import json
import os
from pathlib import Path

import pytest

from evalmesh import TaskConfig
from evalmesh.cli.eval.evaluate import place_of
from evalmesh.cli.eval.keys import in_own_words
from evalmesh.cli.eval.spec import to_run_spec
from evalmesh.cli.options import parse_options
from evalmesh.domain.connection import origin_of
from evalmesh.domain.errors import InvalidInput, Unimplemented
from evalmesh.domain.request import GenerationConfig
from evalmesh.wire.runs.checks import check_spec

BASE = {"model": "org/my-model", "api_url": "http://h:8000/v1", "datasets": ["gsm8k"]}
SECRET = "sk-live-0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.setenv("EVALMESH_API_KEY", "x")
    for name in ("EVALMESH_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def spec(**changes):
    made = to_run_spec(TaskConfig(**{**BASE, **changes}))
    check_spec(made)
    return made


def test_the_smallest_config():
    made = spec()
    assert (made.model.name, made.model.label, made.model.url) == ("org/my-model", "my-model", "http://h:8000/v1")
    assert [b.name for b in made.benchmarks] == ["gsm8k"]
    assert (made.limit, made.repeats, made.seed, made.dataset_hub) == (None, 1, 42, "modelscope")
    assert made.model.key_ref == ""


def test_evalscope_names_reach_the_spec(tmp_path):
    made = spec(
        model_id="shown",
        eval_type="service",
        eval_batch_size=8,
        limit=0.5,
        repeats=3,
        timeout=30,
        stream=True,
        dataset_hub="huggingface",
        dataset_dir=str(tmp_path),
        generation_config='temperature=0.7,max_tokens=512,top_k=-1,stop_seqs=["a","b"],retries=2',
        dataset_args={
            "gsm8k": {
                "local_path": str(tmp_path / "x.jsonl"),
                "dataset_revision": "v1",
                "subset_list": ["main"],
                "eval_split": "test",
                "train_split": "train",
                "few_shot_num": 4,
                "few_shot_random": False,
                "prompt_template": "{question}",
                "filters": {"remove_until": "</think>"},
                "extra_params": {"k": 1},
                "limit": 7,
            }
        },
    )
    assert made.generation == GenerationConfig(max_tokens=512, temperature=0.7, top_k=-1, stop=("a", "b"))
    model, bench = made.model, made.benchmarks[0]
    assert (model.label, model.concurrency, model.max_tries, model.try_timeout_s, model.stream) == (
        "shown",
        8,
        3,
        30.0,
        True,
    )
    assert (bench.revision, bench.subsets, bench.split, bench.few_shot_split) == ("v1", ("main",), "test", "train")
    assert (bench.few_shot_num, bench.remove_until, bench.limit, dict(bench.extra)) == (4, "</think>", 7, {"k": 1})
    assert (made.limit, made.repeats, made.dataset_hub, made.dataset_dir) == (0.5, 3, "huggingface", str(tmp_path))


def test_transport_options_of_the_generation_config_and_n():
    made = spec(
        generation_config={"timeout": 5, "stream": True, "batch_size": 2, "n": 4, "extra_headers": {"X-A": "b"}}
    )
    assert (made.model.try_timeout_s, made.model.stream, made.model.concurrency, made.repeats) == (5.0, True, 2, 4)
    assert dict(made.model.headers) == {"X-A": "b"}


def test_everyday_options_reach_every_benchmark_and_give_way_to_what_is_said_of_one(tmp_path):
    (tmp_path / "prompt.txt").write_text("Be brief.")
    made = spec(
        datasets=["gsm8k", "arc"],
        max_tokens=50,
        temperature=0.5,
        top_p=0.9,
        generation_config={"max_tokens": 9, "top_k": 3},
        num_fewshot=0,
        system_prompt=f"@{tmp_path}/prompt.txt",
        subset=["arc/ARC-Easy"],
        dataset_args={"gsm8k": {"few_shot_num": 2}},
    )
    assert made.generation == GenerationConfig(max_tokens=50, temperature=0.5, top_p=0.9, top_k=3)
    gsm8k, arc = made.benchmarks
    assert (gsm8k.few_shot_num, gsm8k.system_prompt, gsm8k.subsets) == (2, "Be brief.", None)
    assert (arc.few_shot_num, arc.system_prompt, arc.subsets) == (0, "Be brief.", ("ARC-Easy",))
    assert spec(subset=["main"]).benchmarks[0].subsets == ("main",)


def test_variables_of_openai_count_where_nothing_is_said_and_their_key_goes_home_only(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    nothing = {"model": "m", "datasets": ["gsm8k"]}
    assert to_run_spec(TaskConfig(**BASE)).model.key_ref == ""
    at_home = to_run_spec(TaskConfig(**nothing, api_url="https://api.openai.com/v1"))
    assert at_home.model.key_ref == "env:OPENAI_API_KEY"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://h:8000/v1")
    asked = to_run_spec(TaskConfig(**nothing))
    assert (asked.model.url, asked.model.key_ref) == ("http://h:8000/v1", "env:OPENAI_API_KEY")
    elsewhere = to_run_spec(TaskConfig(**nothing, api_url="http://other:8000/v1"))
    assert (elsewhere.model.url, elsewhere.model.key_ref) == ("http://other:8000/v1", "")
    monkeypatch.setenv("EVALMESH_API_KEY", SECRET)
    assert to_run_spec(TaskConfig(**nothing)).model.key_ref == "env:EVALMESH_API_KEY"


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        ("benchmarks[1].subsets: 'x' is not allowed", "dataset_args.arc.subset_list: 'x' is not allowed"),
        ("benchmarks.arc.few_shot_num = 1 must be 0; name one in few_shot_split", "dataset_args.arc.few_shot_num"),
        ("dataset_args.arc.few_shot_split: there is no such key", "dataset_args.arc.few_shot_split: there"),
        ("model.url: 'x' is not allowed", "api_url: 'x'"),
        ("generation.stop[0]: '' is not allowed", "generation_config.stop_seqs[0]"),
        ("reuse_runs[0]: 'x' is not allowed", "use_cache: 'x'"),
        ("seed: 9 is not allowed", "seed: 9"),
    ],
)
def test_refusals_of_a_spec_are_told_in_the_keys_of_the_config(refused, told):
    assert told in in_own_words(InvalidInput(refused), ["gsm8k", "arc"]).message


@pytest.mark.parametrize(
    ("url", "base", "kind"),
    [
        ("http://h/v1/chat/completions", "http://h/v1", "chat"),
        ("http://h/v1/completions/", "http://h/v1", "completion"),
        ("http://h/v1/", "http://h/v1", "chat"),
        ("http://h/v1/?a=/completions", "http://h/v1?a=/completions", "chat"),
        ("http://h/d/x/completions?api-version=1", "http://h/d/x?api-version=1", "completion"),
        ("http://h/d/x/completions/?api-version=1", "http://h/d/x?api-version=1", "completion"),
        ("http://h/d/x/chat/completions?api-version=1", "http://h/d/x?api-version=1", "chat"),
    ],
)
def test_full_addresses_are_understood(url, base, kind):
    made = spec(api_url=url)
    assert (made.model.url, made.model.kind) == (base, kind)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"modle": "x"}, ["modle", "'model'"]),
        ({"dataset": ["gsm8k"]}, ["dataset", "'datasets'"]),
        ({"limit": "many"}, ["limit", "'many'", "0.1"]),
        ({"repeats": "two"}, ["repeats", "'two'", "whole number"]),
        ({"repeats": 0}, ["repeats", "0"]),
        ({"repeats": True}, ["repeats", "True", "number"]),
        ({"timeout": False}, ["timeout", "False", "number"]),
        ({"timeout": -1}, ["timeout", "-1"]),
        ({"dataset_hub": "hugginface"}, ["dataset_hub", "'hugginface'", "huggingface"]),
        ({"dataset_args": {"gsm": {}}}, ["dataset_args.gsm", "'gsm8k'"]),
        ({"dataset_args": "{broken"}, ["dataset_args", "JSON"]),
        ({"rerun_review": True}, ["rerun_review", "use_cache"]),
        ({"ignore_errors": True, "on_error": "fail"}, ["ignore_errors", "on_error"]),
        ({"generation_config": {"temprature": 1}}, ["generation_config.temprature", "'temperature'"]),
        ({"generation_config": {"max_tokens": "many"}}, ["generation_config.max_tokens", "'many'", "whole number"]),
        ({"generation_config": "temperature"}, ["generation_config", "key=value"]),
        ({"dataset_args": {"gsm8k": {"few_shots": 1}}}, ["dataset_args.gsm8k.few_shots", "'few_shot_num'"]),
        ({"dataset_args": {"gsm8k": {"filters": {"remove": "x"}}}}, ["filters.remove", "'remove_until'"]),
        ({"model": None}, ["model", "--model"]),
        ({"model": 405}, ["model: 405", "in quotes"]),
        ({"model": True}, ["model: True is no text", "in quotes"]),
        ({"api_url": None}, ["api_url", "--api-url", "--demo"]),
        ({"datasets": []}, ["benchmarks", "--datasets"]),
    ],
)
def test_wrong_input_names_field_value_and_way_out(values, words):
    with pytest.raises(InvalidInput) as caught:
        spec(**values)
    assert all(word in caught.value.message for word in words), caught.value.message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"eval_type": "image_editing"}, ["image_editing", "llm_ckpt"]),
        ({"eval_backend": "OpenCompass"}, ["eval_backend", "native"]),
        ({"judge_strategy": "llm"}, ["judge_strategy", "rule"]),
        ({"generation_config": {"max_new_tokens": 5}}, ["max_new_tokens", "max_tokens"]),
        ({"generation_config": {"chat_template_kwargs": {}}}, ["extra_body"]),
        ({"dataset_args": {"gsm8k": {"metric_list": ["acc"]}}}, ["metric_list", "definition"]),
        ({"dataset_args": {"gsm8k": {"filters": {"regex": "x"}}}}, ["regex", "remove_until"]),
        ({"model": object()}, ["model", "api_url"]),
    ],
)
def test_what_evalscope_has_and_we_have_not_says_so(values, words):
    with pytest.raises(Unimplemented) as caught:
        spec(**values)
    assert all(word in caught.value.message for word in words), caught.value.message


def test_foreign_keys_that_ask_for_nothing_pass():
    spec(eval_backend="Native", judge_strategy="auto", analysis_report=False, evalscope_version="1.2", mem_cache=True)


def test_a_literal_key_is_in_no_environment_and_bound_to_the_address():
    config = TaskConfig(**BASE, api_key=SECRET)
    made = to_run_spec(config)
    assert made.model.key_ref == "env:EVALMESH_API_KEY"
    assert SECRET not in os.environ.values()
    place = place_of(config)
    assert place.keys == {"EVALMESH_API_KEY": SECRET}
    (own,) = place.connections
    assert own.references == {made.model.key_ref}
    assert own.covers(origin_of(made.model.url))
    assert not own.covers(origin_of("http://elsewhere/v1"))
    assert SECRET not in repr(place) + repr(place.settings())
    assert SECRET not in repr(made) + repr(config) + str(config) + config.model_dump_json()


def test_references_pass_and_empty_means_none(monkeypatch):
    monkeypatch.setenv("MY_KEY", "x")
    assert spec(api_key="env:MY_KEY").model.key_ref == "env:MY_KEY"
    assert spec(api_key="secret:team/key").model.key_ref == "secret:team/key"
    monkeypatch.setenv("EVALMESH_API_KEY", "x")
    assert spec().model.key_ref == "env:EVALMESH_API_KEY"
    assert spec(api_key="EMPTY").model.key_ref == ""
    assert spec(server="h:1").model.key_ref == ""
    with pytest.raises(InvalidInput, match="MISSING_KEY"):
        spec(api_key="env:MISSING_KEY")


@pytest.mark.parametrize("values", [{"server": "h:1", "api_key": SECRET}, {"api_kye": SECRET}, {"api_key": [SECRET]}])
def test_no_error_repeats_a_key(values):
    with pytest.raises(InvalidInput) as caught:
        spec(**values)
    assert SECRET not in caught.value.message + str(caught.value.details)


def test_every_form_of_config_gives_the_same(tmp_path):
    as_yaml, as_json = tmp_path / "c.yaml", tmp_path / "c.json"
    as_yaml.write_text("model: org/my-model\napi_url: http://h:8000/v1\ndatasets: [gsm8k]\nlimit: 5\n")
    as_json.write_text(json.dumps({**BASE, "limit": 5}))
    forms = [as_yaml, str(as_json), {**BASE, "limit": 5}, TaskConfig(**BASE, limit=5)]
    assert len({repr(to_run_spec(TaskConfig.of(form))) for form in forms}) == 1


def test_flags_win_over_the_file_key_by_key(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("model: a\nlimit: 5\ngeneration_config: {temperature: 1, max_tokens: 9}\n")
    config = TaskConfig.load(str(file), {"limit": "0.25", "generation_config": "temperature=0"})
    assert (config.model, config.limit) == ("a", 0.25)
    assert config.generation_config == {"temperature": 0, "max_tokens": 9}


def test_a_changed_config_is_checked_again():
    config = TaskConfig(**BASE)
    config.repeats = -3
    with pytest.raises(InvalidInput, match="repeats"):
        TaskConfig.of(config)


@pytest.mark.parametrize(
    ("text", "words"),
    [("model: [", "line"), ("- a\n- b\n", "mapping"), ("modl: x\n", "'model'")],
)
def test_files_that_are_wrong(tmp_path, text, words):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=words):
        TaskConfig.of(file)
    with pytest.raises(InvalidInput, match=r"nothere\.yaml"):
        TaskConfig.of(tmp_path / "nothere.yaml")


def test_options_as_people_type_them():
    assert parse_options("a=1,b=true,c=0.5,d=x y,e=None", "f") == {"a": 1, "b": True, "c": 0.5, "d": "x y", "e": None}
    assert parse_options('stop=["a","b"],x={"y": 1}', "f") == {"stop": ["a", "b"], "x": {"y": 1}}
    assert parse_options('{"a": {"b": 1}}', "f") == {"a": {"b": 1}}


def test_local_paths_become_absolute_here_and_stay_for_a_server():
    args = {"gsm8k": {"local_path": "data/x.jsonl"}}
    assert spec(dataset_args=args).benchmarks[0].local_path == str(Path("data/x.jsonl").absolute())
    assert spec(dataset_args=args, server="h:1").benchmarks[0].local_path == "data/x.jsonl"


@pytest.mark.parametrize("given", ["gsm8k arc", "gsm8k,arc", ["gsm8k,arc"], ["gsm8k", "arc"], ["gsm8k,", "arc"]])
def test_datasets_in_every_form_people_type(given):
    assert TaskConfig(datasets=given).datasets == ["gsm8k", "arc"]


def test_the_clients_words_travel_with_the_spec_and_ask_for_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("MY_KEY", "x")
    (tmp_path / "x.jsonl").write_text("{}\n")
    made = spec(
        api_key="env:MY_KEY",
        limit="0.5",
        dataset_args={"gsm8k": {"local_path": str(tmp_path / "x.jsonl"), "few_shot_num": 0}},
        generation_config={"temperature": 0.5, "extra_headers": {"X-Team": "env:MY_KEY"}},
        labels={"team": "a"},
    )
    assert spec(**json.loads(made.client_config)) == made
    assert list(json.loads(made.client_config)) != []


def test_no_key_travels_with_the_clients_words():
    made = spec(
        api_key=SECRET,
        generation_config={"extra_headers": {"X-Team": SECRET}},
        dataset_args={"gsm8k": {"extra_params": {"api_key_of_mine": SECRET}}},
        work_dir="somewhere",
    )
    assert SECRET not in made.client_config
    assert json.loads(made.client_config)["api_key"] == "env:EVALMESH_API_KEY"
    assert "somewhere" not in made.client_config


def test_words_that_are_too_long_to_travel_are_left_out():
    assert spec(dataset_args={"gsm8k": {"system_prompt": "x" * 70_000}}).client_config == ""
