"""Real S3 servers for tests: moto (conditional puts, in memory) and rclone (checks signatures, keeps data on disk).

How to make a store fail, for tests of what depends on it:

- `server.pause()` / `server.resume()`: the server hangs; calls end as Unavailable after read_timeout_s and the retries.
- `server.kill()` / `server.start()`: connections are refused at once; rclone comes back with the same data and port.
- A folder store: rename the folder away and back. Calls in between are Unavailable and the folder is not made anew.
  (chmod does not stop root.)
"""

import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minio import Minio

BUCKET = "evalmesh-test"
_READY_TIMEOUT_S = 20.0


class S3Server:
    """A server process on 127.0.0.1; port and keys stay the same over `kill` and `start`."""

    def __init__(self) -> None:
        self.access_key = "test" + secrets.token_hex(8)
        self.secret_key = secrets.token_hex(20)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def options(self) -> dict[str, str]:
        """For `open_object_store`."""
        return {
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
        }

    @property
    def environ(self) -> dict[str, str]:
        """The same for a child process that opens the store by its URL alone."""
        return {f"EVALMESH_S3_{name.upper()}": value for name, value in self.options.items()}

    def url(self, prefix: str = "") -> str:
        return f"s3://{BUCKET}/{prefix}".rstrip("/")

    def client(self) -> Minio:
        return Minio(
            f"127.0.0.1:{self.port}",
            access_key=self.access_key,
            secret_key=self.secret_key,
            secure=False,
            region="us-east-1",
        )

    def start(self) -> None:
        """Starts and waits until it answers."""
        self._process = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not _answers(self.port):
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._command()[0]} on port {self.port} did not get ready (exit code {code})")
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Returns once every thread of the server stands still: a signal takes effect some time after it is sent."""
        pid = self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> int:
        if self._process is None:
            raise RuntimeError("the server does not run")
        self._process.send_signal(number)
        return self._process.pid

    def _command(self) -> list[str]:
        raise NotImplementedError


class MotoServer(S3Server):
    """Honours conditional puts; accepts any key. `kill` loses its data, and its bucket with them."""

    def start(self) -> None:
        super().start()
        self.client().make_bucket(BUCKET)

    def _command(self) -> list[str]:
        return [_program("moto_server"), "-H", "127.0.0.1", "-p", str(self.port)]


class RcloneServer(S3Server):
    """Checks signatures; ignores conditional puts. Data are files under `data_dir`."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__()
        self._data_dir = data_dir
        (data_dir / BUCKET).mkdir(parents=True, exist_ok=True)

    def _command(self) -> list[str]:
        # Never add --dir-cache-time 0s: the server then spins and stops answering.
        keys = f"{self.access_key},{self.secret_key}"
        address = f"127.0.0.1:{self.port}"
        return [
            _program("rclone"),
            "serve",
            "s3",
            "--config",
            "",
            "--addr",
            address,
            "--auth-key",
            keys,
            str(self._data_dir),
        ]


@contextmanager
def running(server: S3Server) -> Iterator[S3Server]:
    """The server, started; killed at the end."""
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _program(name: str) -> str:
    path = shutil.which(name, path=sysconfig.get_path("scripts"))
    if path is None:
        raise RuntimeError(f"{name} is not installed: pip install 'evalmesh[test]'")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True
