"""What a command loads before its first request decides how long it takes to begin."""

import subprocess
import sys

import pytest

LOAD_TEST = """
import sys
from pathlib import Path
import evalmesh.cli.perf.asking
print(*(name for name in ("grpc", "evalmesh.adapters.connections", "evalmesh.sdk") if name in sys.modules), sep=",")
from evalmesh.cli.perf.run import LOAD_TEST_SERVICES
from evalmesh.local import hosting
from evalmesh.local.settings import LocalSettings
hosting.load(LocalSettings(work_dir=Path("."), hosted=LOAD_TEST_SERVICES, generators=1))
import evalmesh.adapters.server_metrics
print(*(name for name in ("aiohttp", "numpy", "pyarrow", "evalmesh.scorer.service") if name in sys.modules), sep=",")
"""
ENGINE = """
import sys
import evalmesh.load_generator.engine.__main__
print(*(name for name in ("aiohttp", "grpc", "nats", "numpy", "pydantic") if name in sys.modules), sep=",")
"""
LOOK = """
import sys
from evalmesh.cli.__main__ import main
sys.stdout, kept = open("said.txt", "w"), sys.stdout
main({words})
sys.stdout = kept
print(*(name for name in ("grpc", "nats", "aiohttp", "pyarrow", "numpy", "pydantic") if name in sys.modules), sep=",")
"""
REPORT = """{"schema_version": 1, "benchmarks": [], "benchmarks_not_reported": [],
    "run": {"id": "r1", "display_name": "", "create_time": "2026-01-01T00:00:00Z"},
    "model": {"label": "m", "name": "m", "url": "", "simulated": false}}"""


@pytest.mark.parametrize("words", [["benchmarks", "list"], ["benchmarks", "info", "gsm8k"], ["report", "report.json"]])
def test_a_look_at_what_is_there_loads_no_platform(words, tmp_path) -> None:
    (tmp_path / "report.json").write_text(REPORT)
    script = LOOK.replace("{words}", repr(words))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "\n")


@pytest.mark.parametrize(
    ("script", "lines"),
    [pytest.param(LOAD_TEST, 2, id="evalmesh perf"), pytest.param(ENGINE, 1, id="engine")],
)
def test_what_is_slow_to_load_is_not_loaded_before_it_is_needed(script, lines, tmp_path) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [""] * lines
