"""Data sets of hubs: which files of a repository hold the rows, and those files on this machine."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evalmesh.adapters.archives import is_archive, unpacked
from evalmesh.adapters.dataset_layout import Place, find_files, folder_place, is_data, nowhere, subsets_in
from evalmesh.adapters.datasets import LocalDatasets
from evalmesh.adapters.hubs.http import PATIENCE_S
from evalmesh.adapters.hubs.hubs import HubClient
from evalmesh.benchmarks.base import NumberedRow
from evalmesh.benchmarks.query import DatasetQuery
from evalmesh.domain.hub import DatasetOrigin, Repo, RepoFile, Snapshot
from evalmesh.domain.row_form import RowForm
from evalmesh.ports.hubs import Note

_SHOWN_COMMIT = 12
_NO_ROWS = frozenset({"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"})
"""What other clients write beside rows."""


class HubDatasets:
    """See `ports.hubs.Hubs`."""

    def __init__(self, client: HubClient) -> None:
        self._client = client

    @property
    def offline(self) -> str:
        """See the port."""
        return self._client.offline

    def kept(self, repo: Repo, revision: str) -> "HubFolder | None":
        """See the port."""
        known = self._client.cache.known(repo, revision)
        return None if known is None else self._opened(known)

    async def look(self, repo: Repo, revision: str, patience_s: float | None = None) -> "HubFolder":
        """See the port."""
        found = await self._client.look(repo, revision, patience_s or PATIENCE_S)
        if archives := _archives(found):
            # What is in them cannot be told before they are here.
            await self._client.bring(found, archives)
        return await asyncio.to_thread(self._opened, found)

    def _opened(self, snapshot: Snapshot) -> "HubFolder":
        cache = self._client.cache
        home, into = cache.snapshot_dir(snapshot.repo, snapshot.commit), cache.folder / "archives"
        packed = {one: unpacked(home / one.path, into) for one in _archives(snapshot) if cache.has(snapshot, one)}
        return HubFolder(self._client, snapshot, packed)


def _archives(snapshot: Snapshot) -> list[RepoFile]:
    """Of a repository that has rows in archives alone."""
    if any(is_data(one.path) and one.path.rpartition("/")[2] not in _NO_ROWS for one in snapshot.files):
        return []
    return [one for one in snapshot.files if is_archive(one.path)]


class HubFolder:
    """See `ports.hubs.HubDataset`."""

    def __init__(self, client: HubClient, snapshot: Snapshot, packed: Mapping[RepoFile, Path]) -> None:
        """`packed`: archives, and where they are unpacked."""
        self._client = client
        self._snapshot = snapshot
        self._local = LocalDatasets()
        self.folder = client.cache.snapshot_dir(snapshot.repo, snapshot.commit)
        label = f"{snapshot.repo} at {snapshot.commit[:_SHOWN_COMMIT]}"
        names = sorted(one.path for one in snapshot.files if is_data(one.path))
        self._places = [Place(self.folder, label, names)]
        self._files = {self.folder / one.path: one for one in snapshot.files}
        for archive, folder in packed.items():
            inside = replace(folder_place(folder), label=f"{archive.path} of {label}")
            self._places.insert(0, inside)
            self._files |= {inside.root / name: archive for name in inside.names}

    @property
    def origin(self) -> DatasetOrigin:
        """See the port."""
        one = self._snapshot
        return DatasetOrigin(one.repo.hub, one.repo.id, one.revision, one.commit)

    def is_here(self, query: DatasetQuery) -> bool:  # noqa: ARG002  (whatever is asked for, it should be here)
        """See the port."""
        return True

    def resolve(self, query: DatasetQuery) -> Sequence[Path]:
        """See the port."""
        for place in self._places:
            if found := find_files(query, place):
                return found
        raise nowhere(query, self._places, [])

    def subsets(self, query: DatasetQuery) -> Sequence[str]:
        """See the port."""
        return next((found for place in self._places if (found := subsets_in(query, place))), ())

    def rows(
        self,
        files: Sequence[Path],
        columns: Sequence[str] = (),
        form: RowForm | None = None,
        note: Callable[[str], None] | None = None,
    ) -> Iterator[NumberedRow]:
        """See the port."""
        return self._local.rows(files, columns, form, note)

    def marks(self, files: Sequence[Path], columns: Sequence[str] = (), form: RowForm | None = None) -> Iterator[None]:
        """See the port."""
        return self._local.marks(files, columns, form)

    def read_media(self, files: Sequence[Path], name: str) -> bytes:
        """See the port."""
        return self._local.read_media(files, name)

    def name_of(self, file: Path) -> str:
        """See the port."""
        archive = self._files[file].path
        return archive if file == self.folder / archive else f"{archive}/{file.name}"

    def missing(self, files: Sequence[Path]) -> Sequence[Path]:
        """See the port."""
        return [path for path in files if not self._client.cache.has(self._snapshot, self._files[path])]

    async def bring(self, files: Sequence[Path], note: Note | None = None) -> None:
        """See the port."""
        wanted: list[RepoFile] = [self._files[path] for path in dict.fromkeys(files)]
        await self._client.bring(self._snapshot, wanted, note)
