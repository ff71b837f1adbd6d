"""One run on a platform of its own, in this process, driven by the SDK; prints what it took as JSON.

The window measured goes from `create_run` to the report in hand. Its CPU is that of this process (all services and the
SDK) and of its children (nats-server, scoring processes).

    python tests/bench/platform_run.py '{"url": "http://127.0.0.1:8801/v1", "benchmarks": [{"name": "starter_math"}]}'
"""

import json
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import uvloop
from measure import cpu_s

from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec
from evalmesh.local.platform import LocalSettings, open_platform
from evalmesh.runtime.telemetry import configure_logging
from evalmesh.sdk import AsyncClient


def spec_of(job):
    model = ModelSpec("sim", url=job["url"], concurrency=job.get("concurrency", 64))
    benchmarks = tuple(BenchmarkSpec(**wish) for wish in job["benchmarks"])
    return RunSpec(model, benchmarks, limit=job.get("limit"), dataset_dir=job.get("dataset_dir", ""))


async def measured_run(client, spec):
    cpu, wall = cpu_s(os.getpid()), time.perf_counter()
    run = await client.create_run(spec)
    states = {"CREATED": time.perf_counter() - wall}
    async for update in client.watch_run(run):
        states.setdefault(str(update.state), time.perf_counter() - wall)
        run = update
    report = await client.report(run)
    figures = {"run_s": time.perf_counter() - wall, "cpu_s": cpu_s(os.getpid()) - cpu, "states_s": states}
    metrics = [one["metrics"][0] for one in report["benchmarks"]]
    figures["samples"] = sum(one["n_scored"] + one["n_errored"] + one["n_unscored"] for one in metrics)
    figures["errored"] = sum(one["n_errored"] for one in metrics)
    figures["value"] = metrics[0]["value"]
    figures["state"] = str(run.state)
    return run, figures


async def timeline(client, run, names, folder):
    """Latencies as the runner saw them, and when the first request left and the last answer came."""
    total, longest, first, last, count = 0.0, 0.0, float("inf"), 0.0, 0
    for name in names:
        path = await client.export(run, f"results/{name}.parquet", folder / f"{name}.parquet")
        table = pq.read_table(path, columns=["start_time", "latency_s"])
        latency, start = table["latency_s"], table["start_time"]
        count += len(latency)
        total += pc.sum(latency).as_py()
        longest = max(longest, pc.max(latency).as_py())
        first = min(first, pc.min(start).as_py())
        last = max(last, pc.max(pc.add(start, latency)).as_py())
    return {"requests": count, "latency_sum_s": total, "latency_max_s": longest, "busy_s": last - first}


async def main(job):
    with tempfile.TemporaryDirectory(prefix="evalmesh-bench-") as folder:
        async with AsyncExitStack() as stack:
            wall = time.perf_counter()
            platform = await stack.enter_async_context(open_platform(LocalSettings(Path(folder))))
            client = await stack.enter_async_context(AsyncClient(platform.address))
            opened_s = time.perf_counter() - wall
            run, figures = await measured_run(client, spec_of(job))
            figures["open_s"] = opened_s
            figures |= await timeline(client, run, [one["name"] for one in job["benchmarks"]], Path(folder))
    print(json.dumps(figures))


if __name__ == "__main__":
    configure_logging("bench", "ERROR")
    uvloop.run(main(json.loads(sys.argv[1])))
