"""Every example in docs/examples runs as it stands, against the built-in simulator."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.iterdir() if path.suffix in {".sh", ".py"})

SAYS = {
    "01_quickstart.sh": ["starter_math", "95% interval", "| Model"],
    "02_config_file.sh": ["name: starter_mcq", "pass@2", "history"],
    "03_python_api.py": ["starter_math accuracy: ", "of 20 scored; 0 errored, 0 unscored"],
    "04_resume.sh": ["killed in the middle", "samples: 122"],
    "05_score_completions.sh": ["expected: 41", "0.3333", "2 of 5 requests have no score", "exit code: 3"],
    "06_sdk_watch.py": ["SUCCEEDED ['starter_mcq: 20/20']", "expected"],
    "07_load_test.sh": ["TTFT ms", "perf_report.html", "parallel 8", "B is"],
    "08_objective.sh": ["from send", "Goodput", "exit code: ", "search: "],
    "10_compare.sh": ["Verdict", "Answer B", "undecided  starter_math>=0.2", "exit code: 8", "| Benchmark | Metric |"],
    "09_load_test_python.py": ["parallel 1: 10 of 10 ok", "parallel 4: 40 of 40 ok", "TTFT p50"],
}
"""What a reader would look for in the output."""


def run_example(name: str, folder: Path) -> str:
    path = EXAMPLES / name
    command = ["bash", path] if path.suffix == ".sh" else [sys.executable, path]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("EVALMESH_")}
    environment["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), environment.get("PATH", "")))
    environment["TMPDIR"] = str(folder)
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


def test_examples_are_numbered_and_each_is_looked_at():
    assert [name[:3] for name in SCRIPTS] == [f"{number:02}_" for number in range(1, len(SCRIPTS) + 1)]
    assert set(SCRIPTS) == set(SAYS)


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name.endswith(".sh")])
def test_where_no_environment_is_active_an_example_takes_that_of_its_checkout(name, tmp_path):
    """Its `evalmesh` fails here: the example ends at once, and waits for nothing."""
    bin_dir = tmp_path / ".venv/bin"
    for folder in (bin_dir, tmp_path / "docs/examples"):
        folder.mkdir(parents=True)
    (bin_dir / "evalmesh").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\nexit 1\n")
    (bin_dir / "evalmesh").chmod(0o755)
    script = tmp_path / "docs/examples" / name
    script.write_text((EXAMPLES / name).read_text())
    done = subprocess.run(
        ["bash", script],
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode != 0
    assert (tmp_path / "called").exists()


@pytest.mark.parametrize("name", SCRIPTS)
def test_example(name, tmp_path):
    output = run_example(name, tmp_path)
    assert [words for words in SAYS[name] if words not in output] == [], output
    if name == "04_resume.sh":
        asked = int(output.rsplit("checks included: ", 1)[1].split()[0])
        # 122 samples; at most 80 answers in the last second, 4 were in flight, and each start checks the endpoint.
        assert 122 <= asked <= 122 + 80 + 4 + 4
