"""The folders that paths of a spec may lead into."""

import os
from collections.abc import Sequence
from pathlib import Path

from evalmesh.domain.errors import PermissionDenied


class Roots:
    """Folders of this machine that callers may name files in. Symlinks are followed before anything is compared."""

    def __init__(self, folders: Sequence[str], setting: str) -> None:
        """`setting` is named to those who ask for more."""
        self._folders = tuple(Path(os.path.realpath(Path(folder).expanduser())) for folder in folders if folder)
        self._setting = setting

    def holds(self, path: Path) -> bool:
        """Whether the path, with all links followed, lies in one of the folders."""
        try:
            real = Path(os.path.realpath(path))
        except (OSError, ValueError):
            return False
        return any(real.is_relative_to(folder) for folder in self._folders)

    def check(self, path: Path, field: str, shown: str) -> None:
        """Raises `PermissionDenied`, which says the same whether the path exists or not."""
        if self.holds(path):
            return
        where = "lies in none of the folders that this service reads for callers"
        none = "" if self._folders else "; it has none"
        raise PermissionDenied(
            f"{field} {shown!r} {where} ({self._setting}{none}). Put the file there, or have its operator add the "
            "folder.",
            {"field": field, "value": shown},
        )


def folders_of(text: str) -> list[str]:
    """Folders as a setting lists them, comma-separated."""
    return [part.strip() for part in text.split(",") if part.strip()]
