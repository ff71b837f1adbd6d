"""Load tests from the outside: submitted, waited for, and laid beside what the server says it did.

Times of both sides are of this machine's monotonic clock, the server's as they are, the client's since the level's
start. Nothing is compared by way of both clocks but where a test says so.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from evalmesh.domain.load_test import LoadTarget, LoadTest, LoadTestSpec
from evalmesh.domain.state import State
from evalmesh.local.platform import open_platform
from evalmesh.local.settings import LocalSettings
from evalmesh.sdk import AsyncClient
from tests.kit.simulator import SimulatorProcess

Floats = NDArray[np.float64]
Line = Mapping[str, Any]
AT_WORK = frozenset({"load_generator", "report_aggregator"})
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_TRIES = 4
_ROUNDED_S = 1e-5
"""Documents hold seven digits."""


def put_first(*process_ids: int) -> None:
    """Lets processes run before all others, where the system allows it.

    Whatever else the machine does would otherwise stand in the latencies, and the server does not tell of it.
    """
    if hasattr(os, "sched_setscheduler"):
        for process_id in process_ids:
            with suppress(OSError):
                os.sched_setscheduler(process_id, os.SCHED_RR, os.sched_param(1))


def engines() -> list[int]:
    """Processes of this one that send load."""
    children = Path("/proc/self/task")
    if not children.is_dir():
        return []
    ids = {int(one) for task in children.iterdir() for one in (task / "children").read_text().split()}
    return [one for one in ids if b"load_generator.engine" in Path(f"/proc/{one}/cmdline").read_bytes()]


@asynccontextmanager
async def load_platform(work_dir: Path, generators: int = 1) -> AsyncIterator[AsyncClient]:
    """A platform with seats for load tests, and a client of it."""
    settings = LocalSettings(work_dir, generators=generators, at_work=AT_WORK, ack_wait_s=2.0)
    async with open_platform(settings) as platform, AsyncClient(platform.address) as client:
        yield client


def target(model: SimulatorProcess, path: str = "/chat/completions", **more: Any) -> LoadTarget:
    """The simulator as an endpoint under load."""
    return LoadTarget(url=model.url + path, model="simulated", **more)


def prompt_of(row: int) -> str:
    """The prompt in line `row` of `write_prompts`."""
    return f"Tell me about number {row}."


def write_prompts(path: Path, count: int) -> Path:
    """One prompt a line, no two alike, so that each request can be found again at the server."""
    path.write_text("".join(f"{prompt_of(row)}\n" for row in range(count)))
    return path


@dataclass(frozen=True)
class Measured:
    """A load test of one level: its document, its requests by column, and the server's own account of them."""

    document: Line
    requests: Mapping[str, NDArray[Any]]
    """Columns of `requests.parquet`, in order of index and turn, warm-up included; what is null is NaN."""
    truth: Sequence[Line]
    """Lines of `/truth` with times, in the order in which requests came."""

    @cached_property
    def counted(self) -> NDArray[np.bool_]:
        """Which requests latencies are computed from: successes that were due in the window."""
        window, due = self.document["window"], self.requests["due_s"]
        sound = (self.requests["outcome"] == "ok") & ~self.requests["warmup"].astype(bool)
        return sound & (due >= window["start_s"] - _ROUNDED_S) & (due <= window["end_s"] + _ROUNDED_S)

    @cached_property
    def served(self) -> list[Line]:
        """The server's line of each counted request, where prompts are those of `write_prompts` from the first on."""
        lines = self.lines
        return [lines[row] for row, counts in zip(self.requests["index"].tolist(), self.counted, strict=True) if counts]

    @cached_property
    def gaps_told(self) -> list[Line]:
        """The server's lines of those requests whose gaps are in the figures: where a start-up was cut off, those that
        ended in the seconds of which at least half lies in the window."""
        measured, window = ~self.requests["warmup"].astype(bool), self.document["window"]
        if not self.counted[measured].all():
            ended = self.requests["end_s"]
            measured &= (ended >= round(window["start_s"])) & (ended < round(window["end_s"]))
        return [self.lines[row] for row in self.requests["index"][measured].tolist()]

    @cached_property
    def lines(self) -> dict[int, Line]:
        """The server's line of each request, by index, for the same prompts."""
        by_name = {line["name"]: line for line in self.truth}
        found = {row: by_name.get(_name(row)) for row in self.requests["index"].tolist()}
        return {row: line for row, line in found.items() if line is not None}

    @cached_property
    def start_s(self) -> float:
        """The level's start on the server's clock, as late as the quickest request allows."""
        sent = self.requests["send_s"][self.counted]
        return float(min(np.array([line["arrived_s"] for line in self.served]) - sent))

    def late(self) -> str:
        """Who did not keep time, in words; empty: both did."""
        client, allowed = self.document["client"], allowed_ms(self.document["ttft_ms"]["p50"] or 0.0)
        told = list(client["reasons"])
        if client["loop_lag_p99_ms"] > allowed / 2:
            told.append(f"The client's event loop was late: p99 {client['loop_lag_p99_ms']:.1f} ms.")
        unread_ms = 1000 * float(np.quantile(self._unread_s(), 0.99))
        if unread_ms > allowed / 2:
            told.append(f"Requests lay unread at the server: p99 {unread_ms:.1f} ms.")
        return " ".join(told)

    def _unread_s(self) -> Floats:
        """From send to arrival, beyond the least there was; of streams that are not known apart, in their order."""
        if self.lines:
            arrived = np.array([line["arrived_s"] for line in self.served])
            known = ~self.requests["new_connection"][self.counted].astype(bool)
            return (arrived - self.start_s - self.requests["send_s"][self.counted])[known]
        streams = np.sort([line["arrived_s"] for line in self.truth if line["stream"]])
        waited = streams - np.sort(self.requests["send_s"])[: len(streams)]
        return waited - waited.min()


