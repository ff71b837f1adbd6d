"""Data sets of hubs: which files of a repository hold the rows, and those files on this machine."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from evalmesh.adapters.dataset_layout import Place, find_files, is_data, nowhere, subsets_in
from evalmesh.adapters.datasets import LocalDatasets
from evalmesh.adapters.hubs.http import PATIENCE_S
from evalmesh.adapters.hubs.hubs import HubClient
from evalmesh.benchmarks.base import NumberedRow
from evalmesh.benchmarks.query import DatasetQuery
from evalmesh.domain.hub import DatasetOrigin, Repo, RepoFile, Snapshot
from evalmesh.domain.row_form import RowForm
from evalmesh.ports.hubs import Note

_SHOWN_COMMIT = 12


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
        return None if known is None else HubFolder(self._client, known)

    async def look(self, repo: Repo, revision: str, patience_s: float | None = None) -> "HubFolder":
        """See the port."""
        return HubFolder(self._client, await self._client.look(repo, revision, patience_s or PATIENCE_S))


class HubFolder:
    """See `ports.hubs.HubDataset`."""

    def __init__(self, client: HubClient, snapshot: Snapshot) -> None:
        self._client = client
        self._snapshot = snapshot
        self._local = LocalDatasets()
        self.folder = client.cache.snapshot_dir(snapshot.repo, snapshot.commit)
        names = sorted(one.path for one in snapshot.files if is_data(one.path))
        self._place = Place(self.folder, f"{snapshot.repo} at {snapshot.commit[:_SHOWN_COMMIT]}", names)
        self._files = {self.folder / one.path: one for one in snapshot.files}

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
        found = find_files(query, self._place)
        if not found:
            raise nowhere(query, [self._place], [])
        return found

    def subsets(self, query: DatasetQuery) -> Sequence[str]:
        """See the port."""
        return subsets_in(query, self._place)

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
        return self._files[file].path

    def missing(self, files: Sequence[Path]) -> Sequence[Path]:
        """See the port."""
        return [path for path in files if not self._client.cache.has(self._snapshot, self._files[path])]

    async def bring(self, files: Sequence[Path], note: Note | None = None) -> None:
        """See the port."""
        wanted: list[RepoFile] = [self._files[path] for path in dict.fromkeys(files)]
        await self._client.bring(self._snapshot, wanted, note)
