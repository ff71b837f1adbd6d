"""A platform that stays up for many runs keeps nothing of them in its process."""

import asyncio
import contextlib
import gc
import json
import os
from pathlib import Path

import pytest
from tests.kit.services import write_questions
from tests.kit.simulator import simulator

from evalmesh.domain.errors import FailedPrecondition
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec, RunState
from evalmesh.local.platform import open_platform
from evalmesh.local.settings import LocalSettings
from evalmesh.sdk import AsyncClient

pytestmark = pytest.mark.alone

WARM_UP, RUNS, SAMPLES = 10, 50, 12


def connections_to(port):
    """Descriptors of this process that are TCP connections to this port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if int(row[2].rsplit(":", 1)[1], 16) == port}
    return {fd.name for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink() and str(fd.readlink()) in sockets}


def used(model):
    gc.collect()
    kept = len(connections_to(int(model.root.rsplit(":", 1)[1])))
    # Connections are kept for the next request; how many there are depends on how many requests were out at once.
    assert kept <= SAMPLES
    files = len(list(Path("/proc/self/fd").iterdir())) - kept
    rss_kib = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    return len(asyncio.all_tasks()), files, rss_kib, kept


async def test_fifty_runs_leave_no_tasks_files_or_memory(tmp_path):
    questions = write_questions(tmp_path / "questions.jsonl", SAMPLES)
    arguments = json.dumps({"general_mcq": {"local_path": str(questions)}})
    with simulator("--benchmarks", "general_mcq", "--dataset-args", arguments) as model:
        spec = RunSpec(
            ModelSpec("simulated", url=model.url),
            (BenchmarkSpec("general_mcq", local_path=str(questions)),),
            shard_size=4,
        )
        async with open_platform(LocalSettings(tmp_path)) as platform, AsyncClient(platform.address) as client:
            await some_runs(client, spec, WARM_UP)
            before = used(model)
            await some_runs(client, spec, RUNS)
            after = used(model)
    assert after[0] <= before[0] + 3, "tasks"
    assert after[1] <= before[1] + 3, "open files"
    # 150 shards have passed; what stays of one run must be far below what it needed.
    assert after[2] - before[2] < 8 * 1024, "KiB of memory"


async def some_runs(client, spec, count):
    """Every fifth is cancelled at once: runs that do not complete are what is forgotten most easily."""
    for number in range(count):
        run = await client.create_run(spec)
        if number % 5 == 4:
            with contextlib.suppress(FailedPrecondition):  # it was quicker
                await client.cancel_run(run)
        ended = await asyncio.wait_for(client.wait_run(run), 30)
        assert ended.state in {RunState.SUCCEEDED, RunState.CANCELLED}
    await asyncio.sleep(0.5)
