"""`tests/bench/llm_server.c` as a process: a server that keeps time better than any client, and tells what it did."""

import functools
import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[1] / "bench" / "llm_server.c"

NO_COMPILER = "there is no C compiler; CI has one"


def compiler() -> str | None:
    """The C compiler of this machine, if there is one."""
    return shutil.which(os.environ.get("CC", "cc"))


@functools.cache
def compiled() -> Path:
    """The server's executable, built once per process; raises `RuntimeError` with what the compiler said."""
    cc = compiler()
    if cc is None:
        raise RuntimeError("there is no C compiler here; install one, or name one with CC")
    folder = tempfile.TemporaryDirectory(prefix="evalmesh-llm-server-")
    target = Path(folder.name, "llm_server")
    done = subprocess.run(
        [cc, "-O2", "-o", str(target), str(SOURCE), "-lm"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{SOURCE.name} does not compile:\n{done.stderr}")
    _folders.append(folder)
    return target


_folders: list[tempfile.TemporaryDirectory] = []
"""Removed when the process ends."""


@dataclass
class PerfServer:
    process: subprocess.Popen[str]
    url: str
    """With `/v1`."""

    @property
    def root(self) -> str:
        return self.url.removesuffix("/v1")

    @property
    def chat_url(self) -> str:
        return f"{self.url}/chat/completions"

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.root}{path}", timeout=60) as answer:
            return answer.read().decode()

    def stats(self) -> dict[str, Any]:
        """Counts, by `outcomes` and `faults`; `cpu_s` of the server."""
        return json.loads(self._get("/stats"))

    def summary(self) -> dict[str, Any]:
        """The same, with percentiles in ms of `ttft_ms`, `itl_ms` and `e2e_ms` (to the last token)."""
        return json.loads(self._get("/truth/summary"))

    def truth(self) -> list[dict[str, Any]]:
        """One row per request, in the order in which they ended; times are of `time.monotonic()`."""
        head, *rows = [line.split("\t") for line in self._get("/truth").splitlines()]
        return [
            {name: float(value) if name.endswith("_s") else value for name, value in zip(head, row, strict=True)}
            for row in rows
        ]

    def arrivals(self) -> list[float]:
        """When requests came, in order."""
        return sorted(row["arrived_s"] for row in self.truth())

    def reset(self) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.root}/reset", method="POST"), timeout=10).close()


@contextmanager
def perf_server(*arguments: str) -> Iterator[PerfServer]:
    """Compiles if need be and starts the server with these arguments (the head of the C file lists them)."""
    process = subprocess.Popen([str(compiled()), *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("llm_server: "), f"the server did not start: {line!r}"
        yield PerfServer(process, line.split(": ", 1)[1].strip())
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
