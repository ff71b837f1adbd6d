"""This checkout against another one, the same runs in turn: what did a change cost?

    .venv/bin/python -m tests.bench.against ../before [--rounds 5] [--only mmlu]

Each checkout runs with the interpreter of its own `.venv`; driver and simulator are ours for both. A figure is the
median over the rounds of the ratio of a pair, ours over theirs: below 1 is better.
"""

import argparse
import json
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.bench.bench_platform import Bench, Case, cases, find_data
from tests.bench.measure import FOLDER, simulator, table

FIGURES = ("run_s", "before_s", "busy_s", "after_s", "cpu_s")


def measured(checkout: Path, job: dict) -> dict[str, float]:
    """One run of a checkout, in a process of its own."""
    command = [str(checkout / ".venv" / "bin" / "python"), str(FOLDER / "platform_run.py"), json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{checkout}: ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(ours: Path, theirs: Path, job: dict, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Per figure: median of ours, of theirs, and of the ratios of the pairs. Who begins changes from pair to pair."""
    pairs = []
    for number in range(rounds + 1):
        turns = (ours, theirs) if number % 2 else (theirs, ours)
        found = {checkout: measured(checkout, job) for checkout in turns}
        pairs.append((found[ours], found[theirs]))
    found = {}
    for name in FIGURES:
        a, b = ([pair[side][name] for pair in pairs[1:]] for side in (0, 1))  # The first pair warms the caches.
        ratios = [x / y for x, y in zip(a, b, strict=True) if y > 0]
        found[name] = (statistics.median(a), statistics.median(b), statistics.median(ratios))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="a checkout with its own .venv")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="the cases whose name contains this")
    options = parser.parse_args()
    ours, theirs = Path(__file__).resolve().parents[2], options.other.resolve()
    bench = Bench(quick=False, folder=Path(), data=find_data())
    chosen = [case for case in cases(bench) if options.only in case.name]
    names = sorted({case.benchmark["name"] for case in chosen})
    rows = []
    with ExitStack() as stack:
        servers = {
            latency_s: stack.enter_context(simulator([*bench.data_flags(*names), "--ttft", f"{latency_s * 1e3:.0f}ms"]))
            for latency_s in sorted({case.latency_s for case in chosen})
        }
        for case in chosen:
            found = compare(ours, theirs, job_of(bench, case, servers[case.latency_s].url), options.rounds)
            rows.append(
                (case.name, *(f"{mine:.2f}/{other:.2f} = {ratio:.2f}" for mine, other, ratio in found.values()))
            )
            print(*rows[-1], sep="  ", flush=True)
    table(f"Ours / theirs = ratio ({options.rounds} pairs, medians)", ("", *FIGURES), rows)


def job_of(bench: Bench, case: Case, url: str) -> dict:
    return bench.job([case.benchmark], url=url, concurrency=case.concurrency)


if __name__ == "__main__":
    sys.exit(main())
