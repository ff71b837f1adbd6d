"""The platform against a minimal client and against the ideal, on this machine. How to read it: docs/benchmarks.md.

    python -m tests.bench.bench_platform [throughput|makespan|memory|startup ...] [--quick]

Prints a table per part, says for each aim whether it was met, writes outputs/bench.json and always exits with 0: a
busy machine is no defect. Without the real data sets (EVALMESH_SHARED_DATA) the starter benchmarks stand in.
"""

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.measure import MIB, RunningSimulator, cpu_s, machine, medians, run_child, simulator, table

REPOSITORY = Path(__file__).parents[2]
ROUNDS = 3
LATENCY_S = 0.2


@dataclass
class Bench:
    """What all parts share."""

    quick: bool
    folder: Path
    data: Path | None
    """Real benchmark rows, when they are there."""
    aims: list[dict] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        return 1 if self.quick else ROUNDS

    def aim(self, text: str, value: float, limit: float, unit: str = "") -> None:
        self.aims.append({"aim": text, "value": value, "limit": limit, "unit": unit, "met": value <= limit})

    def data_flags(self, *names: str) -> list[str]:
        """What the simulator has to know."""
        place = ["--dataset-dir", str(self.data)] if self.data else []
        return ["--benchmarks", *names, *place]

    def job(self, benchmarks: list[dict], **more) -> dict:
        return {"benchmarks": benchmarks, "dataset_dir": str(self.data or ""), **more}


def find_data() -> Path | None:
    folder = Path(os.environ.get("EVALMESH_SHARED_DATA", REPOSITORY.parent / "shared" / "data")).resolve()
    return folder if (folder / "gsm8k").is_dir() and (folder / "mmlu").is_dir() else None


# Throughput


@dataclass(frozen=True)
class Case:
    """One workload at one speed of the server."""

    workload: str
    benchmark: dict
    latency_s: float
    concurrency: int
    rounds: int

    @property
    def name(self) -> str:
        return f"{self.workload}, {self.latency_s * 1e3:.0f} ms, {self.concurrency} slots"


def cases(bench: Bench) -> list[Case]:
    """Without a latency three rounds; with one, where the client waits most of the time, fewer of the long ones."""
    limit = {"limit": 2 if bench.quick else None}
    workloads = [
        ("gsm8k 4-shot", {"name": "gsm8k", "limit": 200 if bench.quick else None}),
        ("mmlu 0-shot", {"name": "mmlu", "few_shot_num": 0, **limit}),
        ("mmlu 5-shot", {"name": "mmlu", "few_shot_num": 5, **limit}),
    ]
    if bench.data is None:
        print("The real data sets are not there (EVALMESH_SHARED_DATA): starter_math and starter_mcq stand in.")
        workloads = [("starter_math", {"name": "starter_math"}), ("starter_mcq", {"name": "starter_mcq"})]
    found = [Case(name, wish, 0.0, 64, bench.rounds) for name, wish in workloads]
    for slots in (64, 256):
        for place, (name, wish) in enumerate(workloads):
            found.append(Case(name, wish, LATENCY_S, slots, bench.rounds if place == 0 or slots == 256 else 1))
    return found


