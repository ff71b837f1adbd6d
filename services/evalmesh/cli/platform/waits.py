"""Tells what a run or a load test waits for: a disk that is full, an endpoint or a platform that is away."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from evalmesh.cli.live import clock_text
from evalmesh.domain.errors import Unavailable
from evalmesh.domain.run import Run
from evalmesh.runtime.telemetry import JsonFormatter

_LOGGER = "evalmesh.runtime.outages"
_LOOK_EVERY_S = 1.0
_SAY_EVERY_S = 15.0
_NOT_WORTH_A_LINE_S = 2.0
_READY_EVERY_S = 2.0
RECONNECT_S = 600.0
"""So long a client waits for a platform elsewhere that went away."""
T = TypeVar("T")


def waiting_notice(run: Run) -> str:
    """What the platform says a run waits for; empty where it goes on."""
    return str(getattr(run, "notice", ""))


async def when_ready(call: Callable[[], Awaitable[T]], ready_timeout_s: float, console: Console) -> T:
    """What the call returns; repeated while it raises that the model's endpoint is not there, with a word."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + ready_timeout_s
    said = ""
    while True:
        try:
            return await call()
        except Unavailable as error:
            if error.details.get("field") != "model.url":
                raise
            left_s = deadline_s - loop.time()
            if left_s <= 0:
                if ready_timeout_s:
                    raise
                way_out = "If it is starting or waking up, wait for it with --ready-timeout SECONDS."
                raise Unavailable(f"{error.message} {way_out}", error.details) from None
            if said != error.message:
                said = error.message
                console.print(Text(f"{said} Waiting for it for {clock_text(left_s)} more.", style="yellow"))
            await asyncio.sleep(min(_READY_EVERY_S, left_s))


def say_lost(console: Console, address: str) -> Callable[[str], None]:
    """For watches: says that the connection to the platform is lost, and that it is there again."""

    def say(why: str) -> None:
        text = f"connection to {address} lost, trying again" if why else f"connected to {address} again"
        console.print(Text(text, style="yellow"))

    return say


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
