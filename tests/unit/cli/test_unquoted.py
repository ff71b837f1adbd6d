"""What YAML takes for a date, a time, a number or a truth, where a text is meant."""

import pytest

from evalmesh import InvalidInput, TaskConfig
from evalmesh.cli.eval.spec import to_run_spec
from evalmesh.cli.perf.config import PerfConfig

WORDS = {
    "2024-01-01": "2024-01-01", "2024-01-01 10:00:00": "2024-01-01 10:00:00", "12:30": "750", "7": "7", "1.10": "1.1",
    "yes": "True",
}  # fmt: skip
OF_EVAL = [
    "model", "model_id", "api_url", "name", "system_prompt", "dataset_dir", "use_cache", "server", "work_dir",
    "labels.team", "dataset_args.general_mcq.local_path", "dataset_args.general_mcq.columns.question",
    "generation_config.stop_seqs", "generation_config.reasoning_effort",
]  # fmt: skip
OF_PERF = ["model", "name", "alias", "url", "dataset_path", "prompt", "labels.team", "slo", "tokenizer_path", "dataset"]
LISTS = [("eval", "datasets"), ("eval", "subset"), ("eval", "dataset_args.general_mcq.subset_list"), ("perf", "stop")]


def refusal(tmp_path, kind, key, word):
    base = {"model": "m", "api_url": "http://h/v1", "datasets": "general_mcq"} if kind == "eval" else {}
    *outer, last = key.split(".")
    lines = [f"{name}: {value}" for name, value in base.items() if name != key]
    lines += [f"{' ' * depth}{name}:" for depth, name in enumerate(outer)] + [f"{' ' * len(outer)}{last}: {word}"]
    (tmp_path / "run.yaml").write_text("\n".join(lines) + "\n")
    read = (
        (lambda file: to_run_spec(TaskConfig.load(file, {})))
        if kind == "eval"
        else (lambda file: PerfConfig.load(file, {}))
    )
    with pytest.raises(InvalidInput) as caught:
        read(str(tmp_path / "run.yaml"))
    return str(caught.value)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(
    ("kind", "key"), [*(("eval", key) for key in OF_EVAL), *(("perf", key) for key in OF_PERF)], ids=".".join
)
def test_the_key_is_named_and_told_to_be_quoted(tmp_path, kind, key, word):
    said = refusal(tmp_path, kind, key, word)
    assert said.startswith(f"{key}: {WORDS[word]} is no text but")
    assert "put it in quotes" in said


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(("kind", "key"), LISTS)
def test_so_is_one_of_a_list(tmp_path, kind, key, word):
    assert "put it in quotes" in refusal(tmp_path, kind, key, f"[{word}]")


def test_keys_are_withheld(tmp_path):
    for key in ("api_key", "headers.X-Key"):
        said = refusal(tmp_path, "eval", key, "20240101")
        assert "20240101" not in said
        assert "put it in quotes" in said


def test_in_quotes_it_is_the_text(tmp_path):
    (tmp_path / "run.yaml").write_text("model: '2024-01-01'\nlabels: {v: '1.10'}\n")
    config = TaskConfig.load(str(tmp_path / "run.yaml"), {})
    assert (config.model, config.labels) == ("2024-01-01", {"v": "1.10"})