def throughput(bench: Bench) -> dict:
    names = ("gsm8k", "mmlu") if bench.data else ("starter_math", "starter_mcq")
    found = {}
    with ExitStack() as stack:
        servers = {
            latency_s: stack.enter_context(simulator([*bench.data_flags(*names), "--ttft", f"{latency_s * 1e3:.0f}ms"]))
            for latency_s in (0.0, LATENCY_S)
        }
        for case in cases(bench):
            rounds = [_compare(bench, case, servers[case.latency_s]) for _ in range(case.rounds)]
            found[case.name] = _judge(bench, case, medians(rounds))
    rows = found.values()
    table(
        "Whole platform against a minimal client (medians; CPU in ms per sample, nats-server included)",
        ("no latency", "samples", "run s", "exec-exit s", "samples/s", "minimal/s", "CPU", "minimal CPU", "ratio"),
        [
            (r["workload"], r["samples"], r["run_s"], r["exec_s"], r["per_s"], r["minimal_per_s"], r["cpu_ms"],
             r["minimal_cpu_ms"], r["cpu_ratio"])
            for r in rows if not r["latency_s"]
        ],
    )  # fmt: skip
    table(
        f"The same at {LATENCY_S * 1e3:.0f} ms (seconds before the first request, asking, after the last answer)",
        ("", "slots", "ideal s", "run s", "over", "before", "asking", "after", "over", "minimal s", "over", "CPU",
         "minimal CPU"),
        [
            (r["workload"], r["slots"], r["ideal_s"], r["run_s"], _over(r["run_s"], r), r["before_s"],
             r["asking_s"], r["after_s"], _over(r["asking_s"], r), r["minimal_run_s"], _over(r["minimal_run_s"], r),
             r["cpu_ms"], r["minimal_cpu_ms"])
            for r in rows if r["latency_s"]
        ],
    )  # fmt: skip
    return found


def _over(value: float, row: dict) -> str:
    return f"{value / row['ideal_s'] - 1:+.0%}"


def _compare(bench: Bench, case: Case, server: RunningSimulator) -> dict[str, float]:
    job = bench.job([case.benchmark], url=server.url, concurrency=case.concurrency)
    server_cpu = cpu_s(server.process.pid)
    ours = run_child("platform_run.py", job)
    server_cpu = cpu_s(server.process.pid) - server_cpu
    theirs = run_child("minimal_client.py", job)
    a, b = ours.result, theirs.result
    if (a["samples"], a["errored"]) != (b["samples"], 0) or not math.isclose(a["value"], b["value"]):
        raise RuntimeError(f"{case.name}: the platform and the minimal client disagree: {a} and {b}")
    return {
        "samples": a["samples"],
        "run_s": a["run_s"],
        "asking_s": a["busy_s"],
        "before_s": a["before_s"],
        "after_s": a["after_s"],
        "exec_s": ours.wall_s,
        "cpu_ms": 1e3 * a["cpu_s"] / a["samples"],
        "simulator_cpu_ms": 1e3 * server_cpu / a["samples"],
        "minimal_run_s": b["run_s"],
        "minimal_exec_s": theirs.wall_s,
        "minimal_cpu_ms": 1e3 * b["cpu_s"] / b["samples"],
    }


def _judge(bench: Bench, case: Case, row: dict) -> dict:
    samples = row["samples"]
    # With equal latencies requests go in waves, the last of which may be almost empty.
    ideal_s = math.ceil(samples / case.concurrency) * case.latency_s
    row |= {
        "workload": case.workload,
        "latency_s": case.latency_s,
        "slots": case.concurrency,
        "per_s": samples / row["run_s"],
        "minimal_per_s": samples / row["minimal_run_s"],
        "cpu_ratio": row["cpu_ms"] / row["minimal_cpu_ms"],
        "ideal_s": ideal_s,
        "ideal_without_waves_s": samples / case.concurrency * case.latency_s,
    }
    if case.latency_s:
        bench.aim(f"{case.name}: run over ideal", row["run_s"] / ideal_s, 1.10)
        bench.aim(f"{case.name}: asking over ideal", row["asking_s"] / ideal_s, 1.10)
        return row
    bench.aim(f"{case.name}: CPU per sample", row["cpu_ms"], 1.5, "ms")
    if case.workload.startswith("gsm8k"):
        bench.aim(f"{case.name}: {samples} rows, exec to exit", row["exec_s"], 3.0, "s")
    return row


# Makespan


