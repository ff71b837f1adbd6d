"""How long a report of many samples takes, and how much memory: `python -m tests.bench.bench_report --samples 1000000`.

The shards of a finished run are laid out first (not measured). Then two things are measured, each in a process of its
own with a real nats-server:

- *arriving*: every shard comes to the barrier, as from scorers that are quicker than any model: counting, folding of
  blocks as they fill, and the end.
- *ending*: all blocks but the last are folded, as when the last answer of a long run comes in:
  from there to the report.
"""

import argparse
import asyncio
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.kit.nats import running_server

from evalmesh.adapters.connections import Connections, open_connections
from evalmesh.adapters.environment import SystemClock
from evalmesh.benchmarks import registry
from evalmesh.domain import layout
from evalmesh.domain.completion import Completion, Timing, Usage
from evalmesh.domain.plan import BLOCK_SHARDS, BenchmarkIndex, BenchmarkPlan, SubsetShards
from evalmesh.domain.progress import BenchmarkRecord
from evalmesh.domain.request import GenerationConfig, Message
from evalmesh.domain.run import RUN_FORMAT, BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.domain.shard_data import PlannedSample, ShardHeader
from evalmesh.domain.stage import PLAIN
from evalmesh.domain.work import Shard, Task, WorkItem
from evalmesh.report_aggregator import service as report_aggregator
from evalmesh.report_aggregator.settings import ReportAggregatorSettings
from evalmesh.runtime.progress import change_progress
from evalmesh.runtime.serve import ServiceHost, new_event_loop
from evalmesh.wire.runs.shard_files import RunFiles

RUN, NAME, SHARD = "bench", "general_mcq", 64


def shard_of(number: int, samples: int) -> Shard:
    size = min(SHARD, samples - number * SHARD)
    return Shard(number, "default", number * SHARD, size, size)


async def lay_out(opened: Connections, samples: int) -> None:
    """Everything that the stages before the end leave behind, with texts of the usual length."""
    spec = RunSpec(ModelSpec("m", url="http://h/v1"), (BenchmarkSpec(NAME),))
    await opened.runs.create(Run(RUN, spec, RunState.RUNNING, time.time(), format=RUN_FORMAT))
    files = RunFiles(opened.objects).of(RUN, NAME)
    plan = BenchmarkPlan(
        RUN,
        NAME,
        registry.get(NAME).version,
        spec.benchmarks[0],
        PLAIN,
        {"model": "p"},
        "d",
        GenerationConfig(),
        1,
        SHARD,
    )
    await files.write_plan(plan)
    await files.write_index(BenchmarkIndex(SHARD, 1, (SubsetShards("default", 0, samples),)))
    count = -(-samples // SHARD)

    def planned(record: BenchmarkRecord) -> bool:
        record.planned, record.shards, record.total = True, count, samples
        return True

    await change_progress(opened.runs, RUN, NAME, planned)
    for number in range(count):
        shard = shard_of(number, samples)
        requests, answers, scores = zip(*map(row_of, range(shard.start, shard.start + shard.samples)), strict=True)
        await files.write_requests(ShardHeader(RUN, NAME, number, "default", plan.generation), requests)
        await files.of("generate").write(number, answers)
        await files.of("score").write(number, scores)


def row_of(index: int) -> tuple[PlannedSample, Completion, Score]:
    """What is kept of one sample."""
    id_, digest = f"default/{index}", f"{index:064x}"
    question = f"Which value belongs to entry {index}? " * 4
    options = tuple(f"value {index} {place}" for place in range(4))
    sample = Sample(id_, index, "default", question, ("ABCD"[index % 4],), options)
    timing = Timing(1.7e9 + index, 0.2 + index % 97 / 100)
    said = "Let me think. " * 20 + "ANSWER: A"
    return (
        PlannedSample(sample, "chat", (digest,), (Message("user", question * 3),)),
        Completion(id_, 0, digest, said, finish_reason="stop", usage=Usage(200, 60), timing=timing),
        Score(id_, 0, "scored", {"accuracy": float(index % 4 == 0)}, "A", "answer-marker", "'A' equals 'A'."),
    )


async def report(opened: Connections, shards: range, samples: int) -> float:
    """Seconds from the first of these arrivals to the end state."""
    service = report_aggregator.build(
        settings=ReportAggregatorSettings(),
        runs=opened.runs,
        load_tests=opened.load_tests,
        bus=opened.bus,
        objects=opened.objects,
        clock=SystemClock(),
    )
    host = ServiceHost([service], "127.0.0.1:0")
    await host.start()
    start = time.perf_counter()
    items = [WorkItem(RUN, Task.ARRIVE, NAME, "score", shard=shard_of(number, samples)) for number in shards]
    await opened.bus.publish(items)
    if shards.stop * SHARD >= samples:
        while not (await opened.runs.get(RUN)).value.state.terminal:  # noqa: ASYNC110  (as a client does)
            await asyncio.sleep(0.05)
    else:
        while await opened.bus.pending(RUN):  # noqa: ASYNC110  (likewise)
            await asyncio.sleep(0.1)
    seconds = time.perf_counter() - start
    await host.stop()
    return seconds


async def part(folder: Path, name: str, samples: int) -> None:
    count = -(-samples // SHARD)
    most = (count - 1) // BLOCK_SHARDS * BLOCK_SHARDS
    shards = {"layout": None, "arriving": range(count), "most": range(most), "ending": range(most, count)}[name]
    with running_server(folder / "nats") as nats:
        async with open_connections(nats.url, (folder / "objects").as_uri(), "bench", 10.0) as opened:
            if shards is None:
                await lay_out(opened, samples)
                return
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            cpu = time.process_time()
            seconds = await report(opened, shards, samples)
            figures = {
                "seconds": round(seconds, 2),
                "cpu_s": round(time.process_time() - cpu, 2),
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "before_mib": before // 1024,
            }
            if shards.stop == count:
                document = json.loads(await opened.objects.get(layout.report_json_key(RUN)))
                assert document["benchmarks"][0]["metrics"][0]["n_scored"] == samples
            print(json.dumps(figures))


def run_part(folder: Path, name: str, samples: int) -> str:
    command = [
        sys.executable,
        "-m",
        "tests.bench.bench_report",
        "--samples",
        str(samples),
        "--part",
        name,
        "--folder",
        str(folder),
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--part", default="")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if args.part:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(part(args.folder, args.part, args.samples))
        return
    with TemporaryDirectory(prefix="evalmesh-bench-") as folder:
        laid = Path(folder) / "laid"
        run_part(laid, "layout", args.samples)
        for names in (("arriving",), ("most", "ending")):
            here = Path(folder) / names[-1]
            shutil.copytree(
                laid,
                here,
                copy_function=lambda a, b: Path(b).hardlink_to(a) if "/objects/" in str(a) else shutil.copy2(a, b),
            )
            for name in names:
                print(f"{name:10} {args.samples} samples: {run_part(here, name, args.samples)}", flush=True)


if __name__ == "__main__":
    main()
