"""Folders and files that nobody but this user may look into."""

import os
import stat
from pathlib import Path

from evalmesh.domain.errors import FailedPrecondition
from evalmesh.process.files import appearing

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def private_folder(path: Path) -> Path:
    """Makes a folder of mode 0700, with its parents as the umask says; one that was there is tightened.

    Raises `FailedPrecondition` for one that belongs to somebody else, who could read and exchange what lies there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.stat()
    # A link is looked at as well as what it leads to: somebody else's would lead into any folder of ours.
    owners = {found.st_uid, path.lstat().st_uid} - {os.geteuid()}
    if owners:
        raise FailedPrecondition(
            f"The folder {path} belongs to another user (uid {min(owners)}), who could read the keys and answers that "
            "go through it; choose another work directory (--work-dir), or remove the folder.",
            {"field": "work_dir"},
        )
    if found.st_mode & _OTHERS:
        path.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Writes a file of mode 0600 in one step: what was there, a link included, is replaced and not written through."""
    with appearing(path, 0o600) as file:
        file.write(text.encode())
