"""Outputs without the copies that scripts for EvalScope read."""

import shutil

import pytest
from tests.kit.cli import evalmesh

LEAN = ["eval", "--demo", "--datasets", "starter_math", "--limit", "5", "--no-predictions"]


@pytest.mark.parametrize("in_a_file", [False, True])
def test_everything_but_those_scripts_goes_on(tmp_path, in_a_file):
    (tmp_path / "lean.yaml").write_text("{demo: true, datasets: starter_math, limit: 5, no_predictions: true}\n")
    done = evalmesh(*(["eval", "-c", "lean.yaml"] if in_a_file else LEAN), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "outputs").glob("2*_*")
    left = {"run.yaml", "report.json", "report.html", "results", "reports", "logs"}
    assert {path.name for path in folder.iterdir()} == left
    assert "5 rows" in evalmesh("samples", "latest", cwd=tmp_path).stdout
    shutil.rmtree(tmp_path / "outputs" / ".evalmesh")
    again = evalmesh(*LEAN, "--use-cache", folder, cwd=tmp_path)
    assert "starter_math: 5 reused, 0 asked" in again.stdout, again.stderr
    assert not list((tmp_path / "outputs").glob("2*_*/predictions"))
