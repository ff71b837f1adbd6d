"""The real `evalmesh` command: what it takes, what it leaves, how it is interrupted, and how it is driven from afar."""

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest
import yaml
from tests.kit.cli import Command, environment, evalmesh, family, living, report_in, running, until
from tests.kit.platform import write_questions
from tests.kit.simulator import SimulatorProcess, simulator
from tests.kit.truth import asked_again

pytestmark = pytest.mark.timeout(120)

NAME = "general_mcq"
SAMPLES = 120
SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    return write_questions(tmp_path_factory.mktemp("questions") / "questions.jsonl", SAMPLES)


def data_of(questions: Path) -> str:
    return json.dumps({NAME: {"local_path": str(questions)}})


@pytest.fixture(scope="module")
def quick(questions) -> Iterator[SimulatorProcess]:
    names = ["general_mcq", "starter_math", "starter_mcq"]
    with simulator("--benchmarks", *names, "--dataset-args", data_of(questions)) as model:
        yield model


@pytest.fixture
def model(quick) -> SimulatorProcess:
    quick.reset()
    return quick


@pytest.fixture
def slow(questions) -> Iterator[SimulatorProcess]:
    """Eight requests at a time take about four seconds for all samples."""
    with simulator("--benchmarks", NAME, "--dataset-args", data_of(questions), "--ttft", "250ms") as process:
        yield process


def eval_command(model: SimulatorProcess, questions: Path, *more: str) -> list[str]:
    command = ["eval", "--model", "simulated", "--api-url", model.url, "--datasets", NAME]
    return [*command, "--dataset-args", data_of(questions), *more]


def right(model: SimulatorProcess) -> int:
    return sum(sample["right"] > 0 for sample in model.samples(NAME).values())


def check_complete(report: dict[str, Any], model: SimulatorProcess) -> None:
    metric = report["benchmarks"][0]["metrics"][0]
    assert (metric["n_scored"], metric["n_errored"], metric["n_unscored"]) == (SAMPLES, 0, 0)
    assert metric["value"] == pytest.approx(right(model) / SAMPLES, abs=1e-12)


# What it takes.


