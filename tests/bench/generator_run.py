"""One seat of a load test, feeder and engine alone: what a generator costs without a platform around it.

    python tests/bench/generator_run.py '{"url": "http://.../v1/chat/completions", "tokens": 64,
                                          "levels": [{"parallel": 64, "number": 2000}]}'

All levels are run by the same two processes, one after the other. A level has `parallel`, `number`, `rate`, `arrival`.
Several `seats` are as many pairs, which begin each level at the same moment.
"""

import asyncio
import json
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import uvloop
from measure import cpu_s, rss_bytes

from evalmesh.domain.load_test import ArrivalSpec, Lengths, LoadLevel, LoadTarget, PromptSpec
from evalmesh.load.measure.records import FIELDS, HEADER, Flag, Outcome
from evalmesh.load_generator.protocol import EngineSetup, FeederSetup, FeedLevel, RunLevel
from evalmesh.load_generator.seat.pair import GeneratorPair
from evalmesh.load_generator.seat.shares import share_of

LEAD_S = 0.1
RECORDS = np.dtype([(name, {"I": "<u4", "H": "<u2", "B": "u1", "d": "<f8", "f": "<f4"}[code]) for name, code in FIELDS])


class Seat:
    def __init__(self, number, seats, folder):
        self.number, self.seats, self.folder = number, seats, folder
        self.pair = GeneratorPair()

    async def open(self, job):
        target = LoadTarget(url=job["url"], model="m")
        tokens = job["tokens"]
        prompts = PromptSpec(
            input_tokens=Lengths("fixed", job.get("prompt", 32), job.get("prompt", 32)),
            output_tokens=Lengths("fixed", tokens, tokens),
        )
        await self.pair.start()
        setup = FeederSetup(target, prompts, "", "", job.get("seed", 42), self.number, self.seats)
        await self.pair.set_up(EngineSetup(target, {}, self.number), setup)

    async def perform(self, number, level, arrival, start):
        records = self.folder / f"{self.number}-{number}.bin"
        mine = share_of(level, self.number, self.seats)
        run = RunLevel(number, mine, arrival, str(records), 30.0, {})
        feed = FeedLevel(number, level, arrival, 0, number * 1_000_000)
        performance = await self.pair.perform(run, feed, start, lambda tick: None)
        if performance.done is None or performance.done.error:
            raise RuntimeError(performance.error or performance.done.error)
        return performance.done, read(records)


class Barrier:
    """Says the same moment to all seats, once all are ready."""

    def __init__(self, seats):
        self.left = seats
        self.open = asyncio.Event()
        self.at = 0.0

    async def __call__(self):
        self.left -= 1
        if not self.left:
            self.at = time.monotonic() + LEAD_S
            self.open.set()
        await self.open.wait()
        return self.at


def read(path):
    data = path.read_bytes()
    path.unlink()
    return np.frombuffer(data, RECORDS, (len(data) - HEADER.size) // RECORDS.itemsize, HEADER.size)


def quantiles(values_s):
    if not len(values_s):
        return {}
    found = np.quantile(values_s, (0.5, 0.9, 0.99, 1.0)) * 1e3
    return dict(zip(("p50", "p90", "p99", "max"), map(float, found), strict=True))


def figures_of(dones, records, started_s):
    kept = records[(records["flags"] & Flag.WARMUP) == 0]
    ok = kept[kept["outcome"] == Outcome.OK]
    counts = {}
    for done in dones:
        for name, count in done.counts.items():
            counts[name] = counts.get(name, 0) + count
    return {
        "counts": counts,
        "records": len(records),
        "wall_s": max(done.wall_s for done in dones),
        "engine_cpu_s": sum(done.cpu_s for done in dones),
        "engine_rss_bytes": max(done.max_rss_bytes for done in dones),
        "loop_lag_p99_ms": max(done.loop_lag_p99_ms for done in dones),
        "peak_in_flight": sum(done.peak_in_flight for done in dones),
        "tokens": int(ok["output_tokens"].sum()),
        "ttft_ms": quantiles(ok["first_s"] - ok["send_s"]),
        "e2e_ms": quantiles(ok["last_s"] - ok["send_s"]),
        "send_lag_ms": quantiles((kept["send_s"] - kept["due_s"])[~np.isnan(kept["send_s"])]),
        "span_s": float(np.nanmax(kept["end_s"]) - np.nanmin(kept["send_s"])) if len(kept) else 0.0,
        "due_s": sorted(map(float, kept["due_s"])) if len(kept) <= 20_000 else [],
        "started_s": started_s,
    }


async def main(job):
    seats = job.get("seats", 1)
    with tempfile.TemporaryDirectory(prefix="evalmesh-bench-") as folder:
        opened = [Seat(number, seats, Path(folder)) for number in range(seats)]
        found = []
        try:
            await asyncio.gather(*(seat.open(job) for seat in opened))
            for number, wish in enumerate(job["levels"]):
                arrival = ArrivalSpec(wish.pop("arrival", "closed"))
                level = msgspec.convert(wish, LoadLevel)
                feeders = [seat.pair.pids[1] for seat in opened]
                fed_s, asked_s = sum(map(cpu_s, feeders)), time.monotonic()
                barrier = Barrier(seats)
                done = await asyncio.gather(*(seat.perform(number, level, arrival, barrier) for seat in opened))
                figures = figures_of([one for one, _ in done], np.concatenate([r for _, r in done]), barrier.at)
                figures["feeder_cpu_s"] = sum(map(cpu_s, feeders)) - fed_s
                figures["ready_s"] = barrier.at - asked_s
                with suppress(OSError):
                    figures["feeder_rss_bytes"] = max(max(rss_bytes(pid).values()) for pid in feeders)
                found.append(figures)
        finally:
            await asyncio.gather(*(seat.pair.close() for seat in opened))
    print(json.dumps(found))


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
