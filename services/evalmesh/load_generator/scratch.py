"""Where records and downloaded files lie while they are needed: a folder that nobody else can reach into."""

import os
import shutil
import stat
from pathlib import Path
from tempfile import mkdtemp

from evalmesh.domain.errors import FailedPrecondition


class Scratch:
    """A folder that this process made, under a name of its own, for itself alone.

    What lies in it was put there by this process: a shared folder would let others on the machine choose prompts.
    """

    def __init__(self, parent: str = "") -> None:
        """In `parent`; empty: the system's folder for temporary files."""
        if parent:
            Path(parent).mkdir(parents=True, exist_ok=True)
        self._folder = Path(mkdtemp(prefix="evalmesh-load-", dir=parent or None))

    @property
    def folder(self) -> Path:
        """Made again where something tidied it away. Raises `FailedPrecondition` when it is no longer ours alone."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.lstat(self._folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise FailedPrecondition(
                f"{self._folder} is no longer a folder of this process alone: something replaced or opened it. Restart "
                "the load generator, with a scratch folder that others cannot write to."
            )
        return self._folder

    async def close(self) -> None:
        """Takes everything away."""
        shutil.rmtree(self._folder, ignore_errors=True)
