"""The guard against tests that sleep in CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOOKS = (
    "from tests.kit.skips import (pytest_collectreport, pytest_runtest_logreport, pytest_sessionfinish, "
    "pytest_sessionstart, pytest_terminal_summary)"
)
ALLOWED = "x does not exist; set EVALMESH_SHARED_DATA to the folder with the benchmark rows"


def run_with_skip(folder: Path, reason: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(HOOKS)
    (folder / "test_it.py").write_text(
        f"import pytest\ndef test_awake(): pass\ndef test_asleep(): pytest.skip({reason!r})\n"
    )
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)],
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_unforeseen_skip_fails_in_ci(tmp_path):
    result = run_with_skip(tmp_path, "no such binary", CI="true")
    assert result.returncode == 1, result.stdout
    assert "test_it.py::test_asleep: Skipped: no such binary" in result.stdout


@pytest.mark.parametrize(("reason", "environment"), [("no such binary", {}), (ALLOWED, {"CI": "true"})])
def test_others_pass(tmp_path, reason, environment):
    assert run_with_skip(tmp_path, reason, **environment).returncode == 0
