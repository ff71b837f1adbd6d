"""A client of the platform: of one that runs elsewhere, or of one started here for as long as it is needed."""

import asyncio
import errno
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field, fields
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, TypeVar

from evalmesh.cli import exits
from evalmesh.cli.addresses import check_server
from evalmesh.cli.connections import declared_in_environment
from evalmesh.cli.console import make_console
from evalmesh.cli.platform.shown_log import show_warnings
from evalmesh.domain.connection import Connection
from evalmesh.domain.errors import EvalmeshError, InvalidInput, ResourceExhausted
from evalmesh.domain.state import Submission
from evalmesh.local.platform import LocalPlatform, open_platform
from evalmesh.local.remembered import MOST_RUNS, remember
from evalmesh.local.settings import LocalSettings
from evalmesh.runtime.garbage import keep_what_is_loaded
from evalmesh.runtime.hosts import lives
from evalmesh.runtime.private_files import private_folder
from evalmesh.runtime.telemetry import configure_logging
from evalmesh.runtime.telemetry.opening import telemetry_sent

if TYPE_CHECKING:
    from evalmesh.sdk import AsyncClient  # loaded while the processes of a platform start

T = TypeVar("T")

_LEAST_BYTES = 64 << 10
"""Without so much room nothing can be started."""
_ONE_PRESS_S = 0.5
"""Under `make` or `timeout` one Ctrl-C comes twice: from the terminal and from the parent."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the platform is."""

    work_dir: Path
    server: str | None = None
    token: str | None = field(default=None, repr=False)
    """What the server wants to be shown; `None`: what the environment or this user's own platform says."""
    host: str = field(default_factory=lambda: f"host-{secrets.token_hex(5)}")
    """Name of a platform started here among those on the work directory; empty: it serves what belongs to no other."""
    processes: bool = False
    runners: int = 1
    debug: bool = False
    address: str = "127.0.0.1:0"
    metrics_address: str = ""
    """Where a platform started here shows `/metrics`; empty: nowhere."""
    objects_url: str = ""
    """`s3://bucket/prefix`; empty: a folder in the work directory."""
    at_work: frozenset[str] | None = None
    """Services that take work in a platform started here; `None`: all."""
    hosted: frozenset[str] | None = None
    """Services that are there at all in a platform started here; `None`: all."""
    only_looks: bool = False
    """The command changes nothing."""
    generators: int = 0
    """Seats for load tests in a platform started here; 0: it works on none."""
    connections: tuple[Connection, ...] = ()
    """What a platform started here may ask with keys, beside what the environment declares."""
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Keys that were typed, by the variable that references name; they stay out of every environment."""

    @classmethod
    def of(cls, asked: object, **more: Any) -> "Place":
        """Where a config or a command line wants the platform; `more` is what they do not say."""
        if server := getattr(asked, "server", None):
            check_server(server)
        said = {one.name: getattr(asked, one.name) for one in fields(cls) if getattr(asked, one.name, None) is not None}
        return cls(**{**said, "work_dir": Path(said["work_dir"]).expanduser(), **more})

    def settings(self) -> LocalSettings:
        """Of a platform started here. Raises `InvalidInput`."""
        if self.runners > 1 and not self.processes:
            raise InvalidInput(
                f"runners: {self.runners} model runners need processes of their own; add --processes, or leave it out: "
                f"one runner keeps {1000} requests in flight with ease.",
                {"field": "runners"},
            )
        return LocalSettings(
            work_dir=self.work_dir,
            host=self.host,
            processes=self.processes,
            runners=self.runners,
            address=self.address,
            log_level="DEBUG" if self.debug else "INFO",
            metrics_address=self.metrics_address,
            objects_url=self.objects_url,
            at_work=self.at_work,
            hosted=self.hosted,
            only_looks=self.only_looks,
            generators=self.generators,
            connections=(*self.connections, *declared_in_environment()),
            keys=self.keys,
        )

    @property
    def flags(self) -> str:
        """What a command has to say to find this platform again, with a space before it."""
        if self.server:
            return f" --server {self.server}"
        return "" if os.path.normpath(self.work_dir) == "outputs" else f" --work-dir {quote(str(self.work_dir))}"

    def goes_on(self, one: Submission[Any]) -> bool:
        """Whether somebody is at work on a run or load test; what has not ended otherwise was interrupted."""
        if one.state.terminal:
            return False
        hosts = self.settings().hosts_dir
        return lives(hosts, one.host) or (self.server is not None and not (one.host and hosts.is_dir()))


def log_file(settings: LocalSettings) -> Path:
    """Where this process logs while it hosts a platform; services in processes of their own log beside it."""
    return settings.state_dir / "logs" / "platform.log"


@asynccontextmanager
async def connect(place: Place) -> "AsyncIterator[AsyncClient]":
    """A client; a platform that was started for it is stopped afterwards, and what is under way can be resumed."""
    if place.server:
        async with _client(place.server, place.token) as client:
            yield client
        return
    settings = place.settings()
    start_logging(settings)
    async with open_platform(settings) as platform, _client(platform.address, platform.token) as client:
        keep_what_is_loaded(collect=False)
        yield client
        await _remember(client, platform)


async def _remember(client: "AsyncClient", platform: LocalPlatform) -> None:
    """For the next look. A command that failed or was interrupted leaves that to the look itself."""
    from evalmesh.domain.run_filter import RunFilter  # noqa: PLC0415  (loaded with the SDK)

    with suppress(EvalmeshError, OSError):
        runs, total = await client.find_runs(RunFilter(), MOST_RUNS, answered=True)
        if total == len(runs):
            await asyncio.to_thread(remember, platform.settings, platform.generation, runs)


def _client(address: str, token: str | None) -> "AsyncClient":
    from evalmesh.sdk import AsyncClient  # noqa: PLC0415  # see above

    return AsyncClient(address, token=token, on_wait=_say_waiting)


def _say_waiting(what: str) -> None:
    make_console(stderr=True).print(what, style="dim", markup=False, highlight=False)


def start_logging(settings: LocalSettings) -> None:
    """Into the work directory, of which nobody else sees the part that is the platform's. Raises `InvalidInput`."""
    check_writable(settings.work_dir, settings.state_dir / "logs", private=settings.state_dir)
    configure_logging("evalmesh", settings.log_level, log_file(settings))
    if settings.log_level == "DEBUG":
        show_warnings(log_file(settings))


