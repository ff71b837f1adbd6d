"""The command that report.html prints, run by a shell: it gives the same report; and its samples over a server."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.kit.cli import environment, evalmesh, report_in, running, until
from tests.kit.results import KINDS, write_results
from tests.kit.simulator import simulator
from tests.unit.report.page import Page

ADDRESS = r"127\.0\.0\.1:\d+(?=\D)"
QUESTIONS = "question,A,B,answer\nCapital of France?,Paris,Rome,A\nCapital of Italy?,Paris,Rome,B\n"


def printed(folder: Path) -> str:
    page = Page(next(folder.glob("**/report.html")).read_text())
    command: str = page.code
    return command


def run_by_shell(command: str, cwd: Path) -> dict:
    """In another folder, as someone who was sent the report would; with the program on the path."""
    cwd.mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = environment() | {"PATH": path}
    done = subprocess.run(
        ["sh", "-c", command], check=False, cwd=cwd, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return report_in(cwd / "outputs")


def same(one: dict, other: dict) -> bool:
    def lasting(report: dict) -> list[dict]:
        return [{name: value for name, value in b.items() if name != "usage"} for b in report["benchmarks"]]

    return lasting(one) == lasting(other) and one["config"] == other["config"] and one["model"] == other["model"]


@pytest.mark.parametrize("more", [[], ["--text-of-two-lines"]])
def test_an_evaluation_with_own_data_and_a_folder_of_data_sets(tmp_path, shared_data, more):
    (tmp_path / "own data.csv").write_text(QUESTIONS)
    args = {"general_mcq": {"local_path": "own data.csv"}, "gsm8k": {"subset_list": ["main"], "few_shot_num": 2}}
    with simulator("--benchmarks", "gsm8k", "--dataset-dir", shared_data) as model:
        words = ["--model", "simulated", "--api-url", model.url, "--datasets", "gsm8k", "general_mcq", "--limit", "2"]
        words += ["--dataset-args", json.dumps(args), "--dataset-dir", shared_data, "--name", "it's $HOME"]
        if more:
            (tmp_path / "task.json").write_text(json.dumps({"labels": {"team": "x y"}, "system_prompt": "two\nlines"}))
            words += ["-c", "task.json"]
        done = evalmesh("eval", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        command = printed(tmp_path)
        assert ("<<'END'" in command) == bool(more)
        again = run_by_shell(command, tmp_path / "elsewhere")
    first = report_in(tmp_path / "outputs")
    assert same(first, again)
    assert [one["n_samples"] for one in again["benchmarks"]] == [2, 2]
    assert again["run"]["display_name"] == "it's $HOME"


def test_scored_completions(tmp_path):
    (tmp_path / "own.csv").write_text(QUESTIONS)
    (tmp_path / "answers.jsonl").write_text('{"index": 0, "text": "ANSWER: A"}\n{"index": 1, "text": "ANSWER: A"}\n')
    words = ["--dataset", "general_mcq", "--completions", "answers.jsonl", "--dataset-args", "local_path=own.csv"]
    done = evalmesh("score", *words, "--model", "6b_ft", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    command = printed(tmp_path)
    assert command.startswith("evalmesh score ")
    again = run_by_shell(command, tmp_path / "elsewhere")
    assert same(report_in(tmp_path / "outputs"), again)
    assert again["benchmarks"][0]["metrics"][0]["value"] == 0.5
    shown = evalmesh("samples", "latest", "default/1", cwd=tmp_path)
    assert (shown.returncode, shown.quiet) == (0, True)
    assert "Capital of Italy?" in shown.stdout


def test_samples_are_the_same_from_the_folder_from_the_platforms_data_and_from_a_server(tmp_path):
    assert evalmesh("eval", "--demo", "--limit", "3", cwd=tmp_path).returncode == 0
    run = report_in(tmp_path / "outputs")["run"]["id"]
    asked = ["--wrong", "--right", "--subset", "arts", "--order-by", "index desc", "--format", "jsonl"]
    here = evalmesh("samples", *asked, cwd=tmp_path)
    assert here.returncode == 0, here.stderr
    assert [json.loads(line)["subset"] for line in here.stdout.splitlines()]
    with running("up", "--address", "127.0.0.1:0", "--work-dir", tmp_path / "outputs", cwd=tmp_path) as platform:
        until(lambda: re.search(ADDRESS, platform.stdout + platform.stderr), what="the platform's address")
        server = re.search(ADDRESS, platform.stdout + platform.stderr)[0]
        there = evalmesh("samples", run, *asked, "--server", server, cwd=tmp_path)
        assert there.stdout == here.stdout, there.stderr
        newest = evalmesh("samples", "--limit", "1", "--server", server, cwd=tmp_path)
        assert "starter_math  3 rows" in newest.stdout
        missing = evalmesh("samples", run, "nothing/1", "--server", server, cwd=tmp_path)
        assert missing.returncode == 2
    for folder in (tmp_path / "outputs").glob("2*"):
        folder.rename(tmp_path / folder.name)
    stored = evalmesh("samples", run, *asked, cwd=tmp_path)
    assert stored.stdout == here.stdout, stored.stderr


@pytest.mark.parametrize("form", ["table", "jsonl", "csv", "md"])
def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path, form):
    write_results(tmp_path / "x.parquet", (("s", KINDS * 700),))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = f"evalmesh samples x.parquet --limit 0 --format {form} | head -1 > first"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        check=False,
        cwd=tmp_path,
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "first").read_text().count("\n") == 1
