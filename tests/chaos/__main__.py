"""Random kills: `python -m tests.chaos --runs 100 --seed 1 [--engine]` (or `make chaos N=100`).

Each run is one evaluation on `evalmesh up --processes --runners 3`, disturbed one to three times, at moments and by
means that its seed decides: kill -9 of a service, of nats-server, of everything; a runner told to drain. Afterwards
every sample must be in the results once, the metrics must equal those of an undisturbed run, no run may be stuck, and
what was asked again is at most what was in flight, and answered in the last second, where a runner died. With
`--engine` the model is one that the engine transformers runs, whose processes are killed too; nobody counts what it is
asked.

Prints a line per run and a summary; exits with 1 if anything was lost, doubled, stuck or asked too often.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from evalmesh.domain.errors import EvalmeshError
from evalmesh.domain.request import GenerationConfig
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, Run, RunSpec, RunState
from evalmesh.sdk import AsyncClient
from tests.kit.platform import metrics_of, write_questions
from tests.kit.simulator import SimulatorProcess, simulator
from tests.kit.tiny_model import trained_model, write_sums
from tests.kit.truth import asked_again, results_of

T = TypeVar("T")

NAME = "general_mcq"
SUMS = "general_qa"
SAMPLES = 480
CONCURRENCY = 8
RUNNERS = 3
LATENCY_MS = 80
WITHIN_S = 120.0
SPAN_S = 5.0
"""Undisturbed a run takes about this long; trouble comes within it."""
ROOMS = ("gateway", "dataset_loader", "model_runner", "scorer", "report_aggregator")
KINDS = (*ROOMS, "model_runner", "nats-server", "nats-server", "everything", "drain", "drain")
OF_ENGINES = ("engine", "engine", "engine", "model_runner", "nats-server", "everything", "drain")


def children_of(pid: int) -> dict[int, list[str]]:
    """Processes below one, by id, with their command lines."""
    parents: dict[int, tuple[int, list[str]]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            parents[int(entry.name)] = (parent, command)
    found: dict[int, list[str]] = {}
    below = {pid}
    while below:
        below = {child for child, (parent, _) in parents.items() if parent in below and child not in found}
        found |= {child: parents[child][1] for child in below}
    return found


@dataclass
class Platform:
    """`evalmesh up` in a process of its own, which may be killed and started again at the same address."""

    work_dir: Path
    port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        await asyncio.to_thread(self.work_dir.mkdir, exist_ok=True)
        command = (sys.executable, "-m", "evalmesh.cli", "up", "--processes", "--runners", str(RUNNERS))
        for _ in range(60):
            log = (self.work_dir / "up.log").open("ab")
            self.process = await asyncio.create_subprocess_exec(
                *command, "--work-dir", str(self.work_dir), "--address", self.address,
                stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
            log.close()
            assert self.process.stdout is not None
            # The children of one that was killed need a moment to follow it.
            if await self.process.stdout.readline():
                return
            await self.process.wait()
            await asyncio.sleep(0.5)
        raise AssertionError(f"the platform does not start; see {self.work_dir / 'up.log'}")

    def pids(self, what: str) -> list[int]:
        assert self.process is not None
        below = children_of(self.process.pid)
        if what == "nats-server":
            return [pid for pid, command in below.items() if command and command[0].endswith("nats-server")]
        module = "evalmesh.adapters.engines.child" if what == "engine" else f"evalmesh.{what}"
        return [pid for pid, command in below.items() if module in command]

    async def kill(self) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        await self.process.wait()


@dataclass
class Trouble:
    """What is done to one run, and what may therefore be asked again."""

    plan: list[tuple[float, str]]
    done: list[str] = field(default_factory=list)
    allowance: int = 0

    @classmethod
    def of(cls, rng: random.Random, kinds: Sequence[str] = KINDS) -> "Trouble":
        return cls(sorted((rng.uniform(0.05, SPAN_S), rng.choice(kinds)) for _ in range(rng.randint(1, 3))))

    async def make(self, platform: Platform, model: SimulatorProcess | None, rng: random.Random) -> None:
        start = time.monotonic()
        for at, kind in self.plan:
            await asyncio.sleep(max(0.0, start + at - time.monotonic()))
            in_flight = "?" if model is None else (await asyncio.to_thread(model.stats))["in_flight"]
            if kind == "everything":
                await platform.kill()
                await platform.start()
            else:
                pids = platform.pids("model_runner" if kind == "drain" else kind)
                if not pids:
                    continue
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rng.choice(pids), signal.SIGTERM if kind == "drain" else signal.SIGKILL)
            if kind in {"everything", "model_runner", "drain"}:
                # In flight, and what was answered since the last checkpoint, which is at most a second old.
                runners = RUNNERS if kind == "everything" else 1
                self.allowance += runners * (CONCURRENCY + int(CONCURRENCY * 1000 / LATENCY_MS))
            self.done.append(f"{kind}@{at:.1f}({in_flight})")


@dataclass
class Outcome:
    """How one run ended."""

    trouble: str
    seconds: float
    problems: list[str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def heard(call: Callable[[], Awaitable[T]]) -> T:
    """What is asked until it is heard: the gateway may be away."""
    while True:
        try:
            return await call()
        except EvalmeshError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(0.2)


async def one(folder: Path, seed: int, spec: RunSpec, model: SimulatorProcess | None, truth: dict[str, Any]) -> Outcome:
    """One platform, one run, its trouble, and what is wrong with the end."""
    rng = random.Random(seed)
    platform = Platform(folder, free_port())
    trouble = Trouble.of(rng, OF_ENGINES if model is None else KINDS)
    if model is not None:
        model.reset()
    start = time.monotonic()
    problems = []
    await platform.start()
    try:
        async with AsyncClient(platform.address) as client:
            # An engine that is killed while its model is tried is a refused run, and nothing is lost.
            run = None if model is not None else await client.create_run(spec)
            making = asyncio.create_task(trouble.make(platform, model, rng))
            try:
                async with asyncio.timeout(WITHIN_S):
                    run = run or await heard(lambda: client.create_run(spec, request_id=f"chaos-{seed}"))
                    run = await heard(lambda: client.wait_run(run))
                    await making
                    problems = await heard(lambda: wrong_with(client, run, spec.benchmarks[0].name, truth))
            except TimeoutError:
                problems = ["stuck"]
            except EvalmeshError as error:
                problems = [f"{type(error).__name__}: {error.message}"]
            finally:
                making.cancel()
                await asyncio.gather(making, return_exceptions=True)
        again = 0 if model is None else asked_again(model, NAME)
        if again > trouble.allowance:
            problems.append(f"asked again {again} > {trouble.allowance}")
    finally:
        await platform.stop()
    return Outcome(" ".join(trouble.done) or "undisturbed", time.monotonic() - start, problems)


async def wrong_with(client: AsyncClient, run: Run, name: str, truth: dict[str, Any]) -> list[str]:
    problems = []
    if run.state is not RunState.SUCCEEDED:
        problems.append(f"{run.state}: {run.error}")
    rows = [(row["sample_id"], row["repeat"]) for row in await results_of(client, run, name)]
    if len(rows) != SAMPLES or len(set(rows)) != SAMPLES:
        problems.append(f"{len(rows)} rows, {len(set(rows))} of them different")
    if (metrics := await metrics_of(client, run, name)) != truth:
        problems.append(f"metrics {metrics}")
    return problems


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[SimulatorProcess, RunSpec]]:
    questions = write_questions(folder / "questions.jsonl", SAMPLES)
    arguments = json.dumps({NAME: {"local_path": str(questions)}})
    with simulator("--benchmarks", NAME, "--dataset-args", arguments, "--ttft", f"{LATENCY_MS}ms") as model:
        benchmark = BenchmarkSpec(NAME, local_path=str(questions))
        endpoint = ModelSpec("simulated", url=model.url, concurrency=CONCURRENCY)
        yield model, RunSpec(endpoint, (benchmark,), shard_size=16)


@contextlib.contextmanager
def trained(folder: Path) -> Iterator[tuple[None, RunSpec]]:
    """A model that adds, mostly."""
    model = trained_model(folder / "model")
    benchmark = BenchmarkSpec(SUMS, local_path=str(write_sums(folder / "sums.jsonl", SAMPLES)))
    runs_here = ModelSpec(str(model), engine="transformers", concurrency=CONCURRENCY)
    yield None, RunSpec(runs_here, (benchmark,), generation=GenerationConfig(max_tokens=8), shard_size=16)


async def baseline(folder: Path, spec: RunSpec) -> dict[str, Any]:
    platform = Platform(folder, free_port())
    await platform.start()
    try:
        async with AsyncClient(platform.address) as client:
            run = await asyncio.wait_for(client.wait_run(await client.create_run(spec)), WITHIN_S)
            return await metrics_of(client, run, spec.benchmarks[0].name)
    finally:
        await platform.stop()


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the others follow")
    parser.add_argument("--engine", action="store_true", help="the model is run by the engine transformers")
    args = parser.parse_args()
    bad = 0
    asked = trained if args.engine else served
    with TemporaryDirectory(prefix="evalmesh-chaos-") as name, asked(Path(name)) as (model, spec):
        folder = Path(name)
        truth = await baseline(folder / "baseline", spec)
        for seed in range(args.seed, args.seed + args.runs):
            outcome = await one(folder / str(seed), seed, spec, model, truth)
            bad += bool(outcome.problems)
            said = "; ".join(outcome.problems) or "ok"
            print(f"{seed:6} {outcome.seconds:6.1f} s  {said:10} {outcome.trouble}", flush=True)
    print(f"{args.runs} runs, {args.runs - bad} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