def test_a_line_as_evalscope_users_type_it(model, tmp_path, questions):
    few = {"starter_math": {"few_shot_num": 0}, NAME: {"local_path": str(questions), "few_shot_num": 0}}
    done = evalmesh(
        *("eval", "--model", "simulated", "--model-id", "my-model", "--api-url", model.url, "--api-key", "EMPTY"),
        *("--eval-type", "openai_api", "--datasets", "starter_math", NAME, "--dataset-args", json.dumps(few)),
        *("--dataset-hub", "modelscope", "--dataset-dir", tmp_path),
        *("--generation-config", "temperature=0,max_tokens=256,top_p=0.9,retries=2", "--eval-batch-size", "32"),
        *("--limit", "5", "--repeats", "2", "--seed", "1", "--stream", "--timeout", "30", "--no-timestamp"),
        *("--ignore-errors", "--work-dir", tmp_path / "there", "--name", "first try", "--request-kind", "chat"),
        *("--on-error", "zero", "--debug", "--processes", "--runners", "2"),
        cwd=tmp_path,
    )
    assert (done.returncode, done.quiet) == (0, True), done.stderr
    assert "my-model" in done.stdout
    report = report_in(tmp_path / "there")
    assert [one["name"] for one in report["benchmarks"]] == ["starter_math", NAME]
    assert [one["metrics"][0]["n_scored"] for one in report["benchmarks"]] == [10, 10]
    assert report["benchmarks"][0]["generation"] == {"max_tokens": 256, "temperature": 0.0, "top_p": 0.9}
    config = report["config"]
    assert (config["seed"], config["repeats"], config["limit"]) == (1, 2, 5)
    assert (config["concurrency"], config["stream"], config["on_error"]) == (32, True, "zero")
    assert (report["run"]["display_name"], report["model"]["label"]) == ("first try", "my-model")
    rows = pq.read_table(tmp_path / "there" / "results" / f"{NAME}.parquet").to_pylist()
    assert all(row["ttft_s"] is not None for row in rows), "--stream measures the time to the first token"
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_a_config_file_and_flags_that_win_over_it(model, tmp_path, questions, form):
    config = {
        "model": "simulated",
        "api_url": model.url,
        "datasets": [NAME],
        "dataset_args": {NAME: {"local_path": str(questions)}},
        "generation_config": {"temperature": 0.5, "max_tokens": 64},
        "limit": 30,
        "no_timestamp": True,
        "eval_backend": "Native",
    }
    text = json.dumps(config) if form == "json" else yaml.safe_dump(config)
    (tmp_path / f"task.{form}").write_text(text)
    flags = ["--limit", "3", "--generation-config", "temperature=0"]
    done = evalmesh("eval", "-c", f"task.{form}", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = report_in(tmp_path / "outputs")
    assert report["benchmarks"][0]["metrics"][0]["n_scored"] == 3
    assert report["config"]["generation"] == {"temperature": 0.0, "max_tokens": 64}


# The words of each message are tests/unit/cli's business; here it is that the real command says them, and only them.
WRONG = [
    (["evla"], "Did you mean eval?"),
    (["eval", "--modle", "m"], "--model"),
    (["eval", "--demo", "--generation-config", "temprature=0"], "'temperature'"),
    (["eval", "--demo", "--dataset-args", '{"starter_math": {"few_shots": 1}}'], "'few_shot_num'"),
    (["eval", "--demo", "--on-error", "zeros"], "Did you mean zero?"),
    (["eval", "--model", "m", "--datasets", "starter_math"], "--api-url"),
    (["eval", "-c", "typo.yaml"], "'model'"),
    (["score", "--dataset", "starter_math", "--completions", "bad.jsonl"], "line 2"),
    (["runs", "resume", "nothing"], "nothing"),
    (["report", "nothing"], "nothing"),
    (["benchmarks", "info", "starter_maths"], "'starter_math'"),
]


@pytest.mark.parametrize(("argv", "hint"), WRONG, ids=[" ".join(argv)[:60] for argv, _ in WRONG])
def test_wrong_input_is_2_with_the_way_out(tmp_path, argv, hint):
    (tmp_path / "typo.yaml").write_text("modle: m\n")
    (tmp_path / "bad.jsonl").write_text('{"index": 0, "text": "1"}\n{"index": 1}\n')
    done = evalmesh(*argv, cwd=tmp_path)
    assert (done.returncode, done.quiet) == (2, True), done.stdout + done.stderr
    assert hint in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.glob("outputs/*_*")) == [], "nothing may look like a run"


