"""An outputs folder is enough: to copy answers from, to go on with, to score again; and it is not replaced unasked."""

import json
import shutil
from pathlib import Path

import pytest
from tests.kit.cli import Done, evalmesh, report_in
from tests.kit.simulator import SimulatorProcess, simulator

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def model():
    with simulator("--benchmarks", "starter_math", "starter_mcq") as process:
        yield process


@pytest.fixture(scope="module")
def kept(model, tmp_path_factory) -> Path:
    """An outputs folder whose platform is gone: 20 answers of one benchmark, 12 of another."""
    cwd = tmp_path_factory.mktemp("kept")
    assert asked(model, cwd, "--limit", "20").returncode == 0
    (folder,) = (cwd / "outputs").glob("2*")
    return Path(shutil.copytree(folder, tmp_path_factory.mktemp("copy") / "kept"))


def asked(model: SimulatorProcess, cwd: Path, *more: str) -> Done:
    words = ("eval", "--model", "m", "--api-url", model.url, "--datasets", "starter_math")
    done = evalmesh(*words, *more, cwd=cwd)
    assert done.quiet, done.stderr
    return done


def counted(model: SimulatorProcess) -> int:
    return int(model.stats()["benchmarks"]["starter_math"]["asked"])


def test_answers_are_copied_from_an_outputs_folder_alone(model, kept, tmp_path):
    before = counted(model)
    done = asked(model, tmp_path, "--limit", "30", "--use-cache", str(kept))
    assert (done.returncode, counted(model) - before) == (0, 10), done.stderr
    assert "starter_math: 20 reused, 10 asked" in done.stdout
    report = report_in(tmp_path / "outputs")
    assert report["benchmarks"][0]["n_reused"] == 20
    # A copy of a copy names the run that paid for it.
    shutil.rmtree(tmp_path / "outputs" / ".evalmesh")
    (folder,) = (tmp_path / "outputs").glob("2*")
    again = asked(model, tmp_path, "--limit", "30", "--use-cache", folder.name)
    assert "starter_math: 30 reused, 0 asked" in again.stdout
    assert counted(model) - before == 10
    usage = report["benchmarks"][0]["usage"]
    assert usage["output_tokens"] > 0
    assert (
        json.loads((max((tmp_path / "outputs").glob("2*")) / "report.json").read_text())["benchmarks"][0]["usage"]
        == usage
    )


def test_where_nothing_can_be_copied_it_is_said_why(model, kept, tmp_path):
    done = asked(model, tmp_path, "--limit", "5", "--use-cache", str(kept), "--generation-config", "temperature=0.7")
    assert "starter_math: 0 reused, 5 asked" in done.stdout
    assert "0 answers were copied" in done.stderr
    assert "temperature of starter_math is 0.7, and was 0.0" in done.stderr
    done = asked(model, tmp_path, "--limit", "5", "--use-cache", "latest", "--model", "other")
    assert "nothing can be copied" in done.stderr
    assert "model is 'other', and was 'm'" in done.stderr


@pytest.mark.parametrize("more", [(), ("--rescore",)])
def test_a_run_of_which_only_the_outputs_are_left_is_taken_up_from_them(model, kept, tmp_path, more):
    before = counted(model)
    done = evalmesh("runs", "resume", str(kept), *more, cwd=tmp_path)
    assert (done.returncode, done.quiet, counted(model)) == (0, True, before), done.stderr
    assert "copied into a new run" in done.stderr
    assert report_in(tmp_path / "outputs")["benchmarks"][0]["metrics"] == report_in(kept)["benchmarks"][0]["metrics"]


def test_a_folder_without_results_says_that_it_has_none(model, kept, tmp_path):
    (tmp_path / "bare").mkdir()
    shutil.copy(kept / "run.yaml", tmp_path / "bare")
    done = asked(model, tmp_path, "--use-cache", "bare")
    assert (done.returncode, "holds no results" in done.stderr) == (2, True), done.stderr
    assert evalmesh("runs", "resume", "bare", cwd=tmp_path).returncode == 2


def test_outputs_of_another_run_are_replaced_only_when_that_is_said(model, tmp_path):
    assert asked(model, tmp_path, "--limit", "3", "--no-timestamp", "--model-id", "first").returncode == 0
    first = report_in(tmp_path / "outputs")["run"]["id"]
    done = asked(model, tmp_path, "--limit", "3", "--no-timestamp")
    assert done.returncode == 2
    assert f"holds the outputs of run {first}" in done.stderr
    assert "--overwrite" in done.stderr
    assert report_in(tmp_path / "outputs")["run"]["id"] == first
    assert asked(model, tmp_path, "--limit", "3", "--no-timestamp", "--overwrite").returncode == 0
    assert [one.name for one in (tmp_path / "outputs" / "predictions").iterdir()] == ["m"]
    assert "overwrite" not in (tmp_path / "outputs" / "run.yaml").read_text()
