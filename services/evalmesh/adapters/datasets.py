"""Data sets on this machine: a file, a folder, the cache of a hub, or what ships with evalmesh.

Places, in order: `local_path` (then nothing else is looked at); the packaged file; in `dataset_dir` and in each cache
folder: `{name}`, `{org}/{dataset}`, `{dataset}`, `datasets--{org}--{dataset}/snapshots/{revision}` (Hugging Face).

In a place, the first of these that matches, for subset S, split P and any extension of `EXTENSIONS`; each is
looked for as it stands and below `data/`:

    with a subset                                  without, or where S is the only subset
    S/P-00000-of-00002.parquet                     P-00000-of-00002.parquet
    S/P.jsonl                                      P.jsonl
    S/P/0000.parquet                               P/0000.parquet
    S_P.jsonl  S-P.jsonl
    P/S_P.csv  P/S.csv

A split that is not there may be a sample of it, with `P_sample` in place of P in the folder or the file name.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.resources import files as package_files
from pathlib import Path

from evalmesh.adapters.roots import Roots
from evalmesh.benchmarks.query import DatasetQuery
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.media import MAX_MEDIA_BYTES
from evalmesh.ports.dataset_source import Row
from evalmesh.wire.row_files import Bad, Kind, RowFile, kind_by_name

EXTENSIONS = tuple(
    extension + packing for extension in ("jsonl", "json", "csv", "tsv", "parquet") for packing in ("", ".gz")
)
_WITH_SUBSET = ("{S}/{P}-[0-9]*", "{S}/{P}", "{S}/{P}/[0-9]*", "{S}_{P}", "{S}-{P}", "{P}/{S}_{P}", "{P}/{S}")
_WITHOUT_SUBSET = ("{P}-[0-9]*", "{P}", "{P}/[0-9]*")
_ALIASES = {"validation": ("validation", "val", "valid"), "val": ("val", "validation", "valid")}
_PREFIXES = ("", "data/")
_SUFFIXES = tuple(f".{extension}" for extension in EXTENSIONS)
_MAX_DEPTH = 4
_SHOWN_FILES = 8
_SHOWN_NAME = 100


class LocalDatasets:
    """Finds files in the layouts of the hubs and streams their rows; never fetches anything."""

    def __init__(self, cache_dirs: Sequence[Path] = (), roots: Roots | None = None) -> None:
        """Makes a source of what lies on this machine.

        Args:
            cache_dirs: Folders of earlier downloads, such as the Hugging Face hub cache; absent ones are no error.
            roots: What queries may name; `None`: whatever this process may read, as it is for its own user.
        """
        self._cache_dirs = tuple(cache_dirs)
        self._allowed = roots

    def resolve(self, query: DatasetQuery) -> Sequence[Path]:
        """The files that hold these rows, in order.

        Raises `NotFound`, naming what was looked for and where, and `PermissionDenied` for what lies outside.
        """
        if query.local_path:
            return self._within(query, self._resolve_local(query, self._local_path(query)))
        if query.packaged:
            return (_packaged(query.packaged),)
        roots = list(self._roots(query))
        for root in roots:
            found = _find(query, root)
            if found:
                return self._within(query, found)
        raise _nowhere(query, roots, [*self._containers(query)])

    def subsets(self, query: DatasetQuery) -> Sequence[str]:
        """Subsets found on disk for the query's split, sorted; empty when the layout has none."""
        if query.local_path:
            path = self._local_path(query)
            return _subsets_in(query, path) if path.is_dir() else ()
        for root in () if query.packaged else self._roots(query):
            found = _subsets_in(query, root)
            if found:
                return found
        return ()

    def rows(self, files: Sequence[Path], columns: Sequence[str] = ()) -> Iterator[tuple[int, Row | str]]:
        """(0-based row number over all files, row) in file order; a line that cannot be parsed comes as the reason."""
        number = 0
        for path in files:
            file, kind = _row_file(path)
            for where, row in file.rows(kind, columns):
                if isinstance(row, dict):
                    yield number, row
                elif isinstance(row, Bad):
                    yield number, f"{path.name}: {row}"
                else:
                    yield number, f"{path.name}: {where}: a {type(row).__name__}, expected an object"
                number += 1

    def marks(self, files: Sequence[Path], columns: Sequence[str] = ()) -> Iterator[None]:
        """One for each row that `rows` gives, most formats not decoded."""
        for path in files:
            file, kind = _row_file(path)
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

    def _resolve_local(self, query: DatasetQuery, path: Path) -> Sequence[Path]:
        if path.is_file():
            return _single_file(query, path)
        if not path.is_dir():
            raise NotFound(
                f"local_path '{path}' of benchmark '{query.name}' does not exist; name a file or folder that does.",
                {"field": "local_path", "value": str(path)},
            )
        found = _find(query, path)
        if not found:
            raise _nowhere(query, [path], [path])
        return found

    def _containers(self, query: DatasetQuery) -> Iterator[Path]:
        if query.dataset_dir:
            yield self._checked(query.dataset_dir, "dataset_dir")
        yield from self._cache_dirs

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