def makespan(bench: Bench) -> dict:
    """Six whole benchmarks, one pool of slots, latencies with a heavy tail.

    Whole, because the last requests end up to one longest latency after the ideal, however they are scheduled: on a
    run of seconds that alone is more than the aim.
    """
    slots = 64
    wishes = [{"name": "starter_math"}, {"name": "starter_mcq"}]
    if bench.data:
        wishes = [
            {"name": "gsm8k", "limit": 100 if bench.quick else None},
            {"name": "arc", "limit": 60 if bench.quick else None},
            {"name": "mmlu", "few_shot_num": 0, "limit": 2 if bench.quick else None},
            *wishes,
        ]
    wishes.append({"name": "general_mcq", "local_path": str(_own_questions(bench))})
    known = {one["name"]: {"local_path": one["local_path"]} for one in wishes if "local_path" in one}
    names = [one["name"] for one in wishes]
    flags = [*bench.data_flags(*names), "--dataset-args", json.dumps(known)]
    found = {}
    for shape in ("lognormal:median=300ms,sigma=0.8,max=3s", "pareto:min=200ms,alpha=1.5,max=3s"):
        with simulator([*flags, "--ttft", shape]) as server:
            job = bench.job(wishes, url=server.url, concurrency=slots)
            result = run_child("platform_run.py", job).result
        row = {key: value for key, value in result.items() if isinstance(value, int | float)}
        row["ideal_s"] = max(row["latency_sum_s"] / slots, row["latency_max_s"])
        found[shape] = row
        kind = shape.partition(":")[0]
        bench.aim(f"makespan, {kind}: run over ideal", row["run_s"] / row["ideal_s"], 1.05)
        bench.aim(f"makespan, {kind}: asking over ideal", row["busy_s"] / row["ideal_s"], 1.05)
        bench.aim(f"makespan, {kind}: asking over greedy", row["busy_s"] / row["greedy_s"], 1.05)
    table(
        f"Makespan of {len(names)} benchmarks on {slots} slots ({', '.join(names)})",
        ("latencies", "requests", "ideal s", "greedy s", "asking s", "over", "run s", "over", "before s", "after s"),
        [
            (shape, r["requests"], r["ideal_s"], r["greedy_s"], r["busy_s"], _over(r["busy_s"], r), r["run_s"],
             _over(r["run_s"], r), r["before_s"], r["after_s"])
            for shape, r in found.items()
        ],
    )  # fmt: skip
    return found


def _own_questions(bench: Bench) -> Path:
    """Questions in the CSV form of general_mcq: rows of arc, or made up."""
    path = bench.folder / "own_val.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "A", "B", "C", "D", "answer"])
        source = bench.data / "arc" / "ARC-Challenge_validation.jsonl" if bench.data else None
        if source is None:
            writer.writerows([f"Own question {i}?", f"{i}", "b", "c", "d", "ABCD"[i % 4]] for i in range(200))
            return path
        for line in source.read_text().splitlines():
            row = json.loads(line)
            if row["choices"]["label"] == list("ABCD") and row["answerKey"] in "ABCD":
                writer.writerow([f"(own) {row['question']}", *row["choices"]["text"], row["answerKey"]])
    return path


# Memory


