"""Several commands in one folder: each works on its own, and one that ends takes nothing from the others."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.kit.cli import Command, environment, evalmesh, report_in, running, until
from tests.kit.simulator import SimulatorProcess, simulator

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def model() -> Iterator[SimulatorProcess]:
    with simulator("--benchmarks", "starter_math", "--ttft", "150ms") as process:
        yield process


def asking(model: SimulatorProcess, *more: str) -> list[str]:
    return ["eval", "--model", "m", "--api-url", model.url, "--datasets", "starter_math", *more]


def listed(cwd: Path) -> dict[str, dict[str, object]]:
    said = json.loads(evalmesh("runs", "list", "--format", "json", cwd=cwd).stdout)
    return {one["display_name"]: one for one in said}


def outputs_of(run: str, cwd: Path) -> Path:
    (folder,) = (cwd / "outputs").glob(f"*_{run}")
    return folder


def is_asking(command: Command) -> bool:
    return " in flight" in command.stderr


def test_five_at_once_have_the_right_scores_and_each_keeps_to_its_own_limit(model, tmp_path):
    with ExitStack() as stack:
        commands = [
            stack.enter_context(running(*asking(model, "--name", f"n{n}", "--eval-batch-size", "4"), cwd=tmp_path))
            for n in range(5)
        ]
        ended = [one.end(90) for one in commands]
    assert [one.returncode for one in ended] == [0] * 5, [one.stderr for one in ended]
    assert all(one.quiet for one in ended)
    scores = {report_in(folder)["benchmarks"][0]["metrics"][0]["value"] for folder in (tmp_path / "outputs").glob("2*")}
    assert len(scores) == 1
    assert model.stats()["requests"] == 5 * 122 + 5  # and once each whether the model is there
    assert model.stats()["max_in_flight"] <= 5 * 4


def test_who_hosts_the_queue_is_killed_and_interrupted_and_the_others_go_on(tmp_path):
    with ExitStack() as stack:
        models = [
            stack.enter_context(simulator("--benchmarks", "starter_math", "--ttft", "400ms", "--api-key", f"k{n}"))
            for n in range(3)
        ]
        started = []
        for n, one in enumerate(models):
            words = asking(one, "--name", f"n{n}", "--api-key", f"k{n}", "--eval-batch-size", "4")
            command = stack.enter_context(running(*words, cwd=tmp_path))
            started.append(command)
            until(lambda: is_asking(command), what="asking")  # noqa: B023  (called before the loop goes on)
        first, second, third = started
        first.signal(signal.SIGKILL)
        first.process.wait()
        states = {name: one["state"] for name, one in listed(tmp_path).items()}
        assert states == {"n0": "INTERRUPTED", "n1": "RUNNING", "n2": "RUNNING"}
        second.signal(signal.SIGINT)
        stopped = second.end()
        assert (stopped.returncode, "runs resume" in stopped.stderr) == (130, True)
        ended = third.end(60)
        assert (ended.returncode, ended.quiet) == (0, True), ended.stderr
        assert models[2].stats()["requests"] == 122 + 1
        run = str(listed(tmp_path)["n0"]["id"])
        resumed = evalmesh("runs", "resume", "n0", "--api-key", "k0", cwd=tmp_path)
        assert resumed.returncode == 0, resumed.stderr
        assert report_in(outputs_of(run, tmp_path))["benchmarks"][0]["metrics"][0]["n_scored"] == 122
    keys = [path for path in (tmp_path / "outputs").rglob("*") if path.is_file() and b'"k1"' in path.read_bytes()]
    assert keys == []


def test_a_load_test_a_second_one_and_an_evaluation_share_a_folder(model, tmp_path):
    load = ["perf", "--url", f"{model.url}/chat/completions", "--model", "m", "--number", "20", "--max-tokens", "3"]
    with ExitStack() as stack:
        words = ([*load, "--parallel", "4"], [*load, "--parallel", "2"], asking(model, "--limit", "40"))
        ended = [one.end(90) for one in [stack.enter_context(running(*each, cwd=tmp_path)) for each in words]]
    assert [one.returncode for one in ended] == [0, 0, 0], [one.stderr for one in ended]
    tests = json.loads(evalmesh("perf", "list", "--format", "json", cwd=tmp_path).stdout)
    assert sorted(level["ok"] for one in tests for level in one["levels"]) == [20, 20]
    assert {one["state"] for one in tests} == {"SUCCEEDED"}


_THREADS = """
import sys, threading
from evalmesh import run_task
found = []
def go(n):
    found.append(run_task({"model": "m", "api_url": sys.argv[1], "datasets": ["starter_math"], "limit": 10}))
threads = [threading.Thread(target=go, args=(n,)) for n in range(2)]
[one.start() for one in threads]; [one.join() for one in threads]
print(*(one["benchmarks"][0]["metrics"][0]["n_scored"] for one in found))
"""


def test_two_threads_of_one_python_evaluate_at_the_same_time(model, tmp_path):
    command = [sys.executable, "-c", _THREADS, model.url]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["10", "10"], done.stderr


def test_beside_a_platform_that_stays_up_a_command_works_on_its_own_and_a_second_one_is_refused(model, tmp_path):
    with running("up", "--address", "127.0.0.1:0", "--work-dir", "outputs", cwd=tmp_path) as up:
        until(lambda: "evalmesh is up" in up.stdout)
        done = evalmesh(*asking(model, "--limit", "10"), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        other = evalmesh("up", "--address", "127.0.0.1:0", "--work-dir", "outputs", cwd=tmp_path)
        assert (other.returncode, "in use by the platform" in other.stderr) == (2, True)
