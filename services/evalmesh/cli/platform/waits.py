"""Tells what a run or a load test waits for: a full disk is waited out, and somebody must free it."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from evalmesh.domain.run import Run
from evalmesh.runtime.telemetry import JsonFormatter

_LOGGER = "evalmesh.runtime.outages"
_LOOK_EVERY_S = 1.0
_SAY_EVERY_S = 15.0
_NOT_WORTH_A_LINE_S = 2.0


def waiting_notice(run: Run) -> str:
    """What the platform says a run waits for; empty where it goes on."""
    return str(getattr(run, "notice", ""))


class WaitNews(logging.Handler):
    """What the services wait for: those of this process say it here, those of others in their logs."""

    def __init__(self, logs: Path, run_id: str) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter(""))
        self._run_id = run_id
        self._said: str | None = None
        self._logs = logs
        self._read = {path: path.stat().st_size for path in logs.glob("*.log")}

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a line of this process: its log may be on the very disk that is full."""
        if self._run_id in self.format(record):
            self._said = record.getMessage()

    def newest(self) -> str | None:
        """The last thing said about the run since the last call."""
        found, self._said = self._said, None
        for path in sorted(self._logs.glob("*.log")):
            start = self._read.get(path, 0)
            with path.open("rb") as file:
                file.seek(start)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read[path] = start + len(whole)
            for line in whole.splitlines():
                if _LOGGER.encode() in line and self._run_id.encode() in line:
                    found = _message(line) or found
        return found


def _message(line: bytes) -> str | None:
    try:
        return str(json.loads(line)["message"])
    except (ValueError, KeyError, TypeError):
        return None


@asynccontextmanager
async def told_waits(logs: Path | None, run_id: str, console: Console) -> AsyncIterator[None]:
    """Prints what the run waits for while the block lasts, now and then; `None` for a platform elsewhere."""
    if logs is None:
        yield
        return
    news, logger = WaitNews(logs, run_id), logging.getLogger(_LOGGER)
    logger.addHandler(news)
    task = asyncio.create_task(_tell(news, console))
    try:
        yield
    finally:
        logger.removeHandler(news)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _tell(news: WaitNews, console: Console) -> None:
    loop = asyncio.get_running_loop()
    said_s = float("-inf")
    since_s: float | None = None
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        message = await asyncio.to_thread(news.newest)
        now_s = loop.time()
        if message is None:
            continue
        since_s = now_s if since_s is None else since_s
        if now_s - since_s >= _NOT_WORTH_A_LINE_S and now_s - said_s >= _SAY_EVERY_S:
            console.print(Text(message, style="yellow"))
            said_s = now_s
