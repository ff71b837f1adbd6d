"""Load tests against the least a Python process can do and against a judge written in C, on this machine.

    python -m tests.bench.bench_perf [streams|ceiling|paced|open|start|memory|search|scale ...] [--quick] [--million]

Prints a table per part, says for each aim whether it was met, writes outputs/bench_perf.json and always exits with 0:
a busy machine is no defect. `bare` is a raw-socket client that reads nothing but ends, `parsing` one that decodes every
event and keeps no books, `generator` a seat (feeder and engine), `command` the whole `evalmesh perf` with its start
and its report. How to read it: docs/benchmarks.md.
"""

import argparse
import json
import math
import random
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from tests.bench.measure import MIB, machine, run_child, table
from tests.bench.perf_clients import (
    PACED,
    Load,
    Took,
    arrival_figures,
    bare,
    command,
    generator,
    paced_ideal_s,
    parsing,
    percentiles,
)
from tests.kit.perf_server import PerfServer, perf_server

REPOSITORY = Path(__file__).parents[2]
CPU_OVER_PARSING, EVENTS_OF_PARSING = 0.8 / 0.6, 100 / 166
"""The aims of 0.8 s and of 100,000 events in units of this machine: they were set where a client that parses took 0.6 s
and reached 166,000."""
Client = Callable[[PerfServer, Load], Took]


