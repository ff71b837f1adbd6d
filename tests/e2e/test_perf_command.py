"""The real `evalmesh perf`: what it takes, what it leaves, how it is interrupted, and what its exit code says."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest
import yaml
from tests.kit.cli import Command, Done, evalmesh, family, living, running, until
from tests.kit.simulator import SimulatorProcess, simulator

pytestmark = pytest.mark.timeout(120)

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "perf.schema.json").read_text())
SECRET = "sk-live-0123456789abcdef"
FILES = ("perf.json", "perf_report.html", "requests.parquet", "perf.yaml")
SHORT = ("--max-tokens", "8", "--sleep-interval", "0")


@pytest.fixture(scope="module")
def quick() -> Iterator[SimulatorProcess]:
    with simulator("--ttft", "10ms", "--itl", "1ms") as model:
        yield model


@pytest.fixture
def model(quick) -> SimulatorProcess:
    quick.reset()
    return quick


@pytest.fixture
def slow() -> Iterator[SimulatorProcess]:
    with simulator("--ttft", "200ms", "--itl", "20ms") as process:
        yield process


def target(model: SimulatorProcess) -> tuple[str, ...]:
    return ("perf", "--url", f"{model.url}/chat/completions", "--model", "simulated")


def folder_in(work_dir: Path) -> Path:
    found = sorted(work_dir.glob("*/perf.yaml"))
    assert len(found) == 1, found
    return found[0].parent


def report_of(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "perf.json").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    for level in report["levels"]:
        assert level["planned"] == level["sent"] + level["unsent"] + level["skipped"] + level["lost"]
        assert level["sent"] == level["ok"] + sum(level["errors"].values())
    return report


def ran(done: Done, code: int) -> None:
    assert (done.returncode, done.quiet) == (code, True), done.stdout + done.stderr


# What it takes and leaves.


def test_a_sweep_as_evalscope_users_type_it(model, tmp_path):
    done = evalmesh(
        *target(model),
        *("--parallel", "1", "4", "--number", "10", "40", "--api", "openai", "--api-key", SECRET),
        *("--dataset", "random", "--min-prompt-length", "32", "--max-prompt-length", "32", "--prefix-length", "8"),
        *("--max-tokens", "16", "--min-tokens", "16", "--temperature", "0.5", "--seed", "7", "--stream"),
        *("--connect-timeout", "5", "--read-timeout", "30", "--total-timeout", "60", "--headers", "X-Team=a"),
        *("--extra-args", '{"ignore_eos": true}', "--log-every-n-query", "10", "--warmup-num", "2"),
        *("--name", "first try", "--outputs-dir", "there", "--sleep-interval", "0"),
        cwd=tmp_path,
    )
    ran(done, 0)
    folder = folder_in(tmp_path / "there")
    assert all((folder / name).is_file() for name in FILES)
    report = report_of(folder)
    assert [level["label"] for level in report["levels"]] == ["parallel 1", "parallel 4"]
    assert [level["ok"] for level in report["levels"]] == [10, 40]
    assert report["load_test"]["display_name"] == "first try"
    assert pq.read_metadata(folder / "requests.parquet").num_rows >= 50
    looks = model.stats()["requests"] - 50 - 2 * 2
    assert 1 <= looks <= 3, "a look at the endpoint, and two to learn how it counts tokens"
    for words in ("parallel 4", "TTFT ms", str(folder.relative_to(tmp_path) / "perf_report.html")):
        assert words in done.stdout
    assert "log_every_n_query: not needed here" in done.stderr
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), f"the key is in {path}"


def test_perf_yaml_repeats_and_a_dry_run_asks_nothing(model, tmp_path):
    ran(evalmesh(*target(model), *SHORT, "--parallel", "2", "--number", "6", "--no-timestamp", cwd=tmp_path), 0)
    first = report_of(tmp_path / "outputs")
    asked = model.stats()["requests"]
    dry = evalmesh("perf", "-c", tmp_path / "outputs" / "perf.yaml", "--dry-run", "--number", "9", cwd=tmp_path)
    ran(dry, 0)
    assert yaml.safe_load(dry.stdout)["levels"] == [{"parallel": 2, "rate": 0.0, "number": 9, "duration_s": 0.0}]
    assert model.stats()["requests"] == asked
    ran(evalmesh("perf", "-c", tmp_path / "outputs" / "perf.yaml", cwd=tmp_path), 0)
    again = report_of(folder_in(tmp_path / "outputs"))
    assert again["load_test"]["id"] != first["load_test"]["id"]
    assert again["spec"] == first["spec"]


def test_open_loop_shows_both_clocks(model, tmp_path):
    done = evalmesh(*target(model), *SHORT, "--rate", "40", "--number", "60", "--open-loop", cwd=tmp_path)
    ran(done, 0)
    level = report_of(folder_in(tmp_path / "outputs"))["levels"][0]
    assert (level["arrival"], level["ok"], level["parallel"]) == ("poisson", 60, 0)
    assert level["ttft_due_ms"]["p50"] >= level["ttft_ms"]["p50"]
    assert "from send" in done.stdout


def test_several_generators_share_one_schedule(model, tmp_path):
    done = evalmesh(*target(model), *SHORT, "--rate", "50", "--number", "50", "--generators", "2", cwd=tmp_path)
    ran(done, 0)
    level = report_of(folder_in(tmp_path / "outputs"))["levels"][0]
    assert [one["requests"] for one in level["generators"]] == [25, 25]
    assert level["ok"] == 50


def test_embeddings(model, tmp_path):
    done = evalmesh(
        *("perf", "--url", model.url, "--model", "simulated", "--api", "embedding", "--parallel", "2"),
        *("--number", "10", "--dataset", "random_embedding", "--max-prompt-length", "16", "--sleep-interval", "0"),
        cwd=tmp_path,
    )
    ran(done, 0)
    report = report_of(folder_in(tmp_path / "outputs"))
    assert (report["target"]["api"], report["levels"][0]["ok"]) == ("embeddings", 10)
    assert "TTFT" not in done.stdout
    assert "In tok/s" in done.stdout


def test_a_preview_prints_bodies_and_sends_nothing(model, tmp_path):
    words = ["--dataset", "random", "--max-prompt-length", "8", "--max-tokens", "5", "--count", "2"]
    done = evalmesh("perf", "preview", *target(model)[1:], *words, cwd=tmp_path)
    ran(done, 0)
    assert done.stdout.count('"max_tokens": 5') == 2
    assert model.stats()["requests"] == 0
    names = evalmesh("perf", "datasets", cwd=tmp_path)
    ran(names, 0)
    assert {"random", "openqa", "trace"} <= set(names.stdout.split())


def test_a_sink_that_takes_nothing_costs_the_exit_code_and_nothing_else(model, tmp_path):
    sink = ("--export", "csv", "--export-args", f"path={tmp_path}")
    done = evalmesh(*target(model), *SHORT, "--parallel", "2", "--number", "10", *sink, cwd=tmp_path)
    ran(done, 1)
    assert "export failed: csv" in done.stdout, "a folder is no file"
    (again,) = re.findall(r"again +evalmesh (perf export .*--export csv)", done.stdout)
    ran(evalmesh(*again.split(), cwd=tmp_path), 0)
    assert report_of(folder_in(tmp_path / "outputs"))["levels"][0]["ok"] == 10


def test_a_sink_that_is_away_is_told_before_any_load(model, tmp_path):
    sink = ("--export", "prometheus", "--export-args", "url=http://127.0.0.1:9/api/v1/write")
    done = evalmesh(*target(model), *SHORT, *sink, cwd=tmp_path)
    ran(done, 5)
    assert "export: prometheus cannot be used now: http://127.0.0.1:9/api/v1/write cannot be reached" in done.stderr
    assert model.stats()["requests"] == 0


def test_a_search_says_its_answer_with_evidence(tmp_path):
    """170 ms each, four at a time: the fifth waits for a whole one. The bound leaves room for a busy machine."""
    with simulator("--ttft", "100ms", "--itl", "10ms", "--max-concurrency", "4") as model:
        done = evalmesh(
            *target(model),
            *("--max-tokens", "8", "--find-max", "parallel", "--slo", "e2e:p75:270ms", "--duration", "2"),
            *("--sla-upper-bound", "8", "--sla-lower-bound", "2"),
            cwd=tmp_path,
            within_s=90,
        )
    ran(done, 0)
    search = report_of(folder_in(tmp_path / "outputs"))["search"]
    if any(one["by"] == "client" for one in search["evidence"]):
        assert "bottleneck" in done.stdout, "this machine is too busy to tell, and that is said"
        return
    assert 3 <= search["answer"] <= 6
    assert f"meets the objective is {search['answer']:g} in flight" in done.stdout


# What the exit code says.


WRONG = [
    (["--parallel", "1", "2", "--number", "1", "2", "3"], "cannot be paired"),
    (["--dataset", "opneqa"], "openqa"),
    (["--dataset", "openqa"], "--dataset-path"),
    (["--slo", "ttft:p99:fast"], "ttft"),
    (["--modle", "m"], "--model"),
]


@pytest.mark.parametrize(("words", "hint"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_input_is_2_with_the_way_out(model, tmp_path, words, hint):
    done = evalmesh(*target(model), *words, cwd=tmp_path)
    ran(done, 2)
    assert hint in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.glob("outputs/*_*")) == [], "nothing may look like a load test"
    assert model.stats()["requests"] == 0


def test_failed_requests_are_3_by_class_and_count(tmp_path):
    with simulator("--ttft", "5ms", "--fault", "500:every=5", "--fault", "truncated:every=7") as model:
        words = (*target(model), *SHORT, "--parallel", "4", "--number", "70", "--no-test-connection")
        done = evalmesh(*words, cwd=tmp_path)
        errors = report_of(folder_in(tmp_path / "outputs"))["levels"][0]["errors"]
        ignored = evalmesh(*words, "--ignore-errors", "--no-timestamp", cwd=tmp_path)
    ran(done, 3)
    assert errors["http_500"] == 14
    assert 8 <= errors["truncated"] <= 10
    assert "http_500 14" in done.stdout
    ran(ignored, 0)


def test_an_endpoint_that_is_not_there_is_5(tmp_path):
    words = ("perf", "--url", "http://127.0.0.1:9/v1", "--model", "m", *SHORT, "--number", "3")
    done = evalmesh(*words, cwd=tmp_path)
    ran(done, 5)
    assert "127.0.0.1:9" in done.stdout + done.stderr
    done = evalmesh(*words, "--no-test-connection", "--no-timestamp", cwd=tmp_path)
    ran(done, 5)
    assert report_of(tmp_path / "outputs")["levels"][0]["errors"] == {"connect": 3}


def test_a_refused_key_is_5(tmp_path):
    with simulator("--api-key", "right") as model:
        words = (*target(model), *SHORT, "--number", "3")
        ran(evalmesh(*words, "--api-key", "wrong", cwd=tmp_path), 5)
        ran(evalmesh(*words, "--api-key", "wrong", "--no-test-connection", cwd=tmp_path), 5)
        ran(evalmesh(*words, "--api-key", "right", cwd=tmp_path), 0)


def test_an_objective_that_is_missed_is_7_only_when_strict(model, tmp_path):
    words = (*target(model), *SHORT, "--parallel", "2", "--number", "60", "--no-timestamp", "--overwrite")

    def strict(slo: str) -> tuple[Done, bool]:
        done = evalmesh(*words, "--slo", slo, "--strict", cwd=tmp_path)
        return done, report_of(tmp_path / "outputs")["client_limited"]

    ran(evalmesh(*words, "--slo", "ttft:p50:1ms", cwd=tmp_path), 0)
    missed, too_busy = strict("ttft:p50:1ms")
    ran(missed, 6 if too_busy else 7)
    met, too_busy = strict("ttft:p50:500ms")
    ran(met, 6 if too_busy else 0)
    assert "Goodput" in met.stdout


# Interruptions.


def started(command: Command, model: SimulatorProcess, requests: int = 3) -> None:
    until(lambda: command.process.poll() is not None or model.stats()["requests"] >= requests, what="the load")
    assert command.process.poll() is None, command.stderr


def test_ctrl_c_reports_what_was_measured_and_leaves_nobody_behind(slow, tmp_path):
    with running(*target(slow), *SHORT, "--parallel", "2", "--number", "5000", cwd=tmp_path) as command:
        started(command, slow, 8)
        pids = family(command.process.pid)
        command.signal(signal.SIGINT)
        done = command.end()
    ran(done, 130)
    level = report_of(folder_in(tmp_path / "outputs"))["levels"][0]
    assert level["state"] == "cancelled"
    assert level["ok"] >= 1
    assert level["unsent"] > 4000
    assert "perf_report.html" in done.stdout
    assert "ending it" in done.stderr
    until(lambda: not living(pids), what="the end of every process")


def test_a_killed_load_test_is_interrupted_and_ended_by_the_next(slow, tmp_path):
    with running(*target(slow), *SHORT, "--parallel", "2", "--number", "5000", cwd=tmp_path) as command:
        started(command, slow)
        command.process.kill()
        command.process.wait()
    listed = evalmesh("perf", "list", cwd=tmp_path)
    ran(listed, 0)
    assert "interrupted" in listed.stdout
    [one] = json.loads(evalmesh("perf", "list", "--format", "json", cwd=tmp_path).stdout)
    assert "is not going on" in evalmesh("perf", "watch", one["id"], cwd=tmp_path).stderr
    done = evalmesh(*target(slow), *SHORT, "--parallel", "2", "--number", "4", cwd=tmp_path)
    ran(done, 0)
    assert f"{one['id']} was interrupted and is ended now" in done.stderr
    states = [test["state"] for test in json.loads(evalmesh("perf", "list", "--format", "json", cwd=tmp_path).stdout)]
    assert states == ["SUCCEEDED", "CANCELLED"]


def test_a_killed_load_test_can_be_cancelled_and_is_reported(slow, tmp_path):
    with running(*target(slow), *SHORT, "--parallel", "2", "--number", "5000", cwd=tmp_path) as command:
        started(command, slow, 8)
        command.process.kill()
        command.process.wait()
    [one] = json.loads(evalmesh("perf", "list", "--format", "json", cwd=tmp_path).stdout)
    cancelled = evalmesh("perf", "cancel", one["id"], cwd=tmp_path)
    ran(cancelled, 0)
    assert f"{one['id']} cancelled" in cancelled.stdout
    assert report_of(folder_in(tmp_path / "outputs"))["load_test"]["state"] == "CANCELLED"
    again = evalmesh("perf", "cancel", one["id"], cwd=tmp_path)
    ran(again, 2)
    assert "has ended already" in again.stderr


def test_load_tests_on_a_running_platform(slow, tmp_path):
    with running("up", "--address", "127.0.0.1:0", cwd=tmp_path) as platform:
        until(lambda: "is up at" in platform.stdout, what="the platform")
        found = re.search(r"is up at (\S+);", platform.stdout)
        assert found is not None
        variables = {"EVALMESH_SERVER": found[1]}
        words = (*target(slow), *SHORT, "--parallel", "2", "--number", "5000")
        with running(*words, cwd=tmp_path, **variables) as command:
            started(command, slow)
            [one] = json.loads(evalmesh("perf", "list", "--format", "json", cwd=tmp_path, **variables).stdout)
            assert one["state"] == "RUNNING"
            with running("perf", "watch", one["id"], cwd=tmp_path, **variables) as watcher:
                until(lambda: "parallel 2" in watcher.stderr, what="the watch")
                cancelled = evalmesh("perf", "cancel", one["id"], cwd=tmp_path, **variables)
                ran(cancelled, 0)
                ran(watcher.end(), 4)
            ran(command.end(), 4)
        shown = evalmesh("perf", "show", one["id"], cwd=tmp_path, **variables)
        ran(shown, 0)
        assert "parallel 2" in shown.stdout
        compared = evalmesh("perf", "compare", one["id"], one["id"], cwd=tmp_path, **variables)
        ran(compared, 0)
        assert "B is" in compared.stdout
        assert "worse" not in compared.stdout
