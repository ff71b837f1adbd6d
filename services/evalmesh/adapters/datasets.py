"""Data sets on this machine: a file, a folder, a copy of a hub's cache, or what ships with evalmesh.

Places, in order: `local_path` (then nothing else is looked at); the packaged file; in `dataset_dir`: `{name}`,
`{org}/{dataset}`, `{dataset}`, `datasets--{org}--{dataset}/snapshots/{revision}` (Hugging Face). What a place looks
like inside: `dataset_layout`. What comes from hubs, and their caches: `hubs/`.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files as package_files
from pathlib import Path

from evalmesh.adapters.archives import is_archive, unpacked
from evalmesh.adapters.dataset_layout import (
    EXTENSIONS,
    Place,
    extension_of,
    find_files,
    folder_place,
    nowhere,
    subsets_in,
)
from evalmesh.adapters.hubs.settings import hub_settings
from evalmesh.adapters.roots import Roots
from evalmesh.benchmarks.base import NumberedRow
from evalmesh.benchmarks.query import DatasetQuery
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.media import MAX_MEDIA_BYTES
from evalmesh.domain.row_form import RowForm
from evalmesh.wire.row_files import Bad, Kind, RowFile, kind_by_name

_SHOWN_NAME = 100
_SPREADSHEETS = frozenset({".xlsx", ".xls", ".ods", ".numbers"})


class LocalDatasets:
    """Finds files in the layouts of the hubs and streams their rows; never fetches anything."""

    def __init__(self, roots: Roots | None = None, unpack_dir: Path | None = None) -> None:
        """Makes a source of what lies on this machine.

        Args:
            roots: What queries may name; `None`: whatever this process may read, as it is for its own user.
            unpack_dir: Where archives are unpacked; `None`: beside what is kept of hubs.
        """
        self._allowed = roots
        self._unpack_dir = unpack_dir

    def is_here(self, query: DatasetQuery) -> bool:
        """See the port."""
        with _readable():
            return bool(query.local_path or query.packaged) or any(True for _ in self._roots(query))

    def resolve(self, query: DatasetQuery) -> Sequence[Path]:
        """The files that hold these rows, in order.

        Raises `NotFound`, naming what was looked for and where, and `PermissionDenied` for what lies outside.
        """
        with _readable():
            if query.local_path:
                path = self._local_path(query)
                found = self._resolve_local(query, path)
                # What is unpacked holds no links, and lies in a folder of our own.
                return found if path.is_file() and is_archive(path.name) else self._within(query, found)
            if query.packaged:
                return (_packaged(query.packaged),)
            places = [folder_place(root) for root in self._roots(query)]
            for place in places:
                found = find_files(query, place)
                if found:
                    return self._within(query, found)
            raise nowhere(query, places, [*self._containers(query)])

    def subsets(self, query: DatasetQuery) -> Sequence[str]:
        """Subsets found on disk for the query's split, sorted; empty when the layout has none."""
        with _readable():
            if query.local_path:
                path = self._local_path(query)
                return subsets_in(query, self._place(path)) if path.is_dir() or is_archive(path.name) else ()
            for root in () if query.packaged else self._roots(query):
                found = subsets_in(query, folder_place(root))
                if found:
                    return found
            return ()

    def rows(
        self,
        files: Sequence[Path],
        columns: Sequence[str] = (),
        form: RowForm | None = None,
        note: Callable[[str], None] | None = None,
    ) -> Iterator[NumberedRow]:
        """Rows in file order, numbered over all files; a line that cannot be parsed comes as the reason."""
        number = 0
        for path in files:
            file, kind = _row_file(path, form)
            for where, row in file.rows(kind, columns):
                while note is not None and file.notes:
                    note(file.notes.popitem()[0])
                place = f"{path.name}: {where}"
                if isinstance(row, dict):
                    yield NumberedRow(number, row, place)
                elif isinstance(row, Bad):
                    yield NumberedRow(number, row.reason, place)
                else:
                    yield NumberedRow(number, f"a {type(row).__name__}, expected an object", place)
                number += 1

    def marks(self, files: Sequence[Path], columns: Sequence[str] = (), form: RowForm | None = None) -> Iterator[None]:
        """One for each row that `rows` gives, most formats not decoded."""
        for path in files:
            file, kind = _row_file(path, form)
            yield from file.marks(kind, columns)

    def read_media(self, files: Sequence[Path], name: str) -> bytes:
        """A file beside the data files, or below. Raises `ValueError` when there is none, or not there."""
        shown = name[:_SHOWN_NAME]
        for folder in dict.fromkeys(path.parent for path in files):
            # Links are followed before the look, so that none leads out; snapshots link to the blobs of their own repo.
            homes = (folder.resolve(), *_blobs(folder))
            try:
                path = (folder / name).resolve()
                inside = any(path.is_relative_to(home) for home in homes)
                if not inside or (self._allowed is not None and not self._allowed.holds(path)):
                    raise ValueError(f"it names the file {shown!r}, which lies outside the folder of the data")
                if path.is_file():
                    size_bytes = path.stat().st_size
                    if size_bytes > MAX_MEDIA_BYTES:
                        raise ValueError(f"the file {shown!r} has {size_bytes} bytes; {MAX_MEDIA_BYTES} is the most")
                    return path.read_bytes()
            except OSError as error:  # a name that is too long, or a file that may not be read
                raise ValueError(f"the file {shown!r} cannot be read: {error.strerror}") from error
        raise ValueError(f"it names the file {shown!r}, which is not in the folder of the data")

    def _local_path(self, query: DatasetQuery) -> Path:
        """Where `local_path` leads. Raises `PermissionDenied`."""
        return self._checked(query.local_path, "local_path")

    def _checked(self, text: str, field: str) -> Path:
        path = Path(os.path.expanduser(text))  # noqa: PTH111  (pathlib's own raises where there is no such user)
        if self._allowed is not None:
            self._allowed.check(path, field, text)
        return path

    def _within(self, query: DatasetQuery, found: Sequence[Path]) -> Sequence[Path]:
        """The files, none of which is a link out of the folders that may be read. Raises `PermissionDenied`."""
        if self._allowed is not None:
            for path in found:
                self._allowed.check(path, "local_path" if query.local_path else "dataset_dir", path.name)
        return found

    def _place(self, path: Path) -> Place:
        """A folder, or the one that an archive is unpacked to."""
        if not (path.is_file() and is_archive(path.name)):
            return folder_place(path)
        found = folder_place(unpacked(path, self._unpack_dir or hub_settings().cache_dir / "archives"))
        return replace(found, label=f"'{path}'")

    def _resolve_local(self, query: DatasetQuery, path: Path) -> Sequence[Path]:
        if path.is_file() and not is_archive(path.name):
            return _single_file(query, path)
        if not path.exists():
            raise NotFound(
                f"local_path '{path}' of benchmark '{query.name}' does not exist; name a file or folder that does.",
                {"field": "local_path", "value": str(path)},
            )
        place = self._place(path)
        found = find_files(query, place)
        if not found:
            raise nowhere(query, [place], [path])
        return found

    def _containers(self, query: DatasetQuery) -> Iterator[Path]:
        if query.dataset_dir:
            folder = self._checked(query.dataset_dir, "dataset_dir")
            if not folder.is_dir():
                state = "is no folder" if folder.exists() else "does not exist"
                raise NotFound(
                    f"dataset_dir: '{folder}' {state}; name the folder that holds the data sets.",
                    {"field": "dataset_dir", "value": query.dataset_dir},
                )
            yield folder

    def _roots(self, query: DatasetQuery) -> Iterator[Path]:
        """Folders that exist, may hold the data set and may be read."""
        yield from (one for one in self._places(query) if self._allowed is None or self._allowed.holds(one))

    def _places(self, query: DatasetQuery) -> Iterator[Path]:
        parts = query.hub_id.split("/") if query.hub_id else []
        if any(part in {"", ".", ".."} or os.sep in part for part in parts):
            raise InvalidInput(
                f"dataset_id '{query.hub_id}' of benchmark '{query.name}' is no hub id (organisation/name); a file or "
                "folder belongs into local_path.",
                {"field": "dataset_id", "value": query.hub_id},
            )
        for container in self._containers(query):
            names = [query.name, "/".join(parts), parts[-1]] if parts else [query.name]
            yield from (container / name for name in dict.fromkeys(names) if (container / name).is_dir())
            if parts:
                yield from _snapshot(container / ("datasets--" + "--".join(parts)), query.revision)


