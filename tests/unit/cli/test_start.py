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


@pytest.mark.parametrize(
    ("script", "lines"),
    [pytest.param(LOAD_TEST, 2, id="evalmesh perf"), pytest.param(ENGINE, 1, id="engine")],
)
def test_what_is_slow_to_load_is_not_loaded_before_it_is_needed(script, lines, tmp_path) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [""] * lines
