"""The engine of the load generator by itself: bodies are there beforehand, no feeder and no platform share the machine.

    python -m tests.bench.bench_engine [ceiling|streams|paced|open|start ...] [--quick] [--transport compatible]

Closed-loop parts also run `bare`, the least a Python process can do (bare_client.py), and `parsing`, the same with HTTP
and JSON read, against the same server in turns: read the ratios. CPU is of the level alone. Always exits with 0: a busy
machine is no defect.
"""

import argparse
import itertools
import json
import math
import random
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.bench.measure import MIB, machine, run_child, table
from tests.bench.perf_clients import PACED, percentiles
from tests.kit.engine import Played, end_frame, engine, request_frame
from tests.kit.perf_server import PerfServer, perf_server

from evalmesh.domain.load_test import ArrivalSpec, LoadLevel, LoadTarget

PROMPT = " ".join(f"word{i}" for i in range(32))


def frames(number: int, tokens: int, due_s: list[float], level: int = 0) -> Iterator[bytes]:
    for index in range(number):
        messages = [{"role": "user", "content": f"{index} {PROMPT}"}]
        body = {"model": "m", "messages": messages, "stream": True, "max_tokens": tokens}
        data = json.dumps({**body, "stream_options": {"include_usage": True}}).encode()
        yield request_frame(index, data, due_s=due_s[index] if due_s else math.nan, max_tokens=tokens)
    yield end_frame(level)


def run_engine(
    server: PerfServer, number: int, tokens: int, parallel: int, due_s: list[float], transport: str = "fast"
) -> Played:
    """After a level that opens the connections, as `bare` opens its own before it counts."""
    level = LoadLevel(parallel=parallel, number=number, rate=number / due_s[-1] if due_s else 0.0)
    first = parallel or 64
    with engine() as one:
        one.set_up(LoadTarget(server.chat_url, "m", transport=transport))
        one.play(frames(first, tokens, [], 0), LoadLevel(parallel=first, number=first))
        server.reset()
        # Made beforehand: this process must not take a core from the one that is measured.
        made = list(frames(number, tokens, due_s, 1))
        blocks = [b"".join(made[at : at + 256]) for at in range(0, len(made), 256)]
        played = one.play(blocks, level, arrival=ArrivalSpec("constant" if due_s else "closed"), number=1)
    if played.done.counts != {"ok": number}:
        raise RuntimeError(f"the engine counts {played.done.counts}, not {number} ok")
    return played


HEAD = ("", "req/s", "CPU us/req", "events/CPU s", "TTFT err p50", "p99 ms", "E2E err p50", "p99 ms", "lag p99", "MB")


def engine_row(server: PerfServer, number: int, tokens: int, parallel: int, transport: str) -> list[object]:
    played = run_engine(server, number, tokens, parallel, [], transport)
    truth, done = server.summary(), played.done
    ttft = percentiles([one["first_s"] - one["send_s"] for one in played.records])
    e2e = percentiles([one["last_s"] - one["send_s"] for one in played.records])
    errors = [ttft[p] - truth["ttft_ms"][p] for p in ("p50", "p99")]
    errors += [e2e[p] - truth["e2e_ms"][p] for p in ("p50", "p99")]
    cpu_s = done.cpu_s
    figures = [number / done.end_s, 1e6 * cpu_s / number, number * (tokens + 3) / cpu_s, *errors]
    return ["engine", *figures, done.loop_lag_p99_ms, done.max_rss_bytes / MIB]


def bare_row(server: PerfServer, number: int, tokens: int, parallel: int, *, parse: bool) -> list[object]:
    server.reset()
    job = {"url": server.url, "parallel": parallel, "number": number, "tokens": tokens, "prompt": 32, "parse": parse}
    bare = run_child("bare_client.py", job).result
    truth, cpu_s = server.summary(), bare["loop_cpu_s"]
    errors = [bare["ttft_ms"][p] - truth["ttft_ms"][p] for p in ("p50", "p99")]
    errors += [bare["e2e_ms"][p] - truth["e2e_ms"][p] for p in ("p50", "p99")]
    figures = [number / bare["wall_s"], 1e6 * cpu_s / number, number * (tokens + 3) / cpu_s, *errors]
    return ["parsing" if parse else "bare", *figures, 0.0, bare["rss_bytes"] / MIB]


