"""The model simulator in a process of its own, and the truth it tells about what it served."""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class SimulatorProcess:
    process: subprocess.Popen[str]
    url: str

    @property
    def root(self) -> str:
        return self.url.removesuffix("/v1")

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.root}/stats", timeout=10) as answer:
            return json.load(answer)

    def reset(self) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.root}/stats/reset", method="POST"), timeout=10).close()

    def samples(self, benchmark: str) -> dict[str, Any]:
        """What was asked about each sample: asked, answered, right, wrong."""
        return self.stats()["benchmarks"].get(benchmark, {}).get("samples", {})


@contextmanager
def simulator(*arguments: str, port: int = 0) -> Iterator[SimulatorProcess]:
    """Starts `python -m evalmesh.simulator` with these arguments; ready when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-m", "evalmesh.simulator", "--port", str(port), *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("evalmesh simulator: "), f"the simulator did not start: {line!r}"
        yield SimulatorProcess(process, line.split(": ", 1)[1].strip())
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