def extension_of(path: Path) -> str:
    """`jsonl`, `csv.gz`, ...; empty for a file that cannot be read as rows."""
    name = path.name.lower()
    return next((extension for extension in EXTENSIONS if name.endswith("." + extension)), "")


def _row_file(path: Path) -> tuple[RowFile, Kind]:
    kind = kind_by_name(path.name) if extension_of(path) else None
    if kind is None:
        raise InvalidInput(
            f"'{path}' cannot be read as rows: file names end in one of {', '.join(EXTENSIONS)}.",
            {"field": "local_path", "value": str(path)},
        )
    file = RowFile(path, f"'{path}'", "local_path")
    if kind == "json" and file.sniffed() == "lines":  # JSON lines under the wrong name are common
        kind = "lines"
    return file, kind


def _packaged(name: str) -> Path:
    path = package_files("evalmesh.benchmarks").joinpath("data", name)
    if not isinstance(path, Path) or not path.is_file():
        raise NotFound(f"The data file '{name}' is missing from this installation of evalmesh; install it again.")
    return path


def _single_file(query: DatasetQuery, path: Path) -> Sequence[Path]:
    details = {"field": "local_path", "value": str(path)}
    if not extension_of(path):
        raise InvalidInput(
            f"local_path '{path}' cannot be read as rows: file names end in one of {', '.join(EXTENSIONS)}.", details
        )
    if query.few_shot:
        raise NotFound(
            f"local_path '{path}' is a single file, so benchmark '{query.name}' has no split '{query.split}' to take "
            "solved examples from; give the folder that holds both, or set few_shot_num to 0.",
            details,
        )
    if query.subset and not query.only_subset and query.subset not in path.name:
        raise NotFound(
            f"local_path '{path}' is a single file, and its name does not say that it holds subset '{query.subset}' of "
            f"benchmark '{query.name}'; give the folder of all subsets, or choose the subset the file is named after.",
            details,
        )
    return (path,)


def _listing(root: Path) -> list[str]:
    """Data files below `root` as relative `/`-separated paths, sorted."""
    found: list[str] = []
    for folder, folders, names in os.walk(root):
        parts = Path(folder).relative_to(root).parts
        if len(parts) >= _MAX_DEPTH:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        prefix = "".join(f"{part}/" for part in parts)
        found += [prefix + name for name in names if name.lower().endswith(_SUFFIXES)]
    return sorted(found)


def _patterns(query: DatasetQuery) -> tuple[str, ...]:
    with_subset = _WITH_SUBSET if query.subset else ()
    return with_subset + (_WITHOUT_SUBSET if not query.subset or query.only_subset else ())


def _splits(split: str) -> Iterator[str]:
    """The split under its names, then samples of it."""
    names = _ALIASES.get(split, (split,))
    yield from names
    yield from (f"{name}_sample" for name in names)


@lru_cache(maxsize=256)
def _matcher(pattern: str, split: str) -> Callable[[str], re.Match[str] | None]:
    """Matches relative paths; group `S` captures the subset. Inside a folder the split may be unsampled."""
    whole = split.removesuffix("_sample")
    in_file = re.escape(split) if whole == split else f"{re.escape(whole)}(?:_sample)?"
    folder, _, name = pattern.rpartition("/")
    folder_expr = folder.replace("{P}", re.escape(split))
    # A folder that is itself named after the sample may keep the whole split's name in its files.
    name_expr = name.replace("{P}", in_file if "{P}" in folder else re.escape(split)).replace("[0-9]*", r"\d[^/.]*")
    extensions = "|".join(re.escape(extension) for extension in EXTENSIONS)
    expression = (f"{folder_expr}/" if folder else "") + f"{name_expr}\\.(?:{extensions})"
    return re.compile(expression.replace("{S}", "(?P<S>[^/]+)")).fullmatch


