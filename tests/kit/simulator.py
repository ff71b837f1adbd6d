"""The model simulator, in a process of its own or in the test's, and the truth it tells about what it served."""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from evalmesh.simulator.server import Simulator
from evalmesh.simulator.settings import SimulatorSettings
from evalmesh.simulator.skill import KnownSample


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

    def truth(self, since: int = 0, *, times: bool = False) -> list[dict[str, Any]]:
        """One object per request that ended; needs `--truth`."""
        address = f"{self.root}/truth?since={since}&times={int(times)}"
        with urllib.request.urlopen(address, timeout=60) as answer:
            return [json.loads(line) for line in answer]

    def truth_summary(self) -> dict[str, Any]:
        """Counts by outcome, percentiles of sound answers in ms, arrivals; needs `--truth`."""
        with urllib.request.urlopen(f"{self.root}/truth/summary", timeout=60) as answer:
            return json.load(answer)

    def samples(self, benchmark: str) -> dict[str, Any]:
        """What was asked about each sample: asked, answered, right, wrong."""
        return self.stats()["benchmarks"].get(benchmark, {}).get("samples", {})

    def asked(self, benchmark: str) -> int:
        """Requests about samples, without the small questions that clients ask to see whether it is there."""
        return sum(sample["asked"] for sample in self.samples(benchmark).values())


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


@asynccontextmanager
async def served(
    known: Iterable[KnownSample] = (), **settings: Any
) -> AsyncIterator[tuple[Simulator, str, aiohttp.ClientSession]]:
    """A simulator in this process, its address, and a client."""
    simulator = Simulator(SimulatorSettings(**settings), known)
    url = await simulator.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield simulator, url, session
    finally:
        await simulator.stop()
