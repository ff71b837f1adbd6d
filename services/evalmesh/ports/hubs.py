"""Hubs: repositories looked up at one commit, and their files brought to this machine when they are wanted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from evalmesh.domain.hub import DatasetOrigin, Repo
from evalmesh.ports.dataset_source import DatasetSource


@dataclass(frozen=True, slots=True)
class Bringing:
    """How far a download has come."""

    done_bytes: int
    total_bytes: int
    done_files: int
    total_files: int

    def __str__(self) -> str:
        done, total = self.done_bytes / 1e6, self.total_bytes / 1e6
        return f"{done:.1f} of {total:.1f} MB, {self.done_files} of {self.total_files} files"


Note = Callable[[Bringing], None]


@runtime_checkable
class HubDataset(DatasetSource, Protocol):
    """A data set at one commit. `resolve` tells where files will be; they are there once they were brought."""

    @property
    def origin(self) -> DatasetOrigin:
        """Where it is from."""
        ...

    @property
    def folder(self) -> Path:
        """Where its files will be."""
        ...

    def name_of(self, file: Path) -> str:
        """What the hub calls a file that `resolve` told."""
        ...

    def missing(self, files: Sequence[Path]) -> Sequence[Path]:
        """Those that are not on this machine yet."""
        ...

    async def bring(self, files: Sequence[Path], note: Note | None = None) -> None:
        """Has the files on this machine, whole.

        Raises `Unavailable`, `ResourceExhausted`, `PermissionDenied`, `FailedPrecondition` (offline), and `Conflict`
        when they have changed since the commit was looked up.
        """
        ...


class Hubs(Protocol):
    """The hubs as this process may use them."""

    @property
    def offline(self) -> str:
        """What forbids to ask them, in words; empty: nothing does."""
        ...

    def kept(self, repo: Repo, revision: str) -> HubDataset | None:
        """What is on this machine of a revision, without a question to any hub."""
        ...

    async def look(self, repo: Repo, revision: str, patience_s: float | None = None) -> HubDataset:
        """The data set at a revision; empty: its main branch. A commit that was looked up before asks nobody.

        `patience_s`: so long a hub that is busy or away is waited for; `None`: some minutes.

        Raises `NotFound`, `PermissionDenied`, `Unavailable`, `InvalidInput`.
        """
        ...
