"""How often the load generator calls itself the bottleneck: of 200 levels of a healthy client, and of slow ones.

    python -m tests.bench.bench_self_check [healthy] [slow] [--quick]

Healthy are short levels against the simulator, in closed loop and with a schedule, some of eight requests: what a
newcomer runs on a laptop. Slow is a client that is stopped, one that half of its time is taken from, and one that is
asked for more than it can send. Prints how levels were graded, with the reasons. How to read it: docs/benchmarks.md.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.measure import family, machine, table

EVALMESH = (sys.executable, "-m", "evalmesh.cli")
PORT = 18000 + os.getpid() % 1000
PROMPTS = ("--dataset", "random", "--min-prompt-length", "64", "--max-prompt-length", "64", "--max-tokens", "32")


@dataclass(frozen=True)
class Load:
    """What is asked of the client, and what happens to it meanwhile."""

    name: str
    flags: Sequence[str]
    trouble: Callable[[int], None] | None = None
    """Given the process id of the command, once load is offered."""


HEALTHY = (
    Load("closed loop", ("--parallel", "1,8,32", "--number", "30,200,400", "--repeats", "34")),
    Load("with a schedule", ("--rate", "4,20,100,200", "--number", "8,40,200,600", "--repeats", "25")),
)


def engines_of(root: int) -> list[int]:
    """Processes below `root` that send."""
    found = []
    for pid in family(root):
        with suppress(OSError):  # it has just ended
            if b"load_generator.engine" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def stopped(root: int) -> None:
    """A second without the engine, after two with it."""
    time.sleep(2)
    for pid in engines_of(root):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(1)
    for pid in engines_of(root):
        os.kill(pid, signal.SIGCONT)


def throttled(root: int) -> None:
    """The engine gets half of its time, in pieces of 40 ms: what a container with half a core gets."""
    engines = engines_of(root)
    for turn in range(150):
        for pid in engines:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT if turn % 2 else signal.SIGSTOP)
        time.sleep(0.04)


SLOW = (
    Load("stopped for a second", ("--parallel", "8", "--duration", "6s"), stopped),
    Load("stopped for a second, by rate", ("--rate", "50", "--duration", "6s"), stopped),
    Load("half of its time taken", ("--parallel", "8", "--duration", "6s"), throttled),
    Load("half of its time taken, by rate", ("--rate", "50", "--duration", "6s"), throttled),
    Load("20,000 requests per second", ("--rate", "20000", "--duration", "3s", "--open-loop")),
)


@contextmanager
def simulator(ttft: str, itl: str) -> Iterator[str]:
    """A model server; its address."""
    command = [*EVALMESH, "simulate", "--port", str(PORT), "--ttft", ttft, "--itl", itl]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield f"http://127.0.0.1:{PORT}/v1/chat/completions"
        finally:
            process.terminate()


def levels(url: str, load: Load) -> list[dict[str, Any]]:
    """Documents of the levels of a load test."""
    folder = Path(tempfile.mkdtemp(prefix="evalmesh-bench-"))
    command = [*EVALMESH, "perf", "--url", url, "--model", "simulated", *PROMPTS, *load.flags, "--sleep-interval", "0"]
    log = folder / "log"
    try:
        with (
            log.open("w") as file,
            subprocess.Popen(
                [*command, "--work-dir", str(folder), "--no-timestamp"], stdout=file, stderr=file
            ) as process,
        ):
            if load.trouble is not None:
                while " level 1 of " not in log.read_text() and process.poll() is None:
                    time.sleep(0.05)
                load.trouble(process.pid)
            process.wait()
        return list(json.loads((folder / "perf.json").read_text())["levels"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measured(loads: Sequence[Load], server: tuple[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """Each level, with the name of its load."""
    with simulator(*server) as url:
        return [(load.name, level) for load in loads for level in levels(url, load)]


def show(found: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """How levels were graded, and why those that were not found to be fine; figures are medians over levels."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, level in found:
        groups.setdefault((name, level["label"]), []).append(level)
    rows = []
    for (name, label), levels in groups.items():
        counts = Counter(level["client"]["grade"] for level in levels)
        figures = [
            [level["ttft_ms"]["p50"] or 0.0 for level in levels],
            [level["client"]["loop_lag_p99_ms"] or 0.0 for level in levels],
            [level["client"]["send_lag_p99_ms"] or 0.0 for level in levels],
        ]
        grades = (counts[grade] for grade in ("fine", "noted", "unusable"))
        rows.append([name, label, len(levels), *grades, *map(statistics.median, figures)])
    head = ["load", "level", "levels", "fine", "noted", "unusable", "ttft p50 ms", "loop lag p99", "send lag p99"]
    table("How levels were graded", head, rows)
    for name, level in found:
        for reason in level["client"]["reasons"]:
            print(f"  {name}, {level['label']}: {reason}")


def undisturbed() -> None:
    """What else a shared machine does makes a client late, and rightly told so: with the right to, goes before it."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    except PermissionError:
        print("without the right to a higher priority: what else this machine does counts")


def main(arguments: Sequence[str]) -> None:
    """Runs the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=("healthy", "slow"), default=["healthy", "slow"])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    print(machine())
    if "healthy" in options.parts:
        undisturbed()
        loads = [Load(one.name, (*one.flags[:-1], "2" if options.quick else one.flags[-1])) for one in HEALTHY]
        found = measured(loads, ("20ms", "2ms"))
        show(found)
        bad = sum(level["client"]["grade"] != "fine" for _, level in found)
        print(f"not fine: {bad} of {len(found)} levels of a healthy client; the aim is at most 1 of 200")
    if "slow" in options.parts:
        found = measured(SLOW[:4], ("20ms", "2ms")) + measured(SLOW[4:], ("0ms", "0ms"))
        show(found)
        missed = [name for name, level in found if level["client"]["grade"] == "fine"]
        print(f"not noticed: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main(sys.argv[1:])
