"""Stands between us and a local engine: a program of its own, so that it outlives us by exactly as long as needed.

    python perf_server_guard.py GRACE_S COMMAND...

It leads a session with the engine and all that the engine starts. When its standard input closes (we closed it, or
died, by SIGKILL too) the session is told to end, and after `GRACE_S` made to. When the engine ends by itself, its exit
code is written to standard output, and what it left behind is ended. The engine writes to standard error, a log file.
"""

import os
import signal
import subprocess
import sys
import threading
import time

_POLL_S = 0.02


def _watch(closed: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    closed.set()


def main(argv: list[str]) -> None:
    """Does not return: the session it leads is ended, and it with it."""
    grace_s = float(argv[0])
    # Handlers, not "ignore": an ignored signal would be ignored by the engine as well.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    closed = threading.Event()
    try:
        engine = subprocess.Popen(  # noqa: S603 - the command is the user's own
            argv[1:], stdin=subprocess.DEVNULL, stdout=2, stderr=2
        )
    except OSError as error:
        os.write(2, f"{argv[1]}: {error.strerror}\n".encode())
        os.write(1, b"127\n")
        return
    threading.Thread(target=_watch, args=(closed,), daemon=True).start()
    while not closed.is_set() and engine.poll() is None:
        closed.wait(_POLL_S)
    if engine.returncode is None:
        os.killpg(0, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while engine.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    if not closed.is_set():
        os.write(1, f"{engine.returncode}\n".encode())
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
