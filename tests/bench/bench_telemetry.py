"""What telemetry costs a run: nothing worth a word while it is off, and how much while it is sent or shown.

    .venv/bin/python -m tests.bench.bench_telemetry [--rounds 5] [--limit 400]

Off is measured twice over. The calls that a run makes (counted by a listener and a collector) are timed while nobody
listens, as a share of the run's CPU: that resolves far below what two runs of a busy machine differ by. Against a
checkout without telemetry, `tests/bench/against.py` compares whole runs.
"""

import argparse
import os
import statistics
import time
from contextlib import ExitStack, contextmanager

from opentelemetry import trace
from tests.bench.measure import run_child, simulator, table
from tests.kit.otlp import collector

from evalmesh.runtime.telemetry import span
from evalmesh.runtime.telemetry.instruments import measuring
from evalmesh.runtime.telemetry.metrics import CALL_DURATION, COMPLETIONS
from evalmesh.runtime.telemetry.traces import tracing

MOST_OFF = 0.01
LOOPS = 200_000


def off_s(call):
    """Of one call while nobody listens: best of five."""
    times = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(LOOPS):
            call()
        times.append((time.process_time() - start) / LOOPS)
    return min(times)


def a_span():
    with span("nothing", {"a": 1}, trace.SpanKind.CONSUMER):
        pass


def a_request():
    """What the model runner asks before it tells anything of a call."""
    return tracing() or measuring()


@contextmanager
def environment(**variables):
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def measured(job, way, url):
    with ExitStack() as stack:
        if way == "otlp":
            stack.enter_context(environment(OTEL_EXPORTER_OTLP_ENDPOINT=url))
        wish = {**job, "metrics_address": "127.0.0.1:0"} if way == "/metrics" else job
        return run_child("platform_run.py", wish).result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=100, help="samples of each subset of starter_mcq")
    options = parser.parse_args()
    ways = ("off", "/metrics", "otlp")
    with simulator(["--benchmarks", "starter_mcq", "starter_math"]) as server, collector() as seen:
        job = {
            "benchmarks": [{"name": "starter_mcq"}, {"name": "starter_math"}],
            "limit": options.limit,
            "repeats": 20,
            "url": server.url,
            "timeline": False,
        }
        rounds = [{way: measured(job, way, seen.url) for way in ways} for _ in range(options.rounds + 1)][1:]
        runs = options.rounds + 1
        spans = len(seen.spans) / runs
        calls = sum(point.count or point.value for point in seen.points) / runs
    requests = rounds[0]["off"]["samples"]
    cpu = {way: statistics.median(one[way]["cpu_s"] for one in rounds) for way in ways}
    ratio = {way: statistics.median(one[way]["cpu_s"] / one["off"]["cpu_s"] for one in rounds) for way in ways}
    table(
        f"A run of {requests} requests, {spans:.0f} spans, some {calls:.0f} counts",
        ("", "CPU ms per request", "ratio to off"),
        [(way, 1e3 * cpu[way] / requests, ratio[way]) for way in ways],
    )
    count = max(off_s(lambda: COMPLETIONS.add(1, "m", "h", "80", "")), off_s(lambda: CALL_DURATION.record(1.0, "m")))
    # Spans of calls are one test while nobody listens, those of shards and items are blocks.
    blocks = spans - requests
    share = (requests * off_s(a_request) + blocks * off_s(a_span) + calls * count) / cpu["off"]
    print(f"off: {share:.3%} of the run's CPU ({'met' if share < MOST_OFF else 'NOT MET'}: under {MOST_OFF:.0%})")


if __name__ == "__main__":
    main()
