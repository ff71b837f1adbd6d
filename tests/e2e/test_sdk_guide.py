"""The guide to the SDK: its snippets run in the order of the page, as a reader would type them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.kit.cli import environment, running, until
from tests.kit.documented import ROOT, blocks
from tests.kit.simulator import simulator

pytestmark = pytest.mark.timeout(180)

PAGE = ROOT / "docs/guides/use-the-sdk.md"
_UP = re.compile(r"up at ([^;\s]+)")
SAYS = ("SUCCEEDED", "expected", "of 20 scored", "scored {", "alchemy", "1m8fms7f00000")
"""What the snippets must have printed on their way."""


def test_every_snippet_runs(tmp_path):
    snippets = [text for _, language, text in blocks(PAGE) if language == "python"]
    assert len(snippets) > 8
    with (
        simulator("--benchmarks", "starter_mcq") as model,
        running("up", "--address", "127.0.0.1:0", cwd=tmp_path) as up,
    ):
        until(lambda: _UP.search(up.stdout), 60, "the platform")
        program = "\n".join(snippets).replace("127.0.0.1:9090", _UP.search(up.stdout)[1])
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program.replace("http://127.0.0.1:8000/v1", model.url)],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert [words for words in SAYS if words not in done.stdout] == []
    assert {path.name for path in Path(tmp_path).iterdir()} >= {"report.json", "results.parquet"}
