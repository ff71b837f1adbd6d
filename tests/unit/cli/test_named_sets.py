"""Benchmarks as people name them, and the files that configs name."""

import json

import pytest

from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.datasets import read_set
from evalmesh.cli.eval.keys import told_in_keys
from evalmesh.cli.eval.spec import to_run_spec
from evalmesh.cli.flags import parse
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.row_form import RowForm
from evalmesh.wire.runs.checks import check_spec
from evalmesh.wire.runs.specs import spec_from_proto, spec_to_proto


def spec_of(*datasets, **values):
    return to_run_spec(TaskConfig(model="m", api_url="http://127.0.0.1:1/v1", datasets=list(datasets), **values))


def test_sets_are_named_by_benchmark_name_and_path():
    spec = spec_of("gsm8k", "law=general_mcq:/data/a, b.csv", "general_qa:/data/faq=1.jsonl", "arc,mmlu")
    check_spec(spec)
    assert [(one.name, one.kind, one.local_path) for one in spec.benchmarks] == [
        ("gsm8k", "gsm8k", None),
        ("law", "general_mcq", "/data/a, b.csv"),
        ("general_qa", "general_qa", "/data/faq=1.jsonl"),
        ("arc", "arc", None),
        ("mmlu", "mmlu", None),
    ]
    assert spec_from_proto(spec_to_proto(spec)) == spec


def test_dataset_args_say_what_a_name_stands_for_and_how_its_file_is_read():
    form = {"columns": {"question": "frage"}, "encoding": "gbk", "delimiter": "\t"}
    said = {"benchmark": "general_mcq", "local_path": "/law.csv", **form, "delimiter": "tab"}
    spec = spec_of("law", dataset_args={"law": said})
    (one,) = spec.benchmarks
    assert (one.name, one.kind, one.form) == ("law", "general_mcq", RowForm(**form))
    assert spec_from_proto(spec_to_proto(spec)) == spec


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("=general_mcq", "write NAME"),
        ("law=", "write NAME"),
        ("a=b=c", "write NAME"),
        (":x.csv", "write NAME"),
        ("Law=general_mcq", "'Law' is no name"),
        ("../x=general_mcq", "'../x' is no name"),
        ("gsm8k=general_mcq", "'gsm8k' is a benchmark itself"),
        ("GSM8K", "'GSM8K' is no benchmark. Did you mean 'gsm8k'?"),
        ("x=General MCQ:x.csv", "'General MCQ' is no benchmark. Did you mean 'general_mcq'?"),
    ],
)
def test_a_name_that_is_none_is_refused(text, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        read_set(text)


@pytest.mark.parametrize(
    ("datasets", "args", "complaint"),
    [
        (["law=general_mcq:a.csv"], {"law": {"local_path": "b.csv"}}, "datasets name 'a.csv'; say it once"),
        (["law=general_mcq"], {"law": {"benchmark": "general_qa"}}, "say it once"),
        (["law=general_mcq"], {"general_mcq": {"limit": 1}}, "'general_mcq' is not among the datasets of this run"),
        (["general_mcq"], {"general_mcq": {"columns": "question"}}, "columns"),
        (["general_mcq"], {"general_mcq": {"columns": {"question": 3}}}, "columns"),
        (["general_mcq"], {"general_mcq": {"encoding": "klingon"}}, "encoding: 'klingon' is no encoding of text"),
        (["general_mcq"], {"general_mcq": {"delimiter": ";;"}}, "delimiter: ';;' is not allowed"),
        (["general_mcq"], {"general_mcq": {"colums": {}}}, "Did you mean 'columns'"),
    ],
)
def test_wishes_that_contradict_each_other_are_refused_by_key(datasets, args, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        spec_of(*datasets, dataset_args=args)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("benchmarks[1].subsets: 'x' is wrong.", "dataset_args.law.subset_list: 'x' is wrong."),
        ("benchmarks.law.few_shot_split = 'x' is wrong.", "dataset_args.law.train_split = 'x' is wrong."),
        ("benchmarks[0].benchmark: 'X' is wrong.", "datasets: 'X' is wrong."),
        ("nothing of it", "nothing of it"),
    ],
)
def test_refusals_are_told_in_the_keys_that_were_typed(said, told):
    with pytest.raises(InvalidInput) as caught, told_in_keys(["gsm8k", "law"]):
        raise InvalidInput(said, {"field": said.partition(":")[0]})
    assert caught.value.message == told


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_paths_of_a_config_file_are_relative_to_it(tmp_path, form):
    values = {
        "model": "m",
        "api_url": "http://127.0.0.1:1/v1",
        "dataset_dir": "data",
        "datasets": ["law", "tax=general_mcq:tax.csv", "faq=general_qa:/faq.csv"],
        "dataset_args": {"law": {"benchmark": "general_mcq", "local_path": "law.csv"}},
    }
    path = tmp_path / f"run.{form}"
    path.write_text(json.dumps(values))
    spec = to_run_spec(TaskConfig.load(str(path), {}))
    assert [one.local_path for one in spec.benchmarks] == [
        str(tmp_path / "law.csv"),
        str(tmp_path / "tax.csv"),
        "/faq.csv",
    ]
    assert spec.dataset_dir == str(tmp_path / "data")
    elsewhere = to_run_spec(TaskConfig.load(str(path), {"server": "h:1"}))
    assert [one.local_path for one in elsewhere.benchmarks] == ["law.csv", "tax.csv", "/faq.csv"]
    path.write_text(json.dumps({"dataset_path": "prompts.jsonl", "url": "http://h/v1", "model": "m"}))
    assert PerfConfig.load(str(path), {}).dataset_path == str(tmp_path / "prompts.jsonl")


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("a.yaml", "model: m\nlimit: 1\nmodel: n\n", "line 3, column 1"),
        ("b.yaml", "dataset_args:\n  gsm8k: {limit: 1, limit: 2}\n", "line 2, column 21"),
        ("c.json", '{"model": "m", "model": "n"}', "the key 'model' is there a second time"),
    ],
)
def test_a_key_that_is_written_twice_is_refused(tmp_path, name, text, where):
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput, match=where) as caught:
        TaskConfig.load(str(tmp_path / name), {})
    assert "is there a second time" in caught.value.message


@pytest.mark.parametrize(
    "words",
    [
        ["benchmarks", "preview", "starter_math", "--samples", "0"],
        ["benchmarks", "preview", "starter_math", "--samples", "-2"],
        ["benchmarks", "preview", "starter_math", "--samples", "101"],
        ["runs", "list", "--limit", "-1"],
        ["runs", "list", "--limit", "0"],
        ["runs", "list", "--limit", "many"],
        ["perf", "list", "--limit", "0"],
        ["perf", "preview", "--count", "0"],
        ["perf", "preview", "--count", "-1"],
        ["perf", "preview", "--count", "50"],
    ],
)
def test_a_count_out_of_bounds_is_refused(words, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(words)
    assert caught.value.code == 2
    assert f"{words[-1]!r} is not allowed; give a whole number" in capsys.readouterr().err


def test_paths_of_a_projects_options_are_relative_to_their_file(tmp_path, monkeypatch):
    (tmp_path / "evalmesh.yaml").write_text("eval: {dataset_dir: data}\nperf: {dataset_path: prompts.jsonl}\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    assert TaskConfig.load(None, {}).dataset_dir == str(tmp_path / "data")
    assert PerfConfig.load(None, {"url": "http://h/v1", "model": "m"}).dataset_path == str(tmp_path / "prompts.jsonl")
    assert TaskConfig.load(None, {"dataset_dir": "other"}).dataset_dir == "other"
