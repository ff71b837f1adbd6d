"""Where rows come from: a file, a folder in a hub's layout, a hub."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Row = Mapping[str, Any]
"""Column name to value, as the source has it. Files without a header use `0`, `1`, ... unless columns are given."""


@dataclass(frozen=True, slots=True)
class DatasetQuery:
    """Which rows of which data set."""

    name: str
    """The benchmark's name, for messages and for `{dataset_dir}/{name}`."""
    hub_id: str
    split: str
    subset: str = ""
    """Empty for a data set without subsets."""
    revision: str = ""
    local_path: str = ""
    dataset_dir: str = ""
    columns: Sequence[str] = ()
    """Column names for files that have no header."""


class DatasetSource(Protocol):
    """Finds files and streams rows; never holds a data set in memory."""

    def resolve(self, query: DatasetQuery) -> Sequence[Path]:
        """The files that hold these rows, in order. Raises `NotFound`, naming what was looked for and where."""
        ...

    def subsets(self, query: DatasetQuery) -> Sequence[str]:
        """Subsets found on disk, sorted; empty when the layout has none."""
        ...

    def rows(self, files: Sequence[Path], columns: Sequence[str] = ()) -> Iterator[tuple[int, Row | str]]:
        """(0-based row number, row) in file order; a line that cannot be parsed comes as the reason (a str)."""
        ...
