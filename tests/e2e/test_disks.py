"""Disks that are small, full or damaged."""

import json
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.kit.cli import evalmesh, report_in, running, until
from tests.kit.disks import small_disk
from tests.kit.platform import write_questions
from tests.kit.simulator import SimulatorProcess, simulator
from tests.kit.truth import asked_again

pytestmark = pytest.mark.timeout(120)

SAMPLES = 200
NAME = "general_mcq"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """Questions, as value of `--dataset-args`."""
    questions = write_questions(tmp_path_factory.mktemp("questions") / "questions.jsonl", SAMPLES)
    return json.dumps({NAME: {"local_path": str(questions)}})


@pytest.fixture
def model(data) -> Iterator[SimulatorProcess]:
    with simulator("--benchmarks", NAME, "--dataset-args", data, "--ttft", "100ms") as model:
        yield model


def command_line(model: SimulatorProcess, data: str) -> list[str]:
    command = ["eval", "--model", "simulated", "--api-url", model.url, "--datasets", NAME, "--dataset-args", data]
    return [*command, "--no-timestamp", "--overwrite", "--eval-batch-size", "8"]


def check_whole(folder: Path, model: SimulatorProcess) -> None:
    metric = report_in(folder)["benchmarks"][0]["metrics"][0]
    right = sum(sample["right"] for sample in model.samples(NAME).values())
    assert (metric["n_scored"], metric["n_errored"]) == (SAMPLES, 0)
    assert metric["value"] == pytest.approx(right / SAMPLES, abs=1e-12)
    assert asked_again(model, NAME) == 0


@pytest.mark.parametrize("whole", [True, False], ids=["all", "objects"])
def test_a_full_disk_is_told_and_waited_out(data, model, tmp_path, *, whole):
    """Be it the disk of the objects alone, or of queues, records, logs and outputs as well."""
    outputs = tmp_path / "outputs"
    disk = outputs if whole else outputs / ".evalmesh" / "objects"
    with small_disk(disk, "8m"):
        with running(*command_line(model, data), cwd=tmp_path) as command:
            until(lambda: "running" in command.stderr, 20, "a run that is on its way")
            ballast = disk / "ballast"
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            until(lambda: "No space left" in command.stderr, 40, "a word about the full disk")
            assert command.process.poll() is None
            ballast.unlink()
            done = command.end()
        assert (done.returncode, done.quiet) == (0, True), done.stderr
        assert "Logging error" not in done.stderr
        assert done.stderr.count("No space left") <= 5
        check_whole(outputs, model)


def test_a_small_disk_is_enough(data, model, tmp_path):
    """Room is taken when it is needed: nothing is set aside for queues that stay short."""
    with small_disk(tmp_path / "outputs", "8m"):
        for _ in range(2):
            done = evalmesh(*command_line(model, data), cwd=tmp_path)
            assert (done.returncode, done.quiet) == (0, True), done.stderr
        assert evalmesh("runs", "list", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    "damaged", ["streams/KV_runs/meta.inf", "streams/WORK/meta.sum", "streams/WORK/obs/plan/o.dat", "**/*"]
)
def test_damaged_queues_are_named_and_set_aside_on_request(data, model, tmp_path, damaged):
    assert evalmesh(*command_line(model, data), cwd=tmp_path).returncode == 0
    jetstream = next((tmp_path / "outputs/.evalmesh/nats/data/jetstream").iterdir())
    for path in filter(Path.is_file, jetstream.glob(damaged)):
        path.write_bytes(b"\xfe\xed" * 40)
    listed = evalmesh("runs", "list", cwd=tmp_path)  # needs no queues
    assert (listed.returncode, listed.quiet, "succeeded" in listed.stdout) == (0, True, True), listed.stderr
    done = evalmesh(*command_line(model, data), cwd=tmp_path)
    assert (done.returncode, done.quiet) == (2, True), done.stderr
    assert "are damaged" in done.stderr
    assert done.stdout == ""
    way_out = shlex.split(done.stderr.strip().rsplit("empty ones: ", 1)[1])
    subprocess.run(way_out, cwd=tmp_path, check=True)
    again = evalmesh(*command_line(model, data), cwd=tmp_path)
    assert (again.returncode, again.quiet) == (0, True), again.stderr
    assert report_in(tmp_path / "outputs")["benchmarks"][0]["metrics"][0]["n_scored"] == SAMPLES
