"""The typed client: submit a run to a platform that stays up, follow it, read single results."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evalmesh import Client
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec

EVALMESH = Path(sys.executable).with_name("evalmesh")


@contextmanager
def started(folder: str, pattern: str, *arguments: str) -> Iterator[str]:
    """A command that stays up, and the address it prints."""
    with subprocess.Popen([EVALMESH, *arguments], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(pattern, line):
                    yield found[1]
                    break
            else:
                sys.exit(f"{arguments[0]} did not start")
        finally:
            process.terminate()


with (
    tempfile.TemporaryDirectory() as folder,
    started(folder, r"(http://\S+)", "simulate", "--port", "0", "--benchmarks", "starter_mcq") as url,
    started(folder, r"up at ([^;\s]+)", "up", "--address", "127.0.0.1:0") as address,
    Client(address) as client,
):
    wish = RunSpec(
        model=ModelSpec("simulated", url=url),
        benchmarks=(BenchmarkSpec("starter_mcq", subsets=("science", "history")),),
        limit=10,
    )
    run = client.create_run(wish)
    for update in client.watch_run(run):
        print(update.state, [f"{b.name}: {b.done}/{b.total}" for b in update.benchmarks])

    for row in client.results(run, "starter_mcq", subset="history"):
        print(row["sample_id"], "expected", row["target"], "got", row["answer"])
    print(client.report(run)["benchmarks"][0]["metrics"][0]["value"])
