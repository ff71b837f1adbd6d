"""The real `evalmesh` command as a child process, and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TOOL = Path(sys.executable).with_name("evalmesh")
_TROUBLE = ("Traceback (most recent call last)", "a defect:", "Task exception", "never awaited", "was never retrieved")


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def quiet(self) -> bool:
        """Whether nothing was said that only a developer would understand."""
        return not any(words in self.stdout + self.stderr for words in _TROUBLE)


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without what would steer the command."""
    # Nor with the width of a terminal, which test runners set for their workers.
    steering = ("EVALMESH_", "OPENAI_", "COLUMNS")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    return {**clean, **variables}


def evalmesh(*arguments: object, cwd: Path, within_s: float = 60.0, **variables: str) -> Done:
    """Runs a command to its end."""
    done = subprocess.run(
        [_TOOL, *map(str, arguments)],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


class Command:
    """A command that runs on while the test does something to it."""

    def __init__(self, *arguments: object, cwd: Path, **variables: str) -> None:
        self._said = cwd / f"said-{time.monotonic_ns()}"
        self._said.mkdir()
        with (self._said / "stdout").open("w") as stdout, (self._said / "stderr").open("w") as stderr:
            self.process = subprocess.Popen(
                [_TOOL, *map(str, arguments)],
                cwd=cwd,
                env=environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    @property
    def stdout(self) -> str:
        return (self._said / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self._said / "stderr").read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, within_s: float = 30.0) -> Done:
        """Waits for its end."""
        return Done(self.process.wait(within_s), self.stdout, self.stderr)


@contextmanager
def running(*arguments: object, cwd: Path, **variables: str) -> Iterator[Command]:
    """A command in a session of its own; whatever is left of it at the end is killed."""
    command = Command(*arguments, cwd=cwd, **variables)
    try:
        yield command
    finally:
        for pid in family(command.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        command.process.wait()


def family(pid: int) -> list[int]:
    """The process, its descendants, and their orphans, as far as they live in its session or below."""
    table = _processes()
    found = {number for number, (_, session, _) in table.items() if pid in {number, session}}
    while True:
        more = {number for number, (parent, _, _) in table.items() if parent in found} - found
        if not more:
            return sorted(found)
        found |= more


def living(pids: list[int]) -> list[str]:
    """Command lines of those that still run."""
    table = _processes()
    return [f"{pid} {table[pid][2]}" for pid in pids if pid in table]


def _processes() -> dict[int, tuple[int, int, str]]:
    """Pid to (parent, session, command line) of everything that is no zombie."""
    table = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            line = (folder / "cmdline").read_text().replace("\0", " ").strip()
        except OSError:
            continue
        if stat[0] != "Z":
            table[int(folder.name)] = (int(stat[1]), int(stat[3]), line)
    return table


def until(condition, within_s: float = 20.0, what: str = "it") -> None:
    """Returns when `condition()` is true."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {within_s} s"
        time.sleep(0.02)


def report_in(folder: Path) -> dict[str, Any]:
    """The report of an outputs folder, or of the only one in a work directory."""
    found = [folder / "report.json"] if (folder / "report.json").is_file() else sorted(folder.glob("*/report.json"))
    assert len(found) == 1, f"{len(found)} reports in {sorted(folder.iterdir()) if folder.is_dir() else folder}"
    report: dict[str, Any] = json.loads(found[0].read_text())
    return report
