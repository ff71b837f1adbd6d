"""`evalmesh score` gives real outputs of real models the figures that tests/unit/test_reference_outputs.py derives."""

import gzip
import json
from pathlib import Path

import pytest
from tests.kit.cli import evalmesh, report_in

pytestmark = [pytest.mark.shared_data, pytest.mark.timeout(120)]

N_TEST = 1319


def texts_of(folder: Path, source: str) -> dict[int, str]:
    """Completions by row of the test split: `file` or `file:model`."""
    name, _, model = source.partition(":")
    if name.endswith(".gz"):
        with gzip.open(folder / name, "rt") as lines:
            return {row["idx"]: row["code"][-1] for row in map(json.loads, lines)}
    with (folder / name).open() as lines:
        return {index: row[model]["solution"] for index, row in enumerate(map(json.loads, lines))}


@pytest.mark.parametrize(
    ("source", "n_right"),
    [
        ("ref_example_model_solutions.jsonl:6b_finetuning", 286),
        ("ref_example_model_solutions.jsonl:6b_verification", 515),
        ("ref_example_model_solutions.jsonl:175b_finetuning", 458),
        ("ref_example_model_solutions.jsonl:175b_verification", 742),
        ("ref_rho-math-1b-v0.1.jsonl.gz", 477),
        ("ref_rho-math-7b-interpreter-v0.1.jsonl.gz", 1070),
        ("ref_tora-code-34b-v1.0.jsonl.gz", 1062),
    ],
)
def test_published_gsm8k_outputs_get_their_figures(shared_data, tmp_path, source, n_right):
    texts = texts_of(shared_data / "gsm8k", source)
    file = tmp_path / "completions.jsonl"
    # The order of the rows must not matter: each names the question it answers.
    rows = sorted(texts.items(), key=lambda item: item[0] * 7919 % N_TEST)
    file.write_text("".join(json.dumps({"index": index, "text": text}) + "\n" for index, text in rows))
    done = evalmesh(
        "score",
        "--dataset",
        "gsm8k",
        "--completions",
        file,
        "--dataset-dir",
        shared_data,
        "--no-timestamp",
        cwd=tmp_path,
    )
    assert (done.returncode, done.quiet) == (0, True), done.stderr
    metric = report_in(tmp_path / "outputs")["benchmarks"][0]["metrics"][0]
    assert (metric["n_scored"], metric["n_errored"], metric["n_unscored"]) == (N_TEST, 0, 0)
    assert round(metric["value"] * N_TEST, 6) == n_right


def test_a_completion_that_is_not_there_is_an_errored_sample(shared_data, tmp_path):
    texts = texts_of(shared_data / "gsm8k", "ref_rho-math-1b-v0.1.jsonl.gz")
    file = tmp_path / "completions.jsonl"
    file.write_text("".join(json.dumps({"id": f"main/{i}", "text": texts[i]}) + "\n" for i in range(20) if i != 7))
    command = ["score", "--dataset", "gsm8k", "--completions", file, "--dataset-dir", shared_data, "--limit", "20"]
    done = evalmesh(*command, "--no-timestamp", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "main/7" in done.stdout
    benchmark = report_in(tmp_path / "outputs")["benchmarks"][0]
    assert (benchmark["metrics"][0]["n_scored"], benchmark["metrics"][0]["n_errored"]) == (19, 1)
    assert [one["sample_id"] for one in benchmark["errored_samples"]] == ["main/7"]
    assert benchmark["error_classes"] == {"missing": 1}
