"""The services as a cluster runs them: each a process of its own, told everything by its environment.

And what their tests need to begin in the middle: questions, and a run that is planned.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from evalmesh.adapters.connections import Connections
from evalmesh.adapters.datasets import LocalDatasets
from evalmesh.adapters.environment import SystemClock
from evalmesh.dataset_loader.worker import PlanWorker
from evalmesh.domain.plan import BenchmarkIndex, BenchmarkPlan
from evalmesh.domain.run import RUN_FORMAT, Run, RunSpec, RunState
from evalmesh.domain.work import Task, WorkItem
from evalmesh.results.finding import Datasets
from evalmesh.runtime.control import ControlView
from evalmesh.runtime.runs import RunRecords
from evalmesh.runtime.telemetry import continue_trace
from evalmesh.wire.runs.shard_files import BenchmarkFiles, RunFiles

ROOMS = ("dataset_loader", "model_runner", "scorer", "load_generator", "report_aggregator", "gateway")
_START_S = 30.0
_STOP_S = 20.0


class ServiceChild:
    """`python -m evalmesh.<room>`; its log is kept line by line."""

    def __init__(self, room: str, environment: Mapping[str, str]) -> None:
        self.room = room
        # Nothing of the tester's own settings may leak in: the environment given is all a pod would have.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EVALMESH_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"evalmesh.{room}"],
            # Who may call, what may be asked and what read has tests of its own; the others are about something else.
            env={
                **inherited,
                "EVALMESH_ADDRESS": "127.0.0.1:0",
                "EVALMESH_AUTH": "none",
                "EVALMESH_EGRESS": "open",
                "EVALMESH_DATASET_LOADER_ROOTS": "/",
                "EVALMESH_LOAD_GENERATOR_ROOTS": "/",
                "EVALMESH_MODEL_RUNNER_ROOTS": "/",
                **environment,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.port = 0
        self.printed: queue.Queue[str] = queue.Queue()
        self._log: list[str] = []
        self._readers = [
            threading.Thread(target=_read, args=(self.process.stderr, self._log.append), daemon=True),
            threading.Thread(target=_read, args=(self.process.stdout, self.printed.put), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def stderr(self) -> str:
        """What it has logged and said so far."""
        return "\n".join(self._log)

    def logs(self) -> list[dict[str, Any]]:
        """Its log; every line must be a JSON object."""
        return [json.loads(line) for line in list(self._log)]

    def wait_listening(self) -> "ServiceChild":
        try:
            line = self.printed.get(timeout=_START_S)
        except queue.Empty:
            raise AssertionError(f"{self.room} did not start:\n{self.stderr}") from None
        assert line.startswith(f"{self.room} listening on port "), line
        self.port = int(line.rsplit(" ", 1)[1])
        return self

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = _STOP_S) -> int:
        """Its exit code; what it said is complete afterwards."""
        code = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join(5)
        return code

    def stop(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for reader in self._readers:
            reader.join(5)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def _read(pipe: IO[str], take: Any) -> None:
    for line in pipe:
        take(line.rstrip("\n"))


@contextmanager
def service(room: str, environment: Mapping[str, str]) -> Iterator[ServiceChild]:
    """One service, listening."""
    child = ServiceChild(room, environment)
    try:
        yield child.wait_listening()
    finally:
        child.stop()


@contextmanager
def all_services(environment: Mapping[str, str]) -> Iterator[dict[str, ServiceChild]]:
    """All of them, by room; the gateway knows where the others are."""
    with ExitStack() as stack:
        children = {}
        for room in ROOMS[:-1]:
            children[room] = ServiceChild(room, environment)
            stack.callback(children[room].stop)
        where = {
            f"EVALMESH_GATEWAY_{room.upper()}_ADDRESS": child.wait_listening().address
            for room, child in children.items()
        }
        children["gateway"] = stack.enter_context(service("gateway", {**environment, **where}))
        yield children


def write_questions(path: Path, count: int, first: int = 0) -> Path:
    """Multiple-choice questions for `general_mcq`: own ones, so that a test needs no data but itself."""
    with path.open("w") as file:
        for number in range(first, first + count):
            options = {letter: f"value {number * 7 + place}" for place, letter in enumerate("ABCD")}
            row = {"question": f"Which value belongs to entry {number}?", **options, "answer": "ABCD"[number % 4]}
            file.write(json.dumps(row) + "\n")
    return path


@dataclass(frozen=True)
class Planned:
    """What planning a run has led to."""

    run: str
    files: RunFiles
    plans: dict[str, BenchmarkPlan]
    indices: dict[str, BenchmarkIndex]

    @property
    def pool(self) -> str:
        """The pool of the model under test."""
        return next(iter(self.plans.values())).pools["model"]

    @property
    def requests(self) -> int:
        return sum(index.requests for index in self.indices.values())

    def of(self, benchmark: str) -> BenchmarkFiles:
        return self.files.of(self.run, benchmark)


async def plan_run(opened: Connections, run_id: str, spec: RunSpec, *, attempt: int = 0) -> Planned:
    """A run as it stands after planning: record, plans, shards and pools exist, its items are queued."""
    if attempt == 0:
        await opened.runs.set_active(run_id, active=True)
        now = time.time()
        await opened.runs.create(Run(run_id, spec, RunState.QUEUED, now, format=RUN_FORMAT, change_time=now))
    files = RunFiles(opened.objects)
    worker = PlanWorker(
        files=files,
        records=RunRecords(opened.runs, opened.bus, SystemClock()),
        control=ControlView(opened.runs),
        datasets=Datasets(LocalDatasets()),
    )
    with continue_trace({}):
        await worker.handle(WorkItem(run_id, Task.PLAN, attempt=attempt))
    plans, indices = {}, {}
    for one in spec.benchmarks:
        plans[one.name] = await files.of(run_id, one.name).read_plan()
        indices[one.name] = await files.of(run_id, one.name).find_index()
    return Planned(run_id, files, plans, indices)
