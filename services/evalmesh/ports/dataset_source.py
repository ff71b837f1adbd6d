"""Where rows come from: a file, a folder in a hub's layout, a hub."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from evalmesh.benchmarks.query import DatasetQuery

Row = Mapping[str, Any]
"""Column name to value, as the source has it."""


class DatasetSource(Protocol):
    """Finds files and streams rows; never holds a data set in memory."""

    def resolve(self, query: DatasetQuery) -> Sequence[Path]:
        """The files that hold these rows, in order.

        Raises `NotFound`, naming what was looked for and where, and `PermissionDenied` for a path that may not be read.
        """
        ...

    def subsets(self, query: DatasetQuery) -> Sequence[str]:
        """Subsets found on disk, sorted; empty when the layout has none."""
        ...

    def rows(self, files: Sequence[Path], columns: Sequence[str] = ()) -> Iterator[tuple[int, Row | str]]:
        """(0-based row number, row) in file order; a line that cannot be parsed comes as the reason (a str)."""
        ...

    def marks(self, files: Sequence[Path], columns: Sequence[str] = ()) -> Iterator[None]:
        """One for each row that `rows` gives: for counting, which most formats allow without decoding them."""
        ...

    def read_media(self, files: Sequence[Path], name: str) -> bytes:
        """A file that a row of `files` names, relative to its data file.

        Raises `ValueError` for one that is not there, is larger than a medium may be, or lies outside their folder.
        """
        ...