def _find(query: DatasetQuery, root: Path) -> Sequence[Path]:
    """The files of the first pattern that matches, or none. Raises `NotFound` when they contradict each other."""
    listing = _listing(root)
    # Looking for the name first saves most of the expressions where a folder holds many subsets.
    of_subset = [path for path in listing if query.subset in path]
    for split in _splits(query.split):
        for pattern in (prefix + shape for prefix in _PREFIXES for shape in _patterns(query)):
            match = _matcher(pattern, split)
            hits = ((path, match(path)) for path in (of_subset if "{S}" in pattern else listing))
            found = [path for path, hit in hits if hit and hit.groupdict().get("S", query.subset) == query.subset]
            if found:
                _check_whole(query, root, found, numbered="[0-9]*" in pattern)
                return tuple(root / path for path in found)
    return ()


def _check_whole(query: DatasetQuery, root: Path, found: Sequence[str], *, numbered: bool) -> None:
    kinds = {extension_of(Path(path)) for path in found}
    if len(kinds) > 1 or (len(found) > 1 and not numbered):
        raise NotFound(
            f"More than one file fits {_wanted(query)} in '{root}': {', '.join(found[:_SHOWN_FILES])}. Keep one of "
            "them there, or name it in local_path.",
            {"field": "local_path"},
        )
    totals = {int(total) for path in found for total in re.findall(r"-of-(\d+)", path)}
    if totals and totals != {len(found)}:
        raise NotFound(
            f"{_wanted(query)} in '{root}' is not whole: the file names speak of {max(totals)} parts, "
            f"{len(found)} are there. Fetch the data set again.",
            {"field": "local_path"},
        )


def _subsets_in(query: DatasetQuery, root: Path) -> Sequence[str]:
    listing = _listing(root)
    for split in _splits(query.split):
        for pattern in (prefix + shape for prefix in _PREFIXES for shape in _WITH_SUBSET):
            match = _matcher(pattern, split)
            found = {hit["S"] for path in listing if (hit := match(path))}
            # `data/` is a prefix and `0000.parquet` a part of a split; neither is a subset.
            found = {name for name in found if name != "data" and not name.isdecimal()}
            if found:
                return sorted(found)
    return ()


def _wanted(query: DatasetQuery) -> str:
    subset = f", subset '{query.subset}'" if query.subset else ""
    return f"split '{query.split}' of benchmark '{query.name}'{subset}"


def _nowhere(query: DatasetQuery, roots: Sequence[Path], places: Sequence[Path]) -> NotFound:
    """Says what was looked for, where, what is there, and how to point at the data."""
    tried = [
        pattern.replace("{S}", query.subset).replace("{P}", query.split).replace("[0-9]*", "00000-of-00001")
        for pattern in _patterns(query)
    ]
    message = f"No files found for {_wanted(query)}. "
    if roots:
        there = [path for root in roots for path in _listing(root)]
        more = f" and {len(there) - _SHOWN_FILES} more" if len(there) > _SHOWN_FILES else ""
        message += f"Looked in {_quoted(roots)} for {', '.join(tried)} (jsonl, json, csv, tsv or parquet, also .gz); "
        message += f"data files there: {', '.join(there[:_SHOWN_FILES]) or 'none'}{more}. "
    elif places:
        names = _quoted([Path(name) for name in dict.fromkeys((query.name, query.hub_id)) if name])
        message += f"There is no folder {names} in {_quoted(places)}. "
    message += f'Name the data with --dataset-args \'{{"{query.name}": {{"local_path": "FILE_OR_FOLDER"}}}}\', or set '
    message += "--dataset-dir to a folder that holds it."
    return NotFound(message, {"field": "local_path", "value": query.local_path})


def _quoted(paths: Sequence[Path]) -> str:
    return ", ".join(f"'{path}'" for path in paths)
