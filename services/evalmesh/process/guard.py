"""Stands between us and a program that would not notice our end; itself a program that needs nothing but Python.

    python guard.py GRACE_S COMMAND...

It leads a session with the program and all that the program starts. When its standard input closes (we closed it, or
died, by SIGKILL too) or it gets SIGTERM, the session is told to end, and after `GRACE_S` made to. When the program ends
by itself, the guard ends in the same way. When the guard is killed, the kernel kills the program (on Linux).
"""

import contextlib
import ctypes
import os
import resource
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1


def _start(words: list[str]) -> int:
    ours = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != ours:
                os._exit(1)
        # Python ignores these; a program expects to die of them.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execvp(words[0], words)  # noqa: S606 - the words are the caller's
    except OSError as error:
        os.write(2, f"{words[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _leave_as(code: int) -> None:
    """Ends this process as another one ended."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(max(code, 1) if code < 0 else code)


class _Guard:
    def __init__(self, words: list[str]) -> None:
        self._awake, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        # Handlers, not "ignore": an ignored signal would be ignored by the program as well.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._program = _start(words)
        self.told_to_end = False

    def code(self, within_s: float | None = None) -> int | None:
        """The program's exit code; `None` when it runs on, and we are told to end or `within_s` are over."""
        watched = [self._awake] if self.told_to_end else [0, self._awake]
        until = None if within_s is None else time.monotonic() + within_s
        while True:
            pid, status = os.waitpid(self._program, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if until is None and self.told_to_end:
                return None
            left_s = None if until is None else until - time.monotonic()
            if left_s is not None and left_s <= 0:
                return None
            ready, _, _ = select.select(watched, [], [], left_s)
            if 0 in ready and not os.read(0, 4096):
                self.told_to_end = True
            if self._awake in ready and signal.SIGTERM in os.read(self._awake, 512):
                self.told_to_end = True


def main(argv: list[str]) -> None:
    """Does not return."""
    guard = _Guard(argv[1:])
    code = guard.code()
    if code is not None:
        _leave_as(code)
    os.killpg(0, signal.SIGTERM)
    guard.code(within_s=float(argv[0]))
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