@contextmanager
def _readable() -> Iterator[None]:
    """Raises `InvalidInput` that names the path for whatever the system refuses."""
    try:
        yield
    except OSError as error:
        path = str(error.filename or "the data")
        why = (error.strerror or str(error)).lower()
        raise InvalidInput(
            f"'{path}' cannot be read: {why}; check its permissions, or name another file or folder.",
            {"field": "local_path", "value": path},
        ) from error


def _snapshot(repo: Path, revision: str) -> Iterator[Path]:
    """The snapshot folder of a Hugging Face cache: the revision asked for, else `main`, else the only one there is."""
    ref = repo / "refs" / (revision or "main")
    commit = ref.read_text().strip() if _is_inside(ref, repo) and ref.is_file() else revision
    if commit and _is_inside(repo / "snapshots" / commit, repo):
        if (repo / "snapshots" / commit).is_dir():
            yield repo / "snapshots" / commit
        return
    if (repo / "snapshots").is_dir():
        snapshots = sorted(path for path in (repo / "snapshots").iterdir() if path.is_dir())
        if len(snapshots) == 1:
            yield snapshots[0]


def _blobs(folder: Path) -> Iterator[Path]:
    """Where the files of a snapshot in a Hugging Face cache really are."""
    for parent in folder.parents:
        if parent.name == "snapshots" and parent.parent.name.startswith("datasets--"):
            yield (parent.parent / "blobs").resolve()