def test_dry_run_shows_the_spec_and_asks_about_no_sample(model, tmp_path, questions):
    done = evalmesh(*eval_command(model, questions, "--dry-run", "--limit", "3"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    spec = yaml.safe_load(done.stdout)
    assert (spec["limit"], spec["model"]["name"], spec["benchmarks"][0]["name"]) == (3, "simulated", NAME)
    assert model.asked(NAME) == 0
    missing = ["--dataset-args", json.dumps({NAME: {"local_path": str(tmp_path / "nowhere.jsonl")}})]
    done = evalmesh(*eval_command(model, questions, "--dry-run", *missing), cwd=tmp_path)
    assert (done.returncode, "nowhere.jsonl" in done.stderr) == (2, True)


def test_dry_run_counts_what_would_be_asked(model, tmp_path):
    questions = write_questions(tmp_path / "own.jsonl", 5)
    with questions.open("a") as file:
        file.write('{"question": "no options"}\n')
    flags = ["--repeats", "3", "--price", "1000", "2000", "--max-tokens", "100"]
    done = evalmesh(*eval_command(model, questions, "--dry-run", *flags), cwd=tmp_path)
    assert (done.returncode, done.quiet) == (0, True), done.stderr
    assert f"{NAME}: 5 samples x 3 and 1 rows that cannot be used, about " in done.stdout
    assert "output tokens at most 100 each" in done.stdout
    assert "at most 3.00 for answers" in done.stdout
    assert "# The first prompt, of general_mcq default/0:\n#   user:\n" in done.stdout


def test_dry_run_tells_how_long_it_may_take_where_a_run_has_shown_it(model, tmp_path, questions):
    dry = eval_command(model, questions, "--dry-run", "--limit", "100", "--eval-batch-size", "5")
    assert "time: cannot be known; 'outputs' holds no run of this model" in evalmesh(*dry, cwd=tmp_path).stdout
    assert evalmesh(*eval_command(model, questions, "--limit", "25"), cwd=tmp_path).returncode == 0
    [folder] = (tmp_path / "outputs").glob("2*_*")
    took_s = report_in(tmp_path / "outputs")["benchmarks"][0]["usage"]["latency_mean_s"]
    told = evalmesh(*dry, cwd=tmp_path).stdout
    assert "time: about 0:0" in told
    assert "with 5 requests in flight" in told
    assert f"{NAME}: {took_s:.3g} s each with 64 in flight, in {folder.name}" in told
    elsewhere = evalmesh(*dry, "--model", "another", cwd=tmp_path)
    assert "time: cannot be known" in elsewhere.stdout


# What it leaves.


def test_everything_a_run_leaves_behind_can_be_read_and_repeats_it(model, tmp_path, questions):
    done = evalmesh(*eval_command(model, questions, "--limit", "25"), cwd=tmp_path)
    assert (done.returncode, done.quiet) == (0, True), done.stderr
    [folder] = (tmp_path / "outputs").glob("2*_*")
    report = json.loads((folder / "report.json").read_text())
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    assert report["benchmarks"][0]["metrics"][0]["value"] == pytest.approx(right(model) / 25)
    assert "://" not in re.sub(r"http://(127\.0\.0\.1|www\.w3\.org)[^\s\"<]*", "", (folder / "report.html").read_text())
    assert pq.read_table(folder / "results" / f"{NAME}.parquet").num_rows == 25
    for kind in ("predictions", "reviews"):
        [file] = (folder / kind).rglob("*.jsonl")
        assert len([json.loads(line) for line in file.read_text().splitlines()]) == 25
    [file] = (folder / "reports").rglob("*.json")
    assert json.loads(file.read_text())["score"] == pytest.approx(right(model) / 25, abs=1e-4)
    logged = [json.loads(line) for log in (folder / "logs").iterdir() for line in log.read_text().splitlines()]
    assert all(entry["run"] == report["run"]["id"] for entry in logged)
    again = evalmesh("eval", "-c", folder / "run.yaml", "--work-dir", tmp_path / "again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    repeated = report_in(tmp_path / "again")
    assert repeated["benchmarks"][0]["metrics"] == report["benchmarks"][0]["metrics"]
    assert repeated["config"] == report["config"]
    assert asked_again(model, NAME) == 25
    for form, word in (("table", "accuracy"), ("json", '"benchmarks"'), ("markdown", "| accuracy")):
        shown = evalmesh("report", "--format", form, cwd=tmp_path)
        assert (shown.returncode, word in shown.stdout) == (0, True), shown.stderr
    listed = evalmesh("runs", "list", "--format", "json", cwd=tmp_path)
    assert [(one["id"], one["state"]) for one in json.loads(listed.stdout)] == [(report["run"]["id"], "SUCCEEDED")]


# How it is interrupted.


def run_id_in(work_dir: Path) -> str:
    [file] = work_dir.glob("*/run.yaml")
    return re.search(r"^# run: (\S+)$", file.read_text(), re.MULTILINE)[1]


def started(slow: SimulatorProcess, command: Command) -> bool:
    assert command.process.poll() is None, command.stderr
    return slow.stats()["answered"] >= SAMPLES // 4


def test_ctrl_c_then_the_command_it_prints(slow, tmp_path, questions):
    with running(
        *eval_command(slow, questions, "--eval-batch-size", "8", "--work-dir", "meine Läufe"), cwd=tmp_path
    ) as command:
        until(lambda: started(slow, command))
        members = family(command.process.pid)
        command.signal(signal.SIGINT)
        done = command.end(10)
        assert (done.returncode, done.quiet) == (130, True), done.stderr
        assert living(members) == []
    before = slow.stats()
    assert before["in_flight"] == 0
    advice = re.search(r"evalmesh (runs resume \S+.*)", done.stderr)
    assert advice, done.stderr
    resumed = evalmesh(*shlex.split(advice[1]), cwd=tmp_path)
    assert (resumed.returncode, resumed.quiet) == (0, True), resumed.stderr
    check_complete(report_in(tmp_path / "meine Läufe"), slow)
    assert asked_again(slow, NAME) <= before["aborted"] <= 8


def test_ctrl_c_twice_ends_at_once_and_loses_nothing(slow, tmp_path, questions):
    with running(*eval_command(slow, questions, "--eval-batch-size", "8"), cwd=tmp_path) as command:
        until(lambda: started(slow, command))
        members = family(command.process.pid)
        command.signal(signal.SIGINT)
        until(lambda: "once more" in command.stderr, 5)
        command.signal(signal.SIGINT)
        done = command.end(10)
        assert (done.returncode, done.quiet) == (130, True), done.stderr
        until(lambda: living(members) == [], 5, "the end of every child")
    resumed = evalmesh("runs", "resume", run_id_in(tmp_path / "outputs"), cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    check_complete(report_in(tmp_path / "outputs"), slow)
    assert asked_again(slow, NAME) <= 8 + 8 / 0.25


@pytest.mark.parametrize("flags", [(), ("--processes",)], ids=["one process", "processes"])
def test_kill_9_leaves_no_orphans_and_resume_completes(slow, tmp_path, questions, flags):
    with running(*eval_command(slow, questions, "--eval-batch-size", "8", *flags), cwd=tmp_path) as command:
        until(lambda: started(slow, command))
        members = family(command.process.pid)
        assert len(members) >= (6 if flags else 2), "nats-server, and with --processes a child per service"
        command.signal(signal.SIGKILL)
        command.end(5)
        until(lambda: living(members) == [], 8, "the end of every child")
    resumed = evalmesh("runs", "resume", run_id_in(tmp_path / "outputs"), *flags, cwd=tmp_path)
    assert (resumed.returncode, resumed.quiet) == (0, True), resumed.stderr
    check_complete(report_in(tmp_path / "outputs"), slow)
    # What was in flight, and what came in during the second before the last checkpoint.
    assert asked_again(slow, NAME) <= 8 + 8 / 0.25


# How it is driven from afar.


def address_of(command: Command) -> str:
    until(lambda: "evalmesh is up at" in command.stdout, 20, "the start of `evalmesh up`")
    return re.search(r"up at (\S+);", command.stdout)[1]


def test_up_serves_other_shells(slow, tmp_path, questions):
    here, there = tmp_path / "server", tmp_path / "shell"
    here.mkdir()
    there.mkdir()
    with running("up", "--address", "127.0.0.1:0", cwd=here) as up:
        address = address_of(up)
        server = ["--server", address]
        done = evalmesh(*eval_command(slow, questions, "--limit", "12", *server), cwd=there)
        assert (done.returncode, done.quiet) == (0, True), done.stderr
        first = report_in(there / "outputs")["run"]["id"]
        # One request at a time takes half a minute: the run is still going on when it is cancelled.
        with running(*eval_command(slow, questions, "--eval-batch-size", "1", *server), cwd=there) as second:
            until(lambda: slow.stats()["requests"] > 12 + 2)
            listed = json.loads(evalmesh("runs", "list", "--format", "json", *server, cwd=there).stdout)
            assert [one["state"] for one in listed] == ["RUNNING", "SUCCEEDED"]
            with running("runs", "watch", listed[0]["id"], *server, cwd=there) as watch:
                cancelled = evalmesh("runs", "cancel", listed[0]["id"], cwd=there, EVALMESH_SERVER=address)
                assert (cancelled.returncode, "cancelled" in cancelled.stdout) == (0, True), cancelled.stderr
                assert watch.end().returncode == 4
            assert second.end().returncode == 4
        shown = evalmesh("report", first, "--format", "json", *server, cwd=tmp_path)
        assert json.loads(shown.stdout)["run"]["id"] == first
        assert evalmesh("report", first, cwd=tmp_path).returncode == 2, "without --server there is no such run"
        benchmarks = evalmesh("benchmarks", "list", "--format", "json", *server, cwd=tmp_path)
        assert NAME in {one["name"] for one in json.loads(benchmarks.stdout)}
        up.signal(signal.SIGINT)
        ended = up.end(15)
        assert (ended.returncode, ended.quiet) == (0, True), ended.stderr
    gone = evalmesh("runs", "list", *server, cwd=tmp_path)
    assert (gone.returncode, gone.quiet, "evalmesh up" in gone.stderr) == (5, True, True)


TASKS = """
import json, sys
from pathlib import Path
from evalmesh import TaskConfig, run_task
from evalmesh.domain.errors import EvalmeshError
config = json.loads(sys.argv[1])
reports = [run_task(config), run_task("task.yaml"), run_task(Path("task.json")), run_task(TaskConfig(**config))]
reports += run_task([config, "task.yaml"])
try:
    run_task({**config, "datasets": ["nothing"], "dataset_args": {}})
except EvalmeshError as error:
    reports.append({"error": type(error).__name__})
print(json.dumps(reports))
"""


def test_run_task_takes_every_form_of_config(model, tmp_path, questions):
    config = {
        "model": "simulated",
        "api_url": model.url,
        "datasets": [NAME],
        "dataset_args": {NAME: {"local_path": str(questions)}},
        "limit": 8,
    }
    (tmp_path / "task.json").write_text(json.dumps(config))
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(config))
    code = [sys.executable, "-c", TASKS, json.dumps(config)]
    done = subprocess.run(code, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=True)
    *reports, error = json.loads(done.stdout)
    assert "Traceback" not in done.stderr
    assert len({one["run"]["id"] for one in reports}) == len(reports) == 6
    assert all(one["benchmarks"][0]["metrics"] == reports[0]["benchmarks"][0]["metrics"] for one in reports)
    assert reports[0]["benchmarks"][0]["metrics"][0]["value"] == pytest.approx(right(model) / 8)
    assert error == {"error": "InvalidInput"}


# The other commands, each once.


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--version"], "evalmesh 0"),
        (["--help"], "exit codes"),
        (["benchmarks", "list"], "gsm8k"),
        (["benchmarks", "info", "starter_math", "--format", "json"], '"few_shot_num"'),
        (["benchmarks", "preview", "starter_math", "--samples", "2", "--seed", "3"], "expected:"),
        (["simulate", "--help"], "--awkwardness"),
        (["runs", "list", "--limit", "3"], "no runs yet"),
        (["config", "show", "--all"], "eval_batch_size"),
        (["completion", "bash"], "--max-tokens"),
        (["completion", "zsh"], "starter_mcq"),
        (["doctor"], "from start to report"),
    ],
)
def test_commands_that_only_tell(tmp_path, argv, word):
    done = evalmesh(*argv, cwd=tmp_path)
    assert (done.returncode, done.quiet, word in done.stdout) == (0, True, True), done.stderr


def test_doctor_says_what_is_bad(tmp_path):
    done = evalmesh("doctor", "--model", "m", "--api-url", "http://127.0.0.1:1/v1", "--format", "json", cwd=tmp_path)
    found = {one["about"]: one for one in json.loads(done.stdout)}
    assert (done.returncode, done.quiet) == (1, True)
    assert {name for name, one in found.items() if one["state"] == "bad"} == {"endpoint"}
    assert "http://127.0.0.1:1/v1" in found["endpoint"]["text"]