def memory(bench: Bench) -> dict:
    """Peak resident memory of the platform's processes by number of samples."""
    sizes = (1_000, 3_000) if bench.quick else (1_000, 10_000, 100_000)
    path = bench.folder / "big.jsonl"
    with path.open("w") as file:
        for i in range(max(sizes)):
            row = {
                "question": f"Shop {i} sells {i % 97 + 3} apples a day, {i % 7 + 2} days a week. How many in a week?"
            }
            right, base = i % 4, (i % 97 + 3) * (i % 7 + 2)
            row |= {letter: str(base + n - right) for n, letter in enumerate("ABCD")}
            file.write(json.dumps(row | {"answer": "ABCD"[right]}) + "\n")
    found = {}
    args = json.dumps({"general_mcq": {"local_path": str(path)}})
    with simulator(["--benchmarks", "general_mcq", "--dataset-args", args]) as server:
        for size in sizes:
            server.reset()
            wish = {"name": "general_mcq", "local_path": str(path)}
            job = {"benchmarks": [wish], "limit": size, "url": server.url, "timeline": False}
            outcome = run_child("platform_run.py", job, watch_memory=True)
            peak = outcome.memory
            found[size] = {
                "samples": outcome.result["samples"],
                "run_s": outcome.result["run_s"],
                "cpu_ms": 1e3 * outcome.result["cpu_s"] / size,
                "peak_mib": peak.total_bytes / MIB,
                "by_command_mib": {name: size_bytes / MIB for name, size_bytes in peak.by_command.items()},
                "states_s": outcome.result["states_s"],
                "curve_s_mib": [(round(t, 1), round(b / MIB)) for t, b in peak.curve[:: max(1, len(peak.curve) // 40)]],
            }
    table(
        "Peak resident memory of all processes",
        ("samples", "peak MiB", "of these", "run s", "samples/s", "CPU ms"),
        [
            (f"{size:,}", r["peak_mib"], ", ".join(f"{n} {m:.0f}" for n, m in r["by_command_mib"].items()), r["run_s"],
             size / r["run_s"], r["cpu_ms"])
            for size, r in found.items()
        ],
    )  # fmt: skip
    most, next_to = sizes[-1], sizes[-2]
    bench.aim(f"memory: {most:,} samples over {next_to:,}", found[most]["peak_mib"] / found[next_to]["peak_mib"], 1.2)
    return found


# Start-up


def startup(bench: Bench) -> dict:
    command = Path(sys.executable).with_name("evalmesh")
    rounds = 1 if bench.quick else 5
    found = {"evalmesh --help": _timed([str(command), "--help"], rounds)}
    bench.aim("start-up: evalmesh --help", found["evalmesh --help"]["wall_s"], 0.3, "s")
    with simulator(["--benchmarks", "starter_math"]) as server:
        work = bench.folder / "startup"
        flags = ["--model", "simulated", "--api-url", server.url, "--datasets", "starter_math", "--limit", "5"]
        found["evalmesh eval, 5 samples"] = _timed([str(command), "eval", *flags, "--work-dir", str(work)], rounds)
        job = {"benchmarks": [{"name": "starter_math"}], "limit": 5, "url": server.url}
        run = Path(__file__).with_name("platform_run.py")
        found["platform and SDK, 5 samples"] = _timed([sys.executable, str(run), json.dumps(job)], rounds)
    bench.aim("start-up: evalmesh eval, 5 samples", found["evalmesh eval, 5 samples"]["wall_s"], 2.0, "s")
    table(
        "Start-up, exec to exit (medians)",
        ("command", "wall s", "CPU s", "exit code"),
        [(name, r["wall_s"], r["cpu_s"], r["exit_code"]) for name, r in found.items()],
    )
    return found


def _timed(command: Sequence[str], rounds: int) -> dict:
    figures = []
    for _ in range(rounds + 1):  # The first fills the caches of the file system.
        before, start = os.times(), time.perf_counter()
        done = subprocess.run(command, capture_output=True, check=False)
        wall_s, after = time.perf_counter() - start, os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        figures.append({"wall_s": wall_s, "cpu_s": cpu, "exit_code": done.returncode})
        if done.returncode != 0:
            print(f"{' '.join(command[:2])} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
            break
    return medians(figures[1:] or figures)


PARTS: dict[str, Callable[[Bench], dict]] = {
    "startup": startup,
    "throughput": throughput,
    "makespan": makespan,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="part", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="one round and few rows: whether it works, not how fast")
    options = parser.parse_args()
    start = time.perf_counter()
    figures: dict[str, object] = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "quick": options.quick}
    with tempfile.TemporaryDirectory(prefix="evalmesh-bench-") as folder:
        bench = Bench(options.quick, Path(folder), find_data())
        for name, part in PARTS.items():
            if not options.parts or name in options.parts:
                try:
                    figures[name] = part(bench)
                except Exception:  # noqa: BLE001  (the other parts still tell something)
                    traceback.print_exc()
                    figures[name] = {"failed": traceback.format_exc()}
    if not options.quick:  # A few rows say nothing about speed.
        verdicts = [("met" if a["met"] else "NOT MET", a["aim"], a["value"], a["limit"], a["unit"]) for a in bench.aims]
        table("Aims", ("", "aim", "measured", "limit", ""), verdicts)
    figures |= {"aims": bench.aims, "took_s": time.perf_counter() - start}
    target = REPOSITORY / "outputs" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=2))
    print(f"\n{figures['took_s']:.0f} s; all figures are in {target.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
