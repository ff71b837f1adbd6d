"""The platform on one machine: the very services of a cluster, a real nats-server child, a folder as object store."""

import asyncio
import fcntl
import json
import logging
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from evalmesh.adapters.nats.server import NatsServerProcess
from evalmesh.domain.errors import EvalmeshError
from evalmesh.load_generator.seat.pairs import PairPool
from evalmesh.local.processes import ServiceProcesses
from evalmesh.local.settings import LocalSettings

_LOG = logging.getLogger(__name__)
_ADDRESS_FILE = "platform.json"


@dataclass(slots=True)
class LocalPlatform:
    """A running platform."""

    address: str
    """gRPC address of the gateway."""
    bus_url: str
    settings: LocalSettings
    processes: ServiceProcesses | None = None
    nats: NatsServerProcess | None = field(default=None, repr=False)


@asynccontextmanager
async def open_platform(settings: LocalSettings) -> AsyncIterator[LocalPlatform]:
    """Starts everything and stops it again; what is under way goes on at the next start with the same folder.

    Raises `FailedPrecondition` when another platform uses the folder, `InvalidInput` for an address that is taken.
    """
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        nats = NatsServerProcess(settings.state_dir / "nats")
        starting = asyncio.create_task(asyncio.to_thread(nats.start))
        pairs = PairPool()
        if not settings.processes:
            # Both start while this process loads what it needs, which takes longer than all else a short command does.
            pairs.warm(settings.generators)
            stack.push_async_callback(pairs.close)
            await asyncio.sleep(0)
            from evalmesh.local.hosting import load  # noqa: PLC0415  # see above

            load(settings)
        await starting
        stack.callback(nats.stop)
        # The server's folder is this process's now, and so is what one that was killed has left lying about.
        stack.enter_context(_scratch(settings.state_dir / "scratch"))
        ending = asyncio.Event()
        keeper = asyncio.create_task(_keep_nats(nats, ending))
        stack.push_async_callback(_ended, keeper, ending)
        if settings.processes:
            processes = ServiceProcesses(settings, nats.url)
            stack.push_async_callback(processes.stop)
            address = await processes.start()
            stack.enter_context(_announced(settings, address))
            yield LocalPlatform(address, nats.url, settings, processes, nats)
            return
        from evalmesh.local.hosting import hosted  # noqa: PLC0415  # likewise

        address = await stack.enter_async_context(hosted(settings, nats.url, pairs))
        stack.enter_context(_announced(settings, address))
        yield LocalPlatform(address, nats.url, settings, nats=nats)


@contextmanager
def _scratch(folder: Path) -> Iterator[None]:
    """Room for what is needed only while the platform runs: records of a level, local copies of data sets."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _announced(settings: LocalSettings, address: str) -> Iterator[None]:
    """Lets `live_address` find the platform for as long as it runs."""
    path = settings.state_dir / _ADDRESS_FILE
    with path.open("w") as file:
        # Held for as long as this process lives; a process id may be another's when it is read.
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump({"address": address, "pid": os.getpid()}, file)
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def live_address(settings: LocalSettings) -> str | None:
    """Address of the platform that another process keeps running on this folder; `None` when there is none."""
    try:
        with (settings.state_dir / _ADDRESS_FILE).open() as file:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None  # nobody holds it: it was left behind
            return str(json.load(file)["address"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


async def _keep_nats(nats: NatsServerProcess, ending: asyncio.Event) -> None:
    """Starts the server again when it dies; every client waits for it and goes on."""
    while not ending.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(ending.wait(), 0.2)
        if not ending.is_set() and not nats.alive:
            _LOG.warning("nats-server ended; starting it again")
            try:
                await asyncio.to_thread(nats.start)
            except EvalmeshError as error:
                _LOG.error("%s", error.message)


async def _ended(task: asyncio.Task[None], ending: asyncio.Event) -> None:
    # Not cancelled: a server that is being started in a thread would outlive the platform.
    ending.set()
    await asyncio.gather(task, return_exceptions=True)
