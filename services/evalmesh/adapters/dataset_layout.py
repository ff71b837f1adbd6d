"""The files of a data set inside a folder, in the layouts that hubs and their users have.

In a place, the first of these that matches, for subset S, split P and any extension of `EXTENSIONS`; each is
looked for as it stands and below `data/`:

    with a subset                                  without, or where S is the only subset
    S/P-00000-of-00002.parquet                     P-00000-of-00002.parquet
    S/P.jsonl                                      P.jsonl
    S/P/0000.parquet                               P/0000.parquet
    S/P/data-00000-of-00001.arrow                  P/data-00000-of-00001.arrow (as `save_to_disk` writes it)
    S_P.jsonl  S-P.jsonl
    P/S_P.csv  P/S.csv
    S.jsonl (data that users bring)

A split that is not there may be a sample of it, with `P_sample` in place of P in the folder or the file name.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from evalmesh.benchmarks.query import DatasetQuery
from evalmesh.domain.errors import NotFound

EXTENSIONS = tuple(
    extension + packing for extension in ("jsonl", "json", "csv", "tsv", "parquet", "arrow") for packing in ("", ".gz")
)
_SHARDS = ("{P}-[0-9]*", "{P}", "{P}/[0-9]*", "{P}/data-[0-9]*")
_WITH_SUBSET = (*(f"{{S}}/{one}" for one in _SHARDS), "{S}_{P}", "{S}-{P}", "{P}/{S}_{P}", "{P}/{S}")
_ALIASES = {"validation": ("validation", "val", "valid"), "val": ("val", "validation", "valid")}
_PREFIXES = ("", "data/")
_SUFFIXES = tuple(f".{extension}" for extension in EXTENSIONS)
_MAX_DEPTH = 4
_SHOWN_FILES = 8
_SOLVED = re.compile(r"[_-](?:dev|train)\.")
"""Of file names of users' own data: they hold solved examples."""


def extension_of(path: Path) -> str:
    """`jsonl`, `csv.gz`, ...; empty for a file that cannot be read as rows."""
    name = path.name.lower()
    return next((extension for extension in EXTENSIONS if name.endswith("." + extension)), "")


def _raise(error: OSError) -> None:
    raise error


@dataclass(frozen=True, slots=True)
class Place:
    """A folder with data files, or one that a hub has and that may be brought."""

    root: Path
    label: str
    """What messages call it."""
    names: Sequence[str]
    """Of its data files, relative and `/`-separated, sorted."""


def folder_place(root: Path) -> Place:
    """A folder of this machine. Raises `OSError`."""
    return Place(root, f"'{root}'", _listing(root))


def is_data(name: str) -> bool:
    """Whether a file of this name, relative and `/`-separated, is looked at."""
    *folders, file = name.lower().split("/")
    hidden = any(part.startswith(".") for part in folders)
    return file.endswith(_SUFFIXES) and not hidden and len(folders) <= _MAX_DEPTH


def _listing(root: Path) -> list[str]:
    found: list[str] = []
    for folder, folders, names in os.walk(root, onerror=_raise):
        parts = Path(folder).relative_to(root).parts
        if len(parts) >= _MAX_DEPTH:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        prefix = "".join(f"{part}/" for part in parts)
        found += [prefix + name for name in names if name.lower().endswith(_SUFFIXES)]
    return sorted(found)


def _with_subset(query: DatasetQuery) -> tuple[str, ...]:
    # Solved examples out of the very file that is evaluated would show the answers asked for.
    return (*_WITH_SUBSET, "{S}") if query.own and not query.few_shot else _WITH_SUBSET


def _patterns(query: DatasetQuery) -> tuple[str, ...]:
    with_subset = _with_subset(query) if query.subset else ()
    return with_subset + (_SHARDS if not query.subset or query.only_subset else ())


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


def find_files(query: DatasetQuery, place: Place) -> Sequence[Path]:
    """The files of the first pattern that matches, or none. Raises `NotFound` when they contradict each other."""
    listing = place.names
    # Looking for the name first saves most of the expressions where a folder holds many subsets.
    of_subset = [path for path in listing if query.subset in path]
    for split in _splits(query.split):
        for pattern in (prefix + shape for prefix in _PREFIXES for shape in _patterns(query)):
            match = _matcher(pattern, split)
            hits = ((path, match(path)) for path in (of_subset if "{S}" in pattern else listing))
            found = [path for path, hit in hits if hit and hit.groupdict().get("S", query.subset) == query.subset]
            if found:
                _check_whole(query, place, found, numbered="[0-9]*" in pattern)
                return tuple(place.root / path for path in found)
    return ()