def _is_inside(path: Path, folder: Path) -> bool:
    return Path(os.path.normpath(path)).is_relative_to(folder)


def _row_file(path: Path, form: RowForm | None) -> tuple[RowFile, Kind]:
    kind = kind_by_name(path.name) if extension_of(path) else None
    if kind is None:
        raise _no_row_file(path)
    file = RowFile(path, f"'{path}'", "local_path", form or RowForm())
    if kind == "json" and file.sniffed() == "lines":  # JSON lines under the wrong name are common
        kind = "lines"
    return file, kind


def _no_row_file(path: Path) -> InvalidInput:
    hint = " Save the spreadsheet as CSV." if path.suffix.lower() in _SPREADSHEETS else ""
    return InvalidInput(
        f"local_path '{path}' cannot be read as rows: file names end in one of {', '.join(EXTENSIONS)}.{hint}",
        {"field": "local_path", "value": str(path)},
    )


def _packaged(name: str) -> Path:
    path = package_files("evalmesh.benchmarks").joinpath("data", name)
    if not isinstance(path, Path) or not path.is_file():
        raise NotFound(f"The data file '{name}' is missing from this installation of evalmesh; install it again.")
    return path


def _single_file(query: DatasetQuery, path: Path) -> Sequence[Path]:
    details = {"field": "local_path", "value": str(path)}
    if not extension_of(path):
        raise _no_row_file(path)
    if query.few_shot:
        raise NotFound(
            f"local_path '{path}' is a single file, so benchmark '{query.name}' has no split '{query.split}' to take "
            "solved examples from; give the folder that holds both, or set few_shot_num to 0.",
            details,
        )
    named = re.search(rf"(?<![^\W_]){re.escape(query.subset)}(?![^\W_])", path.name)
    if query.subset and not query.only_subset and not named:
        raise NotFound(
            f"local_path '{path}' is a single file, and its name does not say that it holds subset '{query.subset}' of "
            f"benchmark '{query.name}'; give the folder of all subsets, or choose the subset the file is named after.",
            details,
        )
    return (path,)
