"""`evalmesh eval --model FOLDER`: a model in processes of its own, in one copy and several, killed and resumed."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.kit.cli import Command, evalmesh, family, living, running
from tests.kit.processes import gone
from tests.kit.tiny_model import write_sums

ROWS = 120
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sums(tmp_path_factory.mktemp("rows") / "sums.jsonl", ROWS)


def asking(model: Path, sums: Path, *more: object) -> tuple[object, ...]:
    args = ("--datasets", f"sums=general_qa:{sums}", "--max-tokens", "8", "--no-timestamp")
    return ("eval", "--model", model, *args, *more)


def answers(work_dir: Path) -> dict[str, str]:
    """What the model said, by sample."""
    rows = pq.read_table(work_dir / "outputs" / "results" / "sums.parquet").to_pylist()
    assert {row["state"] for row in rows} == {"scored"}
    return {row["sample_id"]: row["completion"] for row in rows}


@pytest.fixture(scope="module")
def one_copy(sums_model: Path, sums: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("one")
    done = evalmesh(*asking(sums_model, sums), cwd=folder, within_s=120)
    assert done.returncode == 0, done.stderr
    assert done.quiet
    found = answers(folder)
    assert len(found) == ROWS
    return found


def test_the_answers_are_those_of_the_model_by_itself(sums_model: Path, one_copy: dict[str, str]) -> None:
    """Sample by sample, in a process of its own: torch takes seconds to load, and stays."""
    code = "import sys; from tests.kit.tiny_model import print_bare_answers as p; p(sys.argv[1], int(sys.argv[2]))"
    command = [sys.executable, "-W", "ignore", "-c", code, str(sums_model), str(ROWS)]
    bare = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert list(one_copy.values()) == [one["said"] for one in bare]
    right = sum(one["said"] == one["right"] for one in bare)
    assert 0.5 < right / ROWS < 1


@pytest.mark.parametrize(
    "ways",
    [
        ("--model-args", "data_parallel=2"),
        ("--processes", "--runners", "2"),
    ],
    ids=["copies", "runners"],
)
def test_every_way_to_run_a_model_gives_the_same_answers(
    sums_model: Path, sums: Path, one_copy: dict[str, str], tmp_path: Path, ways: tuple[str, ...]
) -> None:
    done = evalmesh(*asking(sums_model, sums, *ways), cwd=tmp_path, within_s=120)
    assert done.returncode == 0, done.stderr
    assert answers(tmp_path) == one_copy


def test_a_killed_command_leaves_no_process_and_is_gone_on_with(
    sums_model: Path, sums: Path, one_copy: dict[str, str], tmp_path: Path
) -> None:
    model = shutil.copytree(sums_model, tmp_path / "model")
    with running(*asking(model, sums, "--model-args", "batch_size=1"), cwd=tmp_path) as command:
        left = _under_way(command)
        command.signal(signal.SIGKILL)
        assert gone(*left), living(left)
    (model / "config.json").write_text((model / "config.json").read_text() + " ")
    done = evalmesh("runs", "resume", cwd=tmp_path, within_s=120)
    assert done.returncode == 2
    assert "not those that the run was submitted with" in done.stderr
    shutil.copyfile(sums_model / "config.json", model / "config.json")
    done = evalmesh("runs", "resume", cwd=tmp_path, within_s=120)
    assert done.returncode == 0, done.stderr
    assert answers(tmp_path) == one_copy


def test_an_interrupted_command_leaves_no_process(sums_model: Path, sums: Path, tmp_path: Path) -> None:
    with running(*asking(sums_model, sums, "--model-args", "batch_size=1"), cwd=tmp_path) as command:
        left = _under_way(command)
        command.signal(signal.SIGINT)
        assert command.end().returncode == 130
        assert gone(*left), living(left)


def _under_way(command: Command) -> list[int]:
    """All its processes, once the run has begun."""
    deadline = time.monotonic() + 60
    while " running\n" not in command.stderr:
        assert command.process.poll() is None, command.stderr
        assert time.monotonic() < deadline, command.stderr
        time.sleep(0.01)
    found = family(command.process.pid)
    assert any("engines.child" in line for line in living(found))
    return found


def _without_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def _without_config(model: Path) -> None:
    (model / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "more", "words"),
    [
        (_without_weights, (), ["no weights", "--model"]),
        (_without_config, (), ["no config.json"]),
        (None, ("--model-args", "device_map=cuda"), ["device_map", "cuda"]),
        (None, ("--model-args", "dtype=int3"), ["model_args.dtype", "int3", "float16"]),
        (None, ("--model-args", "precison=float16"), ["precison", "precision"]),
        (None, ("--engine", "vllm"), ["vllm", "pip install 'evalmesh[vllm]'"]),
        (None, ("--api-url", "http://127.0.0.1:9/v1", "--engine", "transformers"), ["api_url", "itself"]),
    ],
    ids=["weights", "config", "no-gpu", "dtype", "typo", "not-installed", "address"],
)
def test_what_cannot_be_loaded_is_said_in_a_sentence_before_there_is_a_run(
    sums_model: Path, sums: Path, tmp_path: Path, damage: object, more: tuple[str, ...], words: list[str]
) -> None:
    model = shutil.copytree(sums_model, tmp_path / "model")
    if callable(damage):
        damage(model)
    done = evalmesh(*asking(model, sums, *more), cwd=tmp_path, within_s=120, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2, done.stderr
    assert done.quiet
    said = done.stderr.splitlines()[-1]
    assert all(word in said for word in words), done.stderr
    assert not (tmp_path / "outputs" / "run.yaml").exists()
