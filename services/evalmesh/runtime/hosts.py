"""Which processes run a platform on a folder of this machine, so that each may know which work is its own.

A host has a name and a file, and it lives as long as it holds the lock on that file: no process id is believed. The
host without a name serves whatever belongs to no other one; a folder has one such at most, and a cluster no others.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from evalmesh.domain.errors import FailedPrecondition
from evalmesh.runtime.private_files import private_folder

_SHARED = "shared"
_SUFFIX = ".host"
_LOOKED_AT_S = 0.5
"""Whoever looks whether a file is locked holds a lock on it for a moment."""


@dataclass(frozen=True, slots=True)
class Host:
    """A process that runs a platform."""

    address: str = ""
    """Of its gateway; empty while it starts."""
    token_file: str = ""
    pid: int = 0
    """For messages alone."""


@contextmanager
def living_host(folder: Path, name: str) -> "Iterator[Announcement]":
    """Lives in the folder while the block lasts. Raises `FailedPrecondition` if one without a name does already."""
    private_folder(folder)
    path = folder / f"{name or _SHARED}{_SUFFIX}"
    with ExitStack() as stack:
        part = path if not name else path.with_suffix(".part")
        file = stack.enter_context(os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8"))
        if not _locked_within(file, _LOOKED_AT_S):
            raise _in_use(folder, path)
        if name:
            # Locked before it can be seen: who finds a file that nobody has locked clears it away.
            part.rename(path)
            stack.callback(path.unlink, missing_ok=True)
        announcement = Announcement(file)
        announcement.say(Host(pid=os.getpid()))
        yield announcement


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a living host says of itself."""

    file: IO[str]

    def say(self, host: Host) -> None:
        """Replaces what was said. In place: another file would have another lock."""
        self.file.seek(0)
        self.file.truncate()
        json.dump({"address": host.address, "token_file": host.token_file, "pid": host.pid}, self.file)
        self.file.flush()


def living_hosts(folder: Path) -> Mapping[str, Host]:
    """By name. What was left by those that were killed is cleared away."""
    found = {}
    for path in folder.glob(f"*{_SUFFIX}"):
        name = path.name.removesuffix(_SUFFIX)
        try:
            with path.open(encoding="utf-8") as file:
                if not _is_locked(file):
                    if name != _SHARED:
                        path.unlink(missing_ok=True)
                    continue
                found["" if name == _SHARED else name] = _read(file)
        except OSError:
            continue  # it went while we looked
    return found


def lives(folder: Path, name: str) -> bool:
    """Whether this one does."""
    try:
        with (folder / f"{name or _SHARED}{_SUFFIX}").open(encoding="utf-8") as file:
            return _is_locked(file)
    except OSError:
        return False


def _locked_within(file: IO[str], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        else:
            return True


def _is_locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _read(file: IO[str]) -> Host:
    try:
        said = json.load(file)
        return Host(str(said["address"]), str(said["token_file"]), int(said["pid"]))
    except (ValueError, KeyError, TypeError):
        return Host()  # it is being written


def _in_use(folder: Path, path: Path) -> FailedPrecondition:
    with path.open(encoding="utf-8") as file:
        there = _read(file)
    where = f" at {there.address}" if there.address else ""
    return FailedPrecondition(
        f"The folder {folder.parent} is in use by the platform of process {there.pid}{where}; use that one, end it, or "
        "choose another work directory.",
        {"field": "work_dir"},
    )
