"""The whole platform in a test's own folder, runs on it, and questions of the test's own making."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from evalmesh.domain.connection import Connection
from evalmesh.domain.run import Run, RunSpec
from evalmesh.local.platform import LocalPlatform, open_platform
from evalmesh.local.settings import LocalSettings
from evalmesh.sdk import AsyncClient


@asynccontextmanager
async def opened(
    work_dir: Path, *, processes: bool = False, runners: int = 1, connections: tuple[Connection, ...] = ()
) -> AsyncIterator[tuple[LocalPlatform, AsyncClient]]:
    """Work items come back after two seconds without a sign of life, so that tests need not wait for them."""
    settings = LocalSettings(work_dir, processes=processes, runners=runners, ack_wait_s=2.0, connections=connections)
    async with open_platform(settings) as platform, AsyncClient(platform.address) as client:
        yield platform, client


async def run_to_end(client: AsyncClient, spec: RunSpec, within_s: float = 60.0) -> Run:
    """Submits a run and returns it when it has ended, however it has."""
    run = await client.create_run(spec)
    return await asyncio.wait_for(client.wait_run(run), within_s)


async def metrics_of(client: AsyncClient, run: Run, benchmark: str) -> dict[str, dict[str, Any]]:
    """The metrics of one benchmark in the report, by name."""
    report = await client.report(run)
    found = next(one for one in report["benchmarks"] if one["name"] == benchmark)
    return {metric["name"]: metric for metric in found["metrics"]}


def write_questions(path: Path, count: int, *, first: int = 0) -> Path:
    """Multiple-choice questions for `general_mcq`, no two alike."""
    with path.open("w") as file:
        for number in range(first, first + count):
            options = {letter: f"value {number * 7 + place}" for place, letter in enumerate("ABCD")}
            row = {"question": f"Which value belongs to entry {number}?", **options, "answer": "ABCD"[number % 4]}
            file.write(json.dumps(row) + "\n")
    return path
