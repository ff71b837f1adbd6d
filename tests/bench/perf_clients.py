"""The clients of the load benches, one function each: all are processes of their own and give the same figures.

`bare` is the floor (bare_client.py), `parsing` the same client reading every event, `generator` one or several seats
without a platform (generator_run.py), `command` the whole `evalmesh perf` from exec to exit.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.bench.measure import run_child
from tests.kit.perf_server import PerfServer

PROMPT_TOKENS = 32
TTFT_S, ITL_S, TTFT_SIGMA = 0.05, 0.01, 0.1
PACED = ("--ttft", f"lognormal:{TTFT_S * 1e3:g}ms:{TTFT_SIGMA}", "--itl", f"{ITL_S * 1e3:g}ms", "--realtime")
"""The times to the first token differ a little: with equal ones the streams of a client that begins them together stay
together, its events come many to a wake-up, and it would seem to be twice as fast as one whose streams lie apart."""
MEAN_TTFT_S = TTFT_S * math.exp(TTFT_SIGMA**2 / 2)


@dataclass
class Load:
    """What a client is to do."""

    number: int
    tokens: int
    parallel: int = 0
    rate: float = 0.0
    arrival: str = "closed"
    generators: int = 1
    tokens_low: int = 0
    """Answers are of this many to `tokens` tokens, evenly; 0: all of `tokens`."""


@dataclass
class Took:
    """What it took, and what client and server say about it."""

    client: str
    wall_s: float
    """First request to last answer, as the server saw it."""
    cpu_s: float
    """Of all the client's processes: from the first request to the last answer, of the command from exec to exit."""
    ok: int
    server: dict
    """The judge's summary."""
    ttft_ms: dict = field(default_factory=dict)
    e2e_ms: dict = field(default_factory=dict)
    exec_s: float = 0.0
    """From exec to exit."""
    before_s: float = 0.0
    """From exec to the first request."""
    after_s: float = 0.0
    """From the last byte to exit."""
    more: dict = field(default_factory=dict)

    def error_ms(self, metric: str, statistic: str) -> float:
        """How far a reported percentile is from the server's."""
        return getattr(self, metric)[statistic] - self.server[metric][statistic]


def bare(server: PerfServer, load: Load, due_s: Sequence[float] = (), *, parse: bool = False) -> Took:
    server.reset()
    job = {
        "url": server.url,
        "parallel": load.parallel,
        "number": load.number,
        "tokens": load.tokens,
        "tokens_low": load.tokens_low,
        "prompt": PROMPT_TOKENS,
        "due_s": list(due_s),
        "parse": parse,
    }
    start = time.monotonic()
    child = run_child("bare_client.py", job)
    r = child.result
    took = took_of("parsing" if parse else "bare", server, start, child.wall_s, number=len(due_s) or load.number)
    took.cpu_s, took.ttft_ms, took.e2e_ms = r["loop_cpu_s"], r["ttft_ms"], r["e2e_ms"]
    took.more = {"rss_bytes": r["rss_bytes"], "report_wall_s": r["wall_s"]}
    return took


def parsing(server: PerfServer, load: Load) -> Took:
    """The bare client, reading every event."""
    return bare(server, load, parse=True)


def generator(server: PerfServer, load: Load, *, warm: bool = True) -> Took:
    """With `warm` after a level of a few requests, so that connections, pools and caches are there."""
    server.reset()
    level = {"parallel": load.parallel, "number": load.number, "rate": load.rate, "arrival": load.arrival}
    first = {"parallel": load.parallel or 8, "number": max(8, load.parallel)}
    job = {
        "url": server.chat_url,
        "tokens": load.tokens,
        "prompt": PROMPT_TOKENS,
        "seats": load.generators,
        "levels": [first, level] if warm else [level],
    }
    child = run_child("generator_run.py", job)
    r = child.result[-1]
    took = took_of("generator", server, 0.0, 0.0, number=load.number, skip=first["number"] if warm else 0)
    took.cpu_s = r["engine_cpu_s"] + r["feeder_cpu_s"]
    took.ttft_ms, took.e2e_ms = r["ttft_ms"], r["e2e_ms"]
    if r["counts"] != {"ok": load.number}:
        raise RuntimeError(f"the generator counts {r['counts']}, not {load.number} ok")
    took.more = r
    return took


