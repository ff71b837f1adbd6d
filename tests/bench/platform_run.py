"""One run on a platform of its own, in this process, driven by the SDK; prints what it took as JSON.

The window measured goes from `create_run` to the report in hand. Its CPU is that of this process (all services and the
SDK) and of its children (nats-server, scoring processes).

    python tests/bench/platform_run.py '{"url": "http://127.0.0.1:8801/v1", "benchmarks": [{"name": "starter_math"}]}'
"""

import heapq
import json
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import uvloop
from measure import cpu_s

from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec
from evalmesh.local.platform import open_platform
from evalmesh.local.settings import LocalSettings
from evalmesh.runtime.garbage import keep_what_is_loaded
from evalmesh.runtime.telemetry import configure_logging
from evalmesh.sdk import AsyncClient


def spec_of(job):
    model = ModelSpec("simulated", url=job["url"], concurrency=job.get("concurrency", 64))
    benchmarks = tuple(BenchmarkSpec(**wish) for wish in job["benchmarks"])
    return RunSpec(
        model,
        benchmarks,
        limit=job.get("limit"),
        dataset_dir=job.get("dataset_dir", ""),
        repeats=job.get("repeats", 1),
    )


async def measured_run(client, spec):
    started_at, cpu, wall = time.time(), cpu_s(os.getpid()), time.perf_counter()
    run = await client.create_run(spec)
    states = {"CREATED": time.perf_counter() - wall}
    async for update in client.watch_run(run):
        states.setdefault(str(update.state), time.perf_counter() - wall)
        run = update
    report = await client.report(run)
    figures = {
        "run_s": time.perf_counter() - wall,
        "cpu_s": cpu_s(os.getpid()) - cpu,
        "states_s": states,
        "started_at": started_at,
    }
    metrics = [one["metrics"][0] for one in report["benchmarks"]]
    figures["samples"] = sum(one["n_scored"] + one["n_errored"] + one["n_unscored"] for one in metrics)
    figures["errored"] = sum(one["n_errored"] for one in metrics)
    figures["value"] = metrics[0]["value"]
    figures["state"] = str(run.state)
    return run, figures


async def timeline(client, run, names, folder):
    """When requests left and how long they took, as the runner saw it."""
    sent = []
    for name in names:
        path = await client.export(run, f"results/{name}.parquet", folder / f"{name}.parquet")
        columns = pq.read_table(path, columns=["start_time", "latency_s"]).to_pydict()
        sent += zip(columns["start_time"], columns["latency_s"], strict=True)
    return sorted(sent)


def greedy_s(latencies_s, slots):
    """Makespan of requests sent in this order, each as soon as a slot is free and at no cost."""
    free_at = [0.0] * slots
    for latency_s in latencies_s:
        heapq.heapreplace(free_at, free_at[0] + latency_s)
    return max(free_at)


def summed(sent, slots):
    latencies_s = [latency_s for _, latency_s in sent]
    return {
        "requests": len(sent),
        "latency_sum_s": sum(latencies_s),
        "latency_max_s": max(latencies_s),
        "greedy_s": greedy_s(latencies_s, slots),
        "busy_s": max(start + latency_s for start, latency_s in sent) - sent[0][0],
    }


@contextmanager
def exported():
    """Telemetry, where the environment asks for it; checkouts before it was there are measured with this file too."""
    if "OTEL_EXPORTER_OTLP_ENDPOINT" not in os.environ:
        yield
        return
    from evalmesh.runtime.telemetry.opening import telemetry_sent  # noqa: PLC0415  (see above)

    with telemetry_sent(alone=False):
        yield


async def main(job):
    with tempfile.TemporaryDirectory(prefix="evalmesh-bench-") as folder:
        async with AsyncExitStack() as stack:
            settings = LocalSettings(Path(folder))
            if job.get("metrics_address"):
                settings = replace(settings, metrics_address=job["metrics_address"])
            wall = time.perf_counter()
            platform = await stack.enter_async_context(open_platform(settings))
            client = await stack.enter_async_context(AsyncClient(platform.address))
            opened_s = time.perf_counter() - wall
            keep_what_is_loaded()  # as the command line does
            run, figures = await measured_run(client, spec_of(job))
            figures["open_s"] = opened_s
            started_at = figures.pop("started_at")
            if job.get("timeline", True):
                sent = await timeline(client, run, [one["name"] for one in job["benchmarks"]], Path(folder))
                figures |= summed(sent, job.get("concurrency", 64))
                # Until the first request: validation and planning. After the last answer: scores and report.
                figures["before_s"] = sent[0][0] - started_at
                figures["after_s"] = figures["run_s"] - figures["before_s"] - figures["busy_s"]
    print(json.dumps(figures))


if __name__ == "__main__":
    configure_logging("bench", "ERROR")
    with exported():
        uvloop.run(main(json.loads(sys.argv[1])))
