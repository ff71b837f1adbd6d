"""Disks that are small or full."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NO_DISK = "a file system of its own cannot be mounted here, so no disk can be filled"


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A file system of this size at the folder; what it gives makes it another size."""
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip(NO_DISK)
    folder.mkdir(parents=True)

    def mount(options: str) -> int:
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, check=False
        ).returncode

    if mount(f"size={size}"):
        pytest.skip(NO_DISK)
    try:
        yield lambda wanted: _done(mount(f"remount,size={wanted}"))
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _done(code: int) -> None:
    assert code == 0, "the disk could not be made larger"
