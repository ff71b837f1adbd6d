"""What the benches measure with: CPU and memory of process trees, child processes, the simulator, medians, tables.

Reads /proc, so it needs Linux. CPU time there comes in ticks of 10 ms.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20
FOLDER = Path(__file__).parent


def family(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for one in found:
        try:
            for task in os.scandir(f"/proc/{one}/task"):
                found += map(int, Path(task.path, "children").read_text().split())
        except OSError:  # It has just ended.
            continue
    return found


def cpu_s(pid: int) -> float:
    """CPU time of a process, of its descendants, and of those that have ended and were waited for."""
    ticks = 0
    for one in family(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime: fields 14 to 17, counted from 1
    return ticks / TICKS_PER_S


def rss_bytes(pid: int) -> dict[str, int]:
    """Resident memory by command, over a process and its descendants. Shared pages count in each."""
    found: dict[str, int] = {}
    for one in family(pid):
        try:
            pages = int(Path(f"/proc/{one}/statm").read_text().split()[1])
            name = Path(f"/proc/{one}/comm").read_text().strip()
        except OSError:
            continue
        found[name] = found.get(name, 0) + pages * PAGE_BYTES
    return found


@dataclass
class PeakMemory:
    """Samples a tree's memory from a thread until stopped."""

    pid: int
    total_bytes: int = 0
    by_command: dict[str, int] = field(default_factory=dict)
    curve: list[tuple[float, int]] = field(default_factory=list)
    """(seconds since start, bytes), every `period_s`."""
    period_s: float = 0.05

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        start = time.perf_counter()
        while not self._stop.wait(self.period_s):
            now = rss_bytes(self.pid)
            total = sum(now.values())
            self.curve.append((time.perf_counter() - start, total))
            if total > self.total_bytes:
                self.total_bytes, self.by_command = total, now

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@dataclass(frozen=True)
class Outcome:
    """A child process that ended."""

    result: dict
    """The JSON object in the last line of its output."""
    wall_s: float
    """From exec to exit."""
    memory: PeakMemory | None = None


def run_child(script: str, job: dict, *, watch_memory: bool = False) -> Outcome:
    """Runs a script of this folder with a JSON job as its argument; raises `RuntimeError` with what it said."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, str(FOLDER / script), json.dumps(job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    memory = PeakMemory(child.pid) if watch_memory else None
    out, err = child.communicate()
    wall_s = time.perf_counter() - start
    if memory is not None:
        memory.stop()
    if child.returncode != 0:
        raise RuntimeError(f"{script} ended with {child.returncode}:\n{err[-2000:]}")
    return Outcome(json.loads(out.splitlines()[-1]), wall_s, memory)


@dataclass
class RunningSimulator:
    """A model simulator in a process of its own."""

    url: str
    process: subprocess.Popen

    def reset(self) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/stats/reset", method="POST")).read()

    def stats(self) -> dict:
        return json.load(urllib.request.urlopen(f"{self.url}/stats?samples=0"))


@contextmanager
def simulator(flags: Sequence[str]) -> Iterator[RunningSimulator]:
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "evalmesh.simulator", "--port", "0", *flags],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            line = process.stdout.readline()
            if ": http" not in line:
                log.seek(0)
                raise RuntimeError(f"the simulator did not start:\n{log.read()[-2000:]}")
            yield RunningSimulator(line.split(": ", 1)[1].strip(), process)
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Figure by figure."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    lines = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    print(f"\n{title}")
    for line in lines:
        first, *others = zip(line, widths, strict=True)
        print("  " + "  ".join([first[0].ljust(first[1]), *(value.rjust(width) for value, width in others)]))
    sys.stdout.flush()


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def machine() -> dict:
    return {"cpus": len(os.sched_getaffinity(0)), "python": platform.python_version(), "system": platform.system()}
