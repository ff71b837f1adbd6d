"""The platform on one machine: the very services of a cluster, a real nats-server child, a folder as object store."""

import asyncio
import logging
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from evalmesh.load_generator.seat.pairs import PairPool
from evalmesh.local.processes import ServiceProcesses
from evalmesh.local.remembered import begin
from evalmesh.local.settings import LocalSettings
from evalmesh.local.shared_nats import SharedNats
from evalmesh.runtime.descriptors import allow_all_descriptors
from evalmesh.runtime.hosts import Announcement, Host, living_host, living_hosts
from evalmesh.runtime.private_files import private_folder, write_private

_LOG = logging.getLogger(__name__)
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
    generation: str
    """See `remembered.py`."""
    processes: ServiceProcesses | None = None
    nats: SharedNats | None = field(default=None, repr=False)


@asynccontextmanager
async def open_platform(settings: LocalSettings) -> AsyncIterator[LocalPlatform]:
    """Starts everything and stops it again; what is under way goes on at the next start with the same folder.

    Platforms on one folder share its queues, records and objects, and each works on its own runs (`settings.host`).
    Raises `FailedPrecondition` when another platform without a name uses the folder, `InvalidInput` for an address that
    is taken.
    """
    _make_private(settings)
    allow_all_descriptors()
    async with AsyncExitStack() as stack:
        announcement = stack.enter_context(living_host(settings.hosts_dir, settings.host))
        generation = begin(settings)
        nats = SharedNats(settings.state_dir / "nats")
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
        stack.callback(_stop, nats, settings)
        stack.enter_context(_scratch(settings))
        token = stack.enter_context(_token(settings))
        ending = asyncio.Event()
        keeper = asyncio.create_task(nats.keep(ending))
        stack.push_async_callback(_ended, keeper, ending)
        if settings.processes:
            processes = ServiceProcesses(settings, nats.url)
            stack.push_async_callback(processes.stop)
            address = await processes.start()
            stack.enter_context(_announced(settings, announcement, address))
            yield LocalPlatform(address, token, nats.url, settings, generation, processes, nats)
            return
        from evalmesh.local.hosting import hosted  # noqa: PLC0415  # likewise

        address = await stack.enter_async_context(hosted(settings, nats.url, token, pairs))
        stack.enter_context(_announced(settings, announcement, address))
        yield LocalPlatform(address, token, nats.url, settings, generation, nats=nats)


def _make_private(settings: LocalSettings) -> None:
    """Whatever the umask, nobody else looks into the folder; what earlier versions left open is closed."""
    private_folder(settings.state_dir)
    for name in _FOLDERS if settings.objects_url else (*_FOLDERS, "objects"):
        private_folder(settings.state_dir / name)


def _stop(nats: SharedNats, settings: LocalSettings) -> None:
    nats.stop(last=set(living_hosts(settings.hosts_dir)) <= {settings.host})


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
def _scratch(settings: LocalSettings) -> Iterator[None]:
    """Room for what is needed only while the platform runs: records of a level, local copies of data sets."""
    folder = settings.scratch_dir
    living = {one or "shared" for one in living_hosts(settings.hosts_dir)} - {folder.name}
    # What a platform that was killed has left lying about.
    for left in [one for one in folder.parent.iterdir() if one.name not in living]:
        shutil.rmtree(left, ignore_errors=True)
    private_folder(folder)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _announced(settings: LocalSettings, announcement: Announcement, address: str) -> Iterator[None]:
    """Lets others find the platform, and this user's clients its token, for as long as it runs."""
    from evalmesh.sdk.tokens import known  # noqa: PLC0415  (with the SDK, which is slow to load)

    with ExitStack() as stack:
        try:
            stack.enter_context(known(address, settings.token_file))
        except (OSError, RuntimeError) as error:
            # A home that cannot be written to takes nothing away but the convenience.
            _LOG.warning("clients need EVALMESH_TOKEN_FILE=%s: %s", settings.token_file, error)
        announcement.say(Host(address, str(settings.token_file), os.getpid()))
        yield


async def _ended(task: asyncio.Task[None], ending: asyncio.Event) -> None:
    # Not cancelled: a server that is being started in a thread would outlive the platform.
    ending.set()
    await asyncio.gather(task, return_exceptions=True)