def _check_whole(query: DatasetQuery, place: Place, found: Sequence[str], *, numbered: bool) -> None:
    kinds = {extension_of(Path(path)) for path in found}
    if len(kinds) > 1 or (len(found) > 1 and not numbered):
        raise NotFound(
            f"More than one file fits {_wanted(query)} in {place.label}: {', '.join(found[:_SHOWN_FILES])}. Keep one "
            "of them there, or name it in local_path.",
            {"field": "local_path"},
        )
    totals = {int(total) for path in found for total in re.findall(r"-of-(\d+)", path)}
    if totals and totals != {len(found)}:
        raise NotFound(
            f"{_wanted(query)} in {place.label} is not whole: the file names speak of {max(totals)} parts, "
            f"{len(found)} are there. Fetch the data set again.",
            {"field": "local_path"},
        )


def subsets_in(query: DatasetQuery, place: Place) -> Sequence[str]:
    """The subsets of the query's split that file names tell, sorted."""
    listing = place.names
    for split in _splits(query.split):
        for pattern in (prefix + shape for prefix in _PREFIXES for shape in _WITH_SUBSET):
            if found := _named(listing, pattern, split):
                return found
    if query.own and not query.few_shot and not find_files(replace(query, only_subset=True), place):
        return _named([path for path in listing if not _SOLVED.search(path)], "{S}", query.split)
    return ()


def _named(listing: Sequence[str], pattern: str, split: str) -> Sequence[str]:
    match = _matcher(pattern, split)
    found = {hit["S"] for path in listing if (hit := match(path))}
    # `data/` is a prefix and `0000.parquet` a part of a split; neither is a subset.
    return sorted(name for name in found if name != "data" and not name.isdecimal())


def _wanted(query: DatasetQuery) -> str:
    subset = f", subset '{query.subset}'" if query.subset else ""
    return f"split '{query.split}' of benchmark '{query.name}'{subset}"


def nowhere(query: DatasetQuery, looked: Sequence[Place], folders: Sequence[Path]) -> NotFound:
    """Says what was looked for, where, what is there, and how to point at the data.

    Args:
        query: What was looked for.
        looked: Where the data set should have been.
        folders: Where there was no such place.
    """
    tried = [
        pattern.replace("{S}", query.subset).replace("{P}", query.split).replace("[0-9]*", "00000-of-00001")
        for pattern in _patterns(query)
    ]
    message = f"No files found for {_wanted(query)}. "
    if looked:
        there = [path for place in looked for path in place.names]
        more = f" and {len(there) - _SHOWN_FILES} more" if len(there) > _SHOWN_FILES else ""
        where = ", ".join(place.label for place in looked)
        message += f"Looked in {where} for {', '.join(tried)} (jsonl, json, csv, tsv, parquet or arrow, also .gz); "
        message += f"data files there: {', '.join(there[:_SHOWN_FILES]) or 'none'}{more}. "
    elif folders:
        names = _quoted([Path(name) for name in dict.fromkeys((query.name, query.hub_id)) if name])
        message += f"There is no folder {names} in {_quoted(folders)}. "
    if query.published:
        name = f"DIR/{query.name}/{tried[0]}".replace("*", "")
        message += f"It is published as {query.published}: have it fetched with --dataset-hub huggingface (or "
        message += f"modelscope), or bring it so that it lies at e.g. {name}.parquet (a copy of the hub's own folder "
        message += "does), and give --dataset-dir DIR. Or name"
    else:
        message += "Name"
    message += (
        f' the data with --dataset-args \'{{"{query.called or query.name}": {{"local_path": "FILE_OR_FOLDER"}}}}\'.'
    )
    return NotFound(message, {"field": "local_path", "value": query.local_path})


def _quoted(paths: Sequence[Path]) -> str:
    return ", ".join(f"'{path}'" for path in paths)