def check_writable(work_dir: Path, folder: Path, private: Path | None = None) -> None:
    """Raises `InvalidInput` where nothing can be written: before anything is started, or asked of an endpoint."""
    try:
        if private is not None:
            private_folder(private)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(_LEAST_BYTES))
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ResourceExhausted(
                f"work_dir: the disk of {str(work_dir)!r} is full; free space, or choose another folder.",
                {"field": "work_dir"},
            ) from error
        raise InvalidInput(
            f"work_dir: {str(work_dir)!r} cannot be written to ({(error.strerror or str(error)).lower()}); choose "
            "another folder.",
            {"field": "work_dir"},
        ) from error


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Runs to the end. The first Ctrl-C (or SIGTERM, SIGHUP) cancels it in order, the second ends the process at once.

    Raises `KeyboardInterrupt` after an orderly end.
    """
    in_main = threading.current_thread() is threading.main_thread()
    with _telemetry_sent(), asyncio.Runner(loop_factory=_loop_factory() if in_main else None) as runner:
        return runner.run(_interruptible(work) if in_main else work)


@contextmanager
def _telemetry_sent() -> Iterator[None]:
    """What hinders it is said when the command is done: until then the terminal may be in use."""
    said: list[str] = []
    try:
        with telemetry_sent(alone=False, say=said.append):
            yield
    finally:
        for one in said:
            print(f"warning: {one}", file=sys.stderr)


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """`run_async`, in a thread of its own where this one has a loop already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run_async(work)
    with ThreadPoolExecutor(1, thread_name_prefix="evalmesh") as pool:
        # With the context of the cell of a notebook, to which what is shown belongs.
        return pool.submit(copy_context().run, run_async, work).result()


def _loop_factory() -> Any:
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415  # not there on Windows

    return uvloop.new_event_loop


def _ends() -> list[signal.Signals]:
    """A closed terminal (SIGHUP) ends a command in order too, unless it was started to outlive that (nohup)."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers


def _say_stopping() -> None:
    try:
        print("\nstopping; once more to stop at once", file=sys.stderr, flush=True)
    except OSError:
        # The terminal is gone: what is said from now on is for nobody, and must stop nothing.
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


async def _interruptible(work: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    first_s: float | None = None

    def stop() -> None:
        nonlocal first_s
        if first_s is not None:
            if loop.time() - first_s > _ONE_PRESS_S:
                os._exit(exits.INTERRUPTED)
            return
        first_s = loop.time()
        _say_stopping()
        task.cancel()

    numbers = _ends()
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if first_s is not None:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
