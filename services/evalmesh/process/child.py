"""A child process: started with all it needs said, watched, and ended with what it has started."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from evalmesh.domain.errors import Unavailable
from evalmesh.process import guard

_TAIL_BYTES = 4000


@dataclass(frozen=True, slots=True)
class Command:
    """What to start."""

    words: Sequence[str]
    environment: Mapping[str, str]
    """All of it; nothing is inherited that is not in here. See `process.environment`."""
    log: Path | None = None
    """Standard error is appended to it, and the output of a guarded program too; `None`: a pipe to us."""
    pass_fds: tuple[int, ...] = ()
    guard_s: float | None = None
    """For programs that would not notice our end: a guard stands between, ends the program when its own input is closed
    or it gets SIGTERM, and leaves it so many seconds for that. The guard ends as the program did."""


class Child:
    """A process that runs from the moment it is made, leading a session of its own: Ctrl-C does not reach it.

    Its standard input is a pipe that closes when we end, however we do; whoever is no guarded program must watch it.
    What it leaves behind in its process group is killed when it ends. No method blocks but `end`.
    """

    def __init__(self, command: Command) -> None:
        """Raises `Unavailable` when it cannot be started."""
        words = list(command.words)
        if command.guard_s is not None:
            words = [sys.executable, "-I", "-S", guard.__file__, f"{command.guard_s:g}", *words]
        with ExitStack() as stack:
            log = subprocess.PIPE if command.log is None else stack.enter_context(command.log.open("ab"))
            try:
                # Not by the event loop: uvloop forks, of which gRPC and large processes want to know; this does not.
                self._process = subprocess.Popen(  # noqa: S603 - words, never a shell's line
                    words,
                    env=dict(command.environment),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE if command.guard_s is None else log,
                    stderr=log,
                    pass_fds=command.pass_fds,
                    start_new_session=True,
                    bufsize=0,
                )
            except OSError as error:
                raise Unavailable(f"{words[0]} could not be started: {error.strerror}.") from error
        self.pid = self._process.pid
        self.ended: Future[int] = Future()
        """Its exit code, negative for the signal that ended it; never cancelled."""
        self.ended.set_running_or_notify_cancel()
        self._reaping = threading.Lock()
        threading.Thread(target=self._watch, name=f"child-{self.pid}", daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return not self.ended.done()

    @property
    def pipes(self) -> "tuple[IO[bytes] | None, IO[bytes] | None, IO[bytes] | None]":
        """Our ends of its input, output and errors, where they are pipes; for one owner, who closes them."""
        return self._process.stdin, self._process.stdout, self._process.stderr

    def terminate(self) -> None:
        """Asks it to end."""
        self._signal(signal.SIGTERM, os.kill)

    def kill(self) -> None:
        """Ends it and its group."""
        self._signal(signal.SIGKILL, os.killpg)

    def end(self, within_s: float) -> None:
        """Ends it: gently, after `within_s` by force. For those who do not use its output; blocks until it is gone."""
        self.terminate()
        try:
            self.ended.result(within_s)
        except TimeoutError:
            self.kill()
            self.ended.result()
        for pipe in self.pipes:
            if pipe is not None:
                pipe.close()

    def _signal(self, number: int, send: Callable[[int, int], None]) -> None:
        with self._reaping:  # the number of a process that was waited for may be another's
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    send(self.pid, number)

    def _watch(self) -> None:
        if hasattr(os, "waitid"):
            with contextlib.suppress(ChildProcessError):  # where SIGCHLD is ignored, the kernel has reaped it
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:  # some systems have none; there the group's number may be another's by now, which is unlikely
            self._process.wait()
        with self._reaping:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            code = self._process.wait()
        self.ended.set_result(code)


_MEANINGS = {
    signal.SIGXCPU: "it used more processor time than it may",
    signal.SIGALRM: "its time was over",
    signal.SIGKILL: "it was killed, or the machine ran out of memory",
}


def ending(code: int) -> str:
    """How a process ended, in words that follow "ended with"."""
    if code >= 0:
        return f"exit code {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"signal {-code}"
    meaning = _MEANINGS.get(number)
    return f"{number.name} ({meaning})" if meaning else number.name


def last_lines(log: Path, count: int) -> list[str]:
    """The end of a log; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-count:]