def _name(row: int) -> str:
    """What the server calls a prompt that is no sample."""
    return hashlib.blake2b(prompt_of(row).encode(), digest_size=16).hexdigest()


async def run_to_end(client: AsyncClient, spec: LoadTestSpec, within_s: float = 60.0) -> tuple[LoadTest, Any]:
    """Submits a load test; returns its record and its document when it has succeeded."""
    test = await asyncio.wait_for(client.wait_load_test(await client.create_load_test(spec)), within_s)
    assert test.state is State.SUCCEEDED, test.error
    return test, await client.perf_report(test)


async def measure(client: AsyncClient, model: SimulatorProcess, spec: LoadTestSpec, folder: Path) -> Measured:
    """A load test of one level, from the beginning to the end, and what the server says it did meanwhile."""
    put_first(model.process.pid, *engines())
    model.reset()
    test, report = await run_to_end(client, spec)
    (document,) = report["levels"]
    path = await client.export_load_test(test, "requests.parquet", folder / f"{test.id}.parquet")
    truth = await asyncio.to_thread(model.truth, times=True)
    return Measured(document, columns(path), sorted(truth, key=lambda line: line["number"]))


async def prove(
    client: AsyncClient, model: SimulatorProcess, spec: LoadTestSpec, folder: Path, check: Callable[[Measured], None]
) -> Measured:
    """Measures and checks, on a machine that lets both sides keep time.

    A client whose event loop or whose sends were late says so, and then its times are late by as much. A server that
    was late to read says it of nobody: it is seen in the time from send to arrival. Where something else took the
    processors, that is what a level shows: one that fails the check is told and done again, a few times at most. One
    that fails although both were on time has failed.
    """
    for tried in range(1, _TRIES + 1):
        found = await measure(client, model, spec, folder)
        try:
            check(found)
        except AssertionError as error:
            late = found.late()
            if not late or tried == _TRIES:
                raise
            print(f"try {tried}: this machine is too busy: {late}: {error}")
        else:
            return found
    raise AssertionError


def columns(path: Path) -> dict[str, NDArray[Any]]:
    """Requests of a load test of one level, by column."""
    table = pq.read_table(path)
    found = {name: table[name].to_numpy() for name in table.column_names}
    order = np.lexsort((found["turn"], found["index"]))
    return {name: values[order] for name, values in found.items()}


# What the server did


def ttft_ms(lines: Iterable[Line]) -> Floats:
    """First byte of the request read, to first content written."""
    return np.array([line["first_s"] - line["arrived_s"] for line in lines]) * 1000


def e2e_ms(lines: Iterable[Line]) -> Floats:
    """First byte of the request read, to last content written."""
    return np.array([line["last_s"] - line["arrived_s"] for line in lines]) * 1000


def chunk_gaps_ms(lines: Iterable[Line]) -> Floats:
    """Between content events."""
    return np.concatenate([np.diff(line["times_s"]) for line in lines]) * 1000


def token_gaps_ms(lines: Iterable[Line]) -> Floats:
    """Each gap divided by the tokens it carried, once per token."""
    found: list[float] = []
    for line in lines:
        each, times = line["tokens_per_chunk"], line["times_s"]
        for position, (before, after) in enumerate(pairwise(times), 1):
            carried = min(each, line["tokens"] - each * position)
            found += [(after - before) * 1000 / carried] * carried
    return np.array(found)


# Comparing


def allowed_ms(truth_ms: float) -> float:
    """1 ms or 1 %, whichever is larger."""
    return max(1.0, 0.01 * truth_ms)


def assert_true(figures: Line, truth_ms: Floats, what: str) -> None:
    """Holds p50, p90 and p99 of a document's figures against the same percentiles of the truth."""
    wrong, seen = [], []
    for name, share in PERCENTILES.items():
        truth = float(np.quantile(truth_ms, share))
        seen.append(f"{name} {figures[name]:.2f} ms, the server says {truth:.2f}")
        if not abs(figures[name] - truth) <= allowed_ms(truth):
            wrong.append(name)
    print(f"{what}: {'; '.join(seen)}")
    assert not wrong, f"{what}: {', '.join(wrong)} wrong: {'; '.join(seen)}"


def cv(gaps: Floats) -> float:
    """Standard deviation by mean."""
    return float(np.std(gaps, ddof=1) / np.mean(gaps))


def ks(sample: Floats, law: Floats) -> float:
    """Kolmogorov-Smirnov's distance between a sample and a much larger one of the law itself, times the square root
    of the sample's size: above 1.63 once in a hundred."""
    ordered, reference = np.sort(sample), np.sort(law)
    n = len(ordered)
    below = np.searchsorted(reference, ordered, side="right") / len(reference)
    steps = np.arange(n + 1) / n
    return float(max(np.max(steps[1:] - below), np.max(below - steps[:-1])) * np.sqrt(n))
