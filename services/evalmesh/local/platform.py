"""The platform on one machine: the very services of a cluster, a real nats-server child, a folder as object store."""

import asyncio
import fcntl
import json
import logging
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from evalmesh.adapters.nats.server import NatsServerProcess
from evalmesh.domain.errors import EvalmeshError
from evalmesh.load_generator.seat.pairs import PairPool
from evalmesh.local.processes import ServiceProcesses
from evalmesh.local.settings import LocalSettings
from evalmesh.runtime.descriptors import allow_all_descriptors
from evalmesh.runtime.private_files import private_folder, write_private

_LOG = logging.getLogger(__name__)
_ADDRESS_FILE = "platform.json"
_FOLDERS = ("logs", "nats", "scratch")


@dataclass(slots=True)
class LocalPlatform:
    """A running platform."""

    address: str
    """gRPC address of the gateway."""
    token: str = field(repr=False)
    """What the gateway wants to be shown."""
    bus_url: str = field(repr=False)
    settings: LocalSettings
    processes: ServiceProcesses | None = None
    nats: NatsServerProcess | None = field(default=None, repr=False)


@asynccontextmanager
async def open_platform(settings: LocalSettings) -> AsyncIterator[LocalPlatform]:
    """Starts everything and stops it again; what is under way goes on at the next start with the same folder.

    Raises `FailedPrecondition` when another platform uses the folder, `InvalidInput` for an address that is taken.
    """
    _make_private(settings)
    allow_all_descriptors()
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
        token = stack.enter_context(_token(settings))
        ending = asyncio.Event()
        keeper = asyncio.create_task(_keep_nats(nats, ending))
        stack.push_async_callback(_ended, keeper, ending)
        if settings.processes:
            processes = ServiceProcesses(settings, nats.url)
            stack.push_async_callback(processes.stop)
            address = await processes.start()
            stack.enter_context(_announced(settings, address))
            yield LocalPlatform(address, token, nats.url, settings, processes, nats)
            return
        from evalmesh.local.hosting import hosted  # noqa: PLC0415  # likewise

        address = await stack.enter_async_context(hosted(settings, nats.url, token, pairs))
        stack.enter_context(_announced(settings, address))
        yield LocalPlatform(address, token, nats.url, settings, nats=nats)


def _make_private(settings: LocalSettings) -> None:
    """Whatever the umask, nobody else looks into the folder; what earlier versions left open is closed."""
    private_folder(settings.state_dir)
    for name in _FOLDERS if settings.objects_url else (*_FOLDERS, "objects"):
        private_folder(settings.state_dir / name)


@contextmanager
def _token(settings: LocalSettings) -> Iterator[str]:
    """A token for as long as the platform runs."""
    token = secrets.token_urlsafe(32)
    write_private(settings.token_file, token)
    try:
        yield token
    finally:
        settings.token_file.unlink(missing_ok=True)


@contextmanager
def _scratch(folder: Path) -> Iterator[None]:
    """Room for what is needed only while the platform runs: records of a level, local copies of data sets."""
    shutil.rmtree(folder, ignore_errors=True)
    private_folder(folder)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _announced(settings: LocalSettings, address: str) -> Iterator[None]:
    """Lets `live_platform` find the platform, and this user's clients its token, for as long as it runs."""
    from evalmesh.sdk.tokens import known  # noqa: PLC0415  (with the SDK, which is slow to load)

    path = settings.state_dir / _ADDRESS_FILE
    with ExitStack() as stack:
        try:
            stack.enter_context(known(address, settings.token_file))
        except (OSError, RuntimeError) as error:
            # A home that cannot be written to takes nothing away but the convenience.
            _LOG.warning("clients need EVALMESH_TOKEN_FILE=%s: %s", settings.token_file, error)
        write_private(path, json.dumps({"address": address}))
        stack.callback(path.unlink, missing_ok=True)
        # A lock, and no process id: it is held exactly as long as this process lives, and no other can have it.
        held = stack.enter_context(path.open("r"))
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def live_platform(settings: LocalSettings) -> tuple[str, str] | None:
    """Address and token of the platform that another process keeps running on this folder; `None`: there is none."""
    try:
        with (settings.state_dir / _ADDRESS_FILE).open("r") as file:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None  # its process is gone
            return str(json.load(file)["address"]), settings.token_file.read_text(encoding="utf-8")
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