def compare(part: str, arguments: argparse.Namespace, number: int, tokens: int, parallel: int, *flags: str) -> None:
    """Closed loop: engine and bare clients in turns."""
    number = max(parallel, number // 10) if arguments.quick else number
    rows = []
    with perf_server(*flags) as server:
        for _ in range(1 if arguments.quick else 3):
            rows.append(engine_row(server, number, tokens, parallel, arguments.transport))
            rows += [bare_row(server, number, tokens, parallel, parse=parse) for parse in (True, False)]
    table(f"{part}: {number} requests of {tokens} tokens, {parallel} in flight", HEAD, rows)


def ceiling(arguments: argparse.Namespace) -> None:
    compare("ceiling", arguments, 30_000, 16, 64)


def streams(arguments: argparse.Namespace) -> None:
    compare("streams", arguments, 2_000, 64, 64, *PACED)


def paced(arguments: argparse.Namespace) -> None:
    compare("paced", arguments, 4_000, 64, 256, *PACED)


def open_loop(arguments: argparse.Namespace) -> None:
    """Arrivals as the server saw them."""
    number = 400 if arguments.quick else 2_000
    rng = random.Random(7)
    plans = {
        "constant 200/s": [i / 200 for i in range(number)],
        "poisson 200/s": list(itertools.accumulate(rng.expovariate(200) for _ in range(number))),
        "constant 2000/s": [i / 2000 for i in range(number * 4)],
    }
    rows = []
    with perf_server("--ttft", "20ms", "--itl", "2ms", "--realtime") as server:
        for name, due_s in plans.items():
            played = run_engine(server, len(due_s), 8, 0, due_s, arguments.transport)
            seen = server.arrivals()
            gaps = [b - a for a, b in itertools.pairwise(seen)]
            wanted = [b - a for a, b in itertools.pairwise(due_s)]
            errors = percentiles([abs(a - b) for a, b in zip(gaps, wanted, strict=True)])
            lags = percentiles([one["send_s"] - one["due_s"] for one in played.records])
            rate = len(gaps) / (seen[-1] - seen[0]) / (len(wanted) / (due_s[-1] - due_s[0])) - 1
            mean = sum(gaps) / len(gaps)
            cv = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) / mean
            rows.append([name, 100 * rate, errors["p50"], errors["p99"], cv, lags["p50"], lags["p99"]])
    table("open loop", ["", "rate error %", "gap error p50 ms", "p99 ms", "CV", "send lag p50 ms", "p99 ms"], rows)


def start(arguments: argparse.Namespace) -> None:
    """From exec to `Ready`, and what is imported for it."""
    rows = []
    with perf_server() as server:
        for _ in range(3):
            began = time.monotonic()
            with engine() as one:
                one.set_up(LoadTarget(server.chat_url, "m", transport=arguments.transport))
                one.prepare(frames(4, 4, []), LoadLevel(parallel=2, number=4))
                ready_ms = 1000 * (time.monotonic() - began)
            rows.append([ready_ms])
    table("start", ["exec to ready, ms"], rows)
    command = [sys.executable, "-X", "importtime", "-m", "evalmesh.load_generator.engine"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    lines = [
        line.removeprefix("import time:").split("|") for line in told.splitlines() if line.startswith("import time")
    ]
    found = sorted(((int(own), name.strip()) for own, _, name in lines[1:]), reverse=True)
    table(f"imports: {len(found)}, {sum(own for own, _ in found) / 1000:.0f} ms", ["us", "module"], found[:12])
    heavy = {"grpc", "pydantic", "numpy", "pyarrow", "nats", "aiohttp", "google.protobuf"}
    print("heavy ones among them:", sorted(heavy & {name for _, name in found}) or "none")


PARTS = {"ceiling": ceiling, "streams": streams, "paced": paced, "open": open_loop, "start": start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all, if none is named")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--transport", choices=("fast", "compatible"), default="fast")
    arguments = parser.parse_args()
    print(json.dumps(machine()))
    for name in arguments.parts or PARTS:
        PARTS[name](arguments)


if __name__ == "__main__":
    main()