def command(server: PerfServer, load: Load, *flags: str, expect: Sequence[int] = (0,)) -> Took:
    """`evalmesh perf` in a folder of its own."""
    server.reset()
    place = ["--parallel", str(load.parallel)] if load.parallel else []
    if load.rate:
        place += ["--rate", str(load.rate), "--arrival", load.arrival]
    words = ["--url", server.chat_url, "--model", "m", *place]
    if load.number:
        words += ["--number", str(load.number)]
    words += ["--dataset", "random", "--generators", str(load.generators)]
    if load.tokens_low:
        words += ["--output-lengths", f"uniform:{load.tokens_low}:{load.tokens}"]
    else:
        words += ["--max-tokens", str(load.tokens)]
    words += ["--min-prompt-length", str(PROMPT_TOKENS), "--max-prompt-length", str(PROMPT_TOKENS)]
    words += ["--no-test-connection", "--server-metrics", "none", "--sleep-interval", "0", *flags]
    with tempfile.TemporaryDirectory(prefix="evalmesh-bench-") as folder:
        script = str(Path(sys.executable).with_name("evalmesh"))
        used, start = os.times(), time.monotonic()
        done = subprocess.run(
            [script, "perf", *words, "--outputs-dir", folder, "--no-timestamp"],
            capture_output=True,
            text=True,
            check=False,
        )
        exec_s, after = time.monotonic() - start, os.times()
        if done.returncode not in expect:
            said = (done.stdout + done.stderr)[-1500:]
            raise RuntimeError(f"evalmesh perf ended with {done.returncode}:\n{said}")
        report = json.loads(Path(folder, "perf.json").read_text())
    took = took_of("command", server, start, exec_s, number=load.number)
    took.cpu_s = after.children_user + after.children_system - used.children_user - used.children_system
    level = report["levels"][-1]
    took.ttft_ms, took.e2e_ms = level["ttft_ms"], level["e2e_ms"]
    took.more = report
    return took


def took_of(client: str, server: PerfServer, start_s: float, exec_s: float, *, number: int, skip: int = 0) -> Took:
    """What the server saw of `number` requests (0: of all); `skip` requests of a warm-up came first."""
    rows = sorted(server.truth(), key=lambda row: row["arrived_s"])
    if number:
        # `evalmesh perf` asks a few times for one token, to learn how the server counts, before the load begins.
        while len(rows) > number and (skip > 0 or int(rows[0]["tokens"]) <= 1):
            del rows[0]
            skip -= 1
    if not rows:
        raise RuntimeError(f"the server saw no request of {client}")
    first_s, last_s = rows[0]["arrived_s"], max(row["end_s"] for row in rows)
    summary = server.summary() | summary_of(rows)
    return Took(
        client,
        last_s - first_s,
        0.0,
        sum(row["outcome"] == "ok" for row in rows),
        summary | {"arrived_s": [row["arrived_s"] for row in rows], "last_s": last_s},
        exec_s=exec_s,
        before_s=first_s - start_s,
        after_s=start_s + exec_s - last_s,
    )


def summary_of(rows: Sequence[dict]) -> dict:
    """The judge's outcomes and percentiles over some of its rows."""
    sound = [row for row in rows if row["outcome"] == "ok"]
    return {
        "outcomes": dict(Counter(row["outcome"] for row in rows)),
        "ttft_ms": percentiles([row["first_s"] - row["arrived_s"] for row in sound]),
        "e2e_ms": percentiles([row["last_s"] - row["arrived_s"] for row in sound]),
    }


def percentiles(values_s: Sequence[float]) -> dict[str, float]:
    """In milliseconds, by linear interpolation."""
    ordered = sorted(values_s)
    if not ordered:
        return {}
    found = {}
    for percent in (50, 90, 99):
        place = percent / 100 * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        found[f"p{percent}"] = 1e3 * (ordered[below] + (ordered[above] - ordered[below]) * (place - below))
    return found | {"max": 1e3 * ordered[-1]}


def arrival_figures(arrived_s: Sequence[float], rate: float) -> dict[str, float]:
    """How well arrivals keep a rate, as the server saw them."""
    gaps = [later - earlier for earlier, later in pairwise(arrived_s)]
    mean = statistics.fmean(gaps)
    off = percentiles([abs(gap - 1 / rate) for gap in gaps])
    return {
        "rate": 1 / mean,
        "rate_error": abs(1 / mean / rate - 1),
        "cv": statistics.stdev(gaps) / mean,
        "gap_error_p50_ms": off["p50"],
        "gap_error_p99_ms": off["p99"],
    }


def paced_ideal_s(load: Load) -> float:
    """A closed loop's wall-clock at a `PACED` server, if asking cost no time: so many waves of the mean length."""
    return math.ceil(load.number / load.parallel) * (MEAN_TTFT_S + (load.tokens - 1) * ITL_S)