@dataclass
class Bench:
    quick: bool
    million: bool
    rounds: int
    aims: list[dict] = field(default_factory=list)

    def most(self, text: str, value: float, limit: float, unit: str = "") -> None:
        self.aims.append(
            {"aim": text, "value": value, "limit": limit, "unit": unit, "met": value <= limit, "kind": "<="}
        )

    def least(self, text: str, value: float, limit: float, unit: str = "") -> None:
        self.aims.append(
            {"aim": text, "value": value, "limit": limit, "unit": unit, "met": value >= limit, "kind": ">="}
        )

    def size(self, whole: int) -> int:
        return max(64, whole // 10) if self.quick else whole

    def of(self, client: Client, server: PerfServer, load: Load) -> list[Took]:
        return [client(server, load) for _ in range(self.rounds)]


def middle(took: Sequence[Took], figure: Callable[[Took], float]) -> float:
    return statistics.median(map(figure, took))


def error(took: Sequence[Took], metric: str, statistic: str) -> float:
    return middle(took, lambda one: one.error_ms(metric, statistic))


def streams(bench: Bench) -> dict:
    """2,000 streams of 64 tokens, 64 in flight."""
    load = Load(bench.size(2000), 64, parallel=64)
    with perf_server(*PACED) as server:
        found = {client.__name__: bench.of(client, server, load) for client in (bare, parsing, generator, command)}
    ideal = paced_ideal_s(load)
    rows = {}
    for name, took in found.items():
        rows[name] = {
            "cpu_s_per_1000": middle(took, lambda one: one.cpu_s) * 1000 / load.number,
            "wall_s": middle(took, lambda one: one.wall_s),
            "over_ideal": middle(took, lambda one: one.wall_s) / ideal - 1,
            "ttft_error_p50_ms": error(took, "ttft_ms", "p50"),
            "ttft_error_p99_ms": error(took, "ttft_ms", "p99"),
            "e2e_error_p99_ms": error(took, "e2e_ms", "p99"),
        }
    engine = middle(found["generator"], lambda one: one.more["engine_cpu_s"])
    rows["generator"]["engine_cpu_s_per_1000"] = engine * 1000 / load.number
    table(
        f"{load.number:,} streams of 64 tokens, 64 in flight (ideal {ideal:.1f} s; medians of {bench.rounds})",
        ("", "CPU s/1,000", "x parsing", "wall s", "over ideal", "TTFT err p50 ms", "p99", "E2E err p99"),
        [
            (name, r["cpu_s_per_1000"], r["cpu_s_per_1000"] / rows["parsing"]["cpu_s_per_1000"], r["wall_s"],
             f"{r['over_ideal']:+.1%}", r["ttft_error_p50_ms"], r["ttft_error_p99_ms"], r["e2e_error_p99_ms"])
            for name, r in rows.items()
        ],
    )  # fmt: skip
    for name in ("generator", "command"):
        bench.most(f"streams, {name}: CPU per 1,000 streams of 64 tokens", rows[name]["cpu_s_per_1000"], 0.8, "s")
    over = rows["generator"]["cpu_s_per_1000"] / rows["parsing"]["cpu_s_per_1000"]
    bench.most("streams, generator: CPU over the parsing client's", over, CPU_OVER_PARSING)
    return rows


def ceiling(bench: Bench) -> dict:
    """A server that takes no time."""
    load = Load(bench.size(60_000), 16, parallel=64)
    with perf_server("--realtime") as server:
        found = {client.__name__: bench.of(client, server, load) for client in (bare, parsing, generator)}
    rows = {
        name: {
            "per_s": middle(took, lambda one: load.number / one.wall_s),
            "server_cpu_s": middle(took, lambda one: one.server["cpu_s"]),
        }
        for name, took in found.items()
    }
    for name in ("bare", "parsing"):
        rows[name]["per_core"] = middle(found[name], lambda one: load.number / one.cpu_s)
    rows["generator"]["per_core"] = middle(found["generator"], lambda one: load.number / one.more["engine_cpu_s"])
    rows["generator"]["feeder_per_core"] = middle(
        found["generator"], lambda one: load.number / one.more["feeder_cpu_s"]
    )
    table(
        f"Ceiling: {load.number:,} requests of 16 tokens, 64 in flight, no latency",
        ("", "requests/s", "per core-second", "of parsing", "feeder per core-second"),
        [
            (name, r["per_s"], r["per_core"], f"{r['per_core'] / rows['parsing']['per_core']:.0%}",
             r.get("feeder_per_core", ""))
            for name, r in rows.items()
        ],
    )  # fmt: skip
    bench.least("ceiling: requests per core-second of the engine", rows["generator"]["per_core"], 15_000)
    bench.least(
        "ceiling: share of the parsing client", rows["generator"]["per_core"] / rows["parsing"]["per_core"], 0.7
    )
    return rows


def paced(bench: Bench) -> dict:
    """24,000 tokens/s one by one, 256 in flight."""
    load = Load(bench.size(5120), 64, parallel=256)
    with perf_server(*PACED) as server:
        found = {client.__name__: bench.of(client, server, load) for client in (bare, parsing, generator, command)}
    ideal, events = paced_ideal_s(load), load.number * load.tokens
    rows = {}
    for name, took in found.items():
        rows[name] = {
            "delivered": ideal / middle(took, lambda one: one.wall_s),
            "ttft_error_p50_ms": error(took, "ttft_ms", "p50"),
            "ttft_error_p99_ms": error(took, "ttft_ms", "p99"),
            "e2e_error_p50_ms": error(took, "e2e_ms", "p50"),
            "e2e_error_p99_ms": error(took, "e2e_ms", "p99"),
        }
    for name in ("bare", "parsing"):
        rows[name]["events_per_core_s"] = middle(found[name], lambda one: events / one.cpu_s)
    rows["generator"]["events_per_core_s"] = middle(found["generator"], lambda one: events / one.more["engine_cpu_s"])
    rows["command"]["events_per_core_s"] = middle(found["command"], lambda one: events / one.cpu_s)
    table(
        f"Paced: 256 in flight, {events / ideal:,.0f} tokens/s one by one (ideal {ideal:.1f} s)",
        ("", "events/core-s", "of ideal rate", "TTFT err p50 ms", "p99", "E2E err p50", "p99"),
        [
            (name, r["events_per_core_s"], f"{r['delivered']:.1%}", r["ttft_error_p50_ms"], r["ttft_error_p99_ms"],
             r["e2e_error_p50_ms"], r["e2e_error_p99_ms"])
            for name, r in rows.items()
        ],
    )  # fmt: skip
    mine = rows["generator"]
    bench.least("paced: events per core-second of the engine", mine["events_per_core_s"], 100_000)
    share = mine["events_per_core_s"] / rows["parsing"]["events_per_core_s"]
    bench.least("paced: events per core-second over the parsing client's", share, EVENTS_OF_PARSING)
    bench.least("paced: share of the ideal rate", mine["delivered"], 0.97)
    bench.most("paced: TTFT error p50", abs(mine["ttft_error_p50_ms"]), 0.5, "ms")
    bench.most("paced: TTFT error p99", abs(mine["ttft_error_p99_ms"]), 6.0, "ms")
    return rows


def open_loop(bench: Bench) -> dict:
    """200 requests/s, as the server saw them arrive."""
    rate, number = 200.0, bench.size(3000)
    rows = {}
    with perf_server(*PACED) as server:
        for arrival in ("constant", "poisson"):
            rng = random.Random(7)
            gaps = [1 / rate if arrival == "constant" else rng.expovariate(rate) for _ in range(number)]
            floor = bare(server, Load(number, 16, parallel=64), due_s=list(accumulate(gaps)))
            mine = generator(server, Load(number, 16, rate=rate, arrival=arrival))
            due = arrival_figures(mine.more["due_s"], rate)
            for took in (floor, mine):
                rows[f"{took.client}, {arrival}"] = arrival_figures(took.server["arrived_s"], rate)
            due_s = mine.more["due_s"]
            late = [at - mine.more["started_s"] - due for at, due in zip(mine.server["arrived_s"], due_s, strict=True)]
            rows[f"generator, {arrival}"] |= {
                "due_cv": due["cv"],
                "due_rate": due["rate"],
                "late_ms": percentiles(late),
            }
    table(
        f"Open loop: {number:,} requests at {rate:.0f}/s, as the server saw them",
        ("", "rate", "CV of gaps", "CV of schedule", "gap error p50 ms", "p99", "late p50 ms", "p99"),
        [
            (name, r["rate"], r["cv"], r.get("due_cv", ""), r["gap_error_p50_ms"], r["gap_error_p99_ms"],
             r.get("late_ms", {}).get("p50", ""), r.get("late_ms", {}).get("p99", ""))
            for name, r in rows.items()
        ],
    )  # fmt: skip
    constant, poisson = rows["generator, constant"], rows["generator, poisson"]
    bench.most("open loop: rate error, constant", 100 * constant["rate_error"], 0.1, "%")
    bench.most(
        "open loop: rate against the schedule's, Poisson",
        100 * abs(poisson["rate"] / poisson["due_rate"] - 1),
        0.1,
        "%",
    )
    bench.most("open loop: gap error p99, constant", constant["gap_error_p99_ms"], 1.5, "ms")
    bench.most("open loop: CV off 1, Poisson", abs(poisson["cv"] - 1), 0.03)
    return rows


def start(bench: Bench) -> dict:
    """From the wish to the first request, and from the last byte to the report."""
    load = Load(200, 16, parallel=8)
    with perf_server("--ttft", "5ms", "--itl", "1ms", "--realtime") as server:
        cold = bench.of(command, server, load)
        server.reset()
        tests = [{"parallel": 8, "number": 200}] * (bench.rounds + 1)
        warm = run_child("platform_perf.py", {"url": server.chat_url, "tests": tests}).result[1:]
        rows = server.truth()
    for one in warm:
        mine = [row for row in rows if one["asked_at_s"] <= row["arrived_s"] <= one["ended_at_s"]]
        one["before_s"] = min(row["arrived_s"] for row in mine) - one["asked_at_s"]
        one["after_s"] = one["report_at_s"] - max(row["end_s"] for row in mine)
    found = {
        "command, exec to exit": {
            "before_s": middle(cold, lambda one: one.before_s),
            "after_s": middle(cold, lambda one: one.after_s),
        },
        "SDK, warm platform": {key: statistics.median(one[key] for one in warm) for key in ("before_s", "after_s")},
    }
    table(
        "Start and end",
        ("", "to first request s", "last byte to report s"),
        [(name, r["before_s"], r["after_s"]) for name, r in found.items()],
    )
    bench.most("start: first request on a warm platform", found["SDK, warm platform"]["before_s"], 0.3, "s")
    bench.most("start: first request, cold", found["command, exec to exit"]["before_s"], 1.0, "s")
    bench.most("end: last byte to report, warm platform", found["SDK, warm platform"]["after_s"], 0.4, "s")
    bench.most("end: last byte to exit of the command", found["command, exec to exit"]["after_s"], 0.4, "s")
    return found


def memory(bench: Bench) -> dict:
    """Peak resident memory by number of requests."""
    sizes = [bench.size(10_000), bench.size(100_000), *([1_000_000] if bench.million else [])]
    rows = {}
    with perf_server("--realtime") as server:
        for size in sizes:
            took = generator(server, Load(size, 16, parallel=64), warm=False)
            rows[size] = {
                "engine_mib": took.more["engine_rss_bytes"] / MIB,
                "feeder_mib": took.more["feeder_rss_bytes"] / MIB,
                "wall_s": took.wall_s,
            }
    table(
        "Memory of a generator's processes",
        ("requests", "engine MiB", "feeder MiB", "s"),
        [(f"{size:,}", r["engine_mib"], r["feeder_mib"], r["wall_s"]) for size, r in rows.items()],
    )
    bench.most(f"memory: engine at {sizes[-1]:,} requests", rows[sizes[-1]]["engine_mib"], 80, "MiB")
    bench.most(
        f"memory: engine at {sizes[-1]:,} over {sizes[0]:,}",
        rows[sizes[-1]]["engine_mib"] / rows[sizes[0]]["engine_mib"],
        1.1,
    )
    return rows


def p95_by_parallel(server: PerfServer, slo_ms: float) -> dict[int, float]:
    """The server's own p95 of the time to first token at each load, until it is far beyond the objective."""
    found: dict[int, float] = {}
    for parallel in range(32, 48):
        bare(server, Load(parallel * 14, 48, parallel=parallel, tokens_low=16))
        rows = sorted(server.truth(), key=lambda row: row["arrived_s"])[2 * parallel :]
        ordered = sorted(row["first_s"] - row["arrived_s"] for row in rows)
        found[parallel] = 1e3 * ordered[int(0.95 * len(ordered))]
        if found[parallel] > 1.3 * slo_ms:
            break
    return found


def search(bench: Bench) -> dict:
    """The most in flight that 32 slots serve with a p95 of 200 ms to the first token; the truth by trying each."""
    slo_ms = 200.0
    with perf_server("--slots", "32", "--ttft", "100ms", "--itl", "10ms", "--realtime") as server:
        truth = p95_by_parallel(server, slo_ms)
        knee = max((parallel for parallel, p95 in truth.items() if p95 <= slo_ms), default=0)
        wish = ("--find-max", "parallel", "--slo", f"ttft:p95:{slo_ms:.0f}ms", "--sla-upper-bound", "128")
        # The number bounds a probe; its seconds are the search's own affair.
        found = command(server, Load(0, 48, tokens_low=16), *wish)
    answer = found.more["search"]
    off = abs(answer["answer"] - knee) if answer["answer"] is not None else math.inf
    row = {"knee": knee, "truth_p95_ms": truth, "search": answer, "took_s": found.exec_s, "cpu_s": found.cpu_s}
    table(
        f"Search: most in flight with TTFT p95 <= {slo_ms:.0f} ms (32 slots, 16 to 48 tokens)",
        ("", "truth", "answer", "decided by", "probes", "s", "CPU s"),
        [
            ("evalmesh perf --find-max", knee, answer["answer"], answer["by"], len(answer["evidence"]), found.exec_s,
             found.cpu_s)
        ],
    )  # fmt: skip
    bench.most("search: levels off the knee", off, 1)
    bench.most("search: time", found.exec_s, 60, "s")
    return row


def scale(bench: Bench) -> dict:
    """1, 2 and 4 generators at equal total load, and flat out."""
    rows = {}
    cores = machine()["cpus"]
    with perf_server(*PACED) as paced_server, perf_server("--realtime") as fast:
        for count in (1, 2, 4):
            even = generator(paced_server, Load(bench.size(1920), 64, parallel=64, generators=count))
            flat = generator(fast, Load(bench.size(60_000), 16, parallel=64, generators=count))
            rows[count] = {
                "ttft_error_p99_ms": even.error_ms("ttft_ms", "p99"),
                "e2e_error_p99_ms": even.error_ms("e2e_ms", "p99"),
                "per_s": flat.ok / flat.wall_s,
                # Of all engines together: where this stays, more cores mean as many times more requests.
                "per_core": flat.ok / flat.more["engine_cpu_s"],
            }
    table(
        f"Scale-out ({cores} cores, server included)",
        ("generators", "TTFT err p99 ms", "E2E err p99 ms", "requests/s flat out", "x one", "per core-second", "x one"),
        [
            (n, r["ttft_error_p99_ms"], r["e2e_error_p99_ms"], r["per_s"], r["per_s"] / rows[1]["per_s"],
             r["per_core"], r["per_core"] / rows[1]["per_core"])
            for n, r in rows.items()
        ],
    )  # fmt: skip
    for count in (2, 4):
        if cores >= 2 * count + 1:  # Each has a feeder, and the server wants a core.
            bench.least(f"scale: throughput of {count} over one", rows[count]["per_s"] / rows[1]["per_s"], 0.95 * count)
    return rows


PARTS: dict[str, Callable[[Bench], dict]] = {
    "streams": streams,
    "ceiling": ceiling,
    "paced": paced,
    "open": open_loop,
    "start": start,
    "memory": memory,
    "search": search,
    "scale": scale,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="part", help=", ".join(PARTS))
    parser.add_argument(
        "--quick", action="store_true", help="one round and few requests: whether it works, not how fast"
    )
    parser.add_argument("--million", action="store_true", help="memory at 1,000,000 requests too")
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement; medians are shown (default: 3)")
    options = parser.parse_args()
    begin = time.perf_counter()
    bench = Bench(options.quick, options.million, 1 if options.quick else options.rounds)
    figures: dict[str, object] = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "quick": options.quick}
    for name, part in PARTS.items():
        if not options.parts or name in options.parts:
            try:
                figures[name] = part(bench)
            except Exception:  # noqa: BLE001  (the other parts still tell something)
                traceback.print_exc()
                figures[name] = {"failed": traceback.format_exc()}
    if not options.quick:  # A few requests say nothing about speed.
        rows = [
            ("met" if a["met"] else "NOT MET", a["aim"], a["value"], f"{a['kind']} {a['limit']:g}", a["unit"])
            for a in bench.aims
        ]
        table("Aims", ("", "aim", "measured", "limit", ""), rows)
    figures |= {"aims": bench.aims, "took_s": time.perf_counter() - begin}
    target = REPOSITORY / "outputs" / "bench_perf.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=2, default=float))
    print(f"\n{figures['took_s']:.0f} s; all figures are in {target.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
