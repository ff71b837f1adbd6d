"""Data sets brought by this command itself, with a line that says how far it has come."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from evalmesh.adapters.datasets import LocalDatasets
from evalmesh.adapters.hubs.opening import open_hubs
from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import Benchmark
from evalmesh.benchmarks.query import candidates
from evalmesh.domain.run import BenchmarkSpec, RunSpec
from evalmesh.ports.hubs import Bringing, Note
from evalmesh.results.dataset import RunDataset
from evalmesh.results.finding import Datasets

_EVERY_S = 0.2
_AGAIN = "\r\x1b[K"
"""Begins the line anew."""


async def opened_here(benchmark: Benchmark, spec: BenchmarkSpec, run: RunSpec) -> RunDataset:
    """The data set, whole and on this machine. Errors are those of `Datasets.open` and `RunDataset.bring`."""
    dataset = await Datasets(LocalDatasets(), open_hubs()).open(benchmark, spec, run)
    if await asyncio.to_thread(lambda: bool(dataset.missing)):
        with progress_line(spec.name, dataset.origin.id if dataset.origin else "") as note:
            await dataset.bring(note)
    return dataset


async def hub_folders(run: RunSpec) -> dict[str, str]:
    """Where the rows of a run's benchmarks are that hubs have; they are brought."""
    found: dict[str, str] = {}
    for spec in run.benchmarks:
        benchmark = registry.get(spec.kind)
        if candidates(benchmark, spec, run.dataset_hub):
            folder = (await opened_here(benchmark, spec, run)).hub_folder
            found |= {spec.name: str(folder)} if folder is not None else {}
    return found


@contextmanager
def progress_line(name: str, where: str) -> Iterator[Note]:
    """On standard error: redrawn on a terminal, else one line at the end."""
    moves = sys.stderr.isatty()
    said_s, last = 0.0, Bringing(0, 0, 0, 0)

    def note(now: Bringing) -> None:
        nonlocal said_s, last
        last = now
        if moves and time.monotonic() - said_s > _EVERY_S:
            said_s = time.monotonic()
            print(f"{_AGAIN}fetching {name} from {where}: {now}", end="", file=sys.stderr, flush=True)

    try:
        yield note
    finally:
        print(f"{_AGAIN if moves else ''}fetched {name} from {where}: {last}", file=sys.stderr)
