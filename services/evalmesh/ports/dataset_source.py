"""Where rows come from: a file, a folder in a hub's layout, a hub."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from evalmesh.benchmarks.base import NumberedRow
from evalmesh.benchmarks.query import DatasetQuery
from evalmesh.domain.row_form import RowForm


class DatasetSource(Protocol):
    """Finds files and streams rows; never holds a data set in memory."""

    def is_here(self, query: DatasetQuery) -> bool:
        """Whether this is where the data set should be found, whole or not: it is named, or a folder is called so."""
        ...

    def resolve(self, query: DatasetQuery) -> Sequence[Path]:
        """The files that hold these rows, in order.

        Raises `NotFound`, naming what was looked for and where, and `PermissionDenied` for a path that may not be read.
        """
        ...

    def subsets(self, query: DatasetQuery) -> Sequence[str]:
        """Subsets found on disk, sorted; empty when the layout has none."""
        ...

    def rows(
        self,
        files: Sequence[Path],
        columns: Sequence[str] = (),
        form: RowForm | None = None,
        note: Callable[[str], None] | None = None,
    ) -> Iterator[NumberedRow]:
        """Rows in file order; a line that cannot be parsed comes as the reason (a str).

        `form`: what the user says of the files; `note` is told what had to be guessed.
        """
        ...

    def marks(self, files: Sequence[Path], columns: Sequence[str] = (), form: RowForm | None = None) -> Iterator[None]:
        """One for each row that `rows` gives: for counting, which most formats allow without decoding them."""
        ...

    def read_media(self, files: Sequence[Path], name: str) -> bytes:
        """A file that a row of `files` names, relative to its data file.

        Raises `ValueError` for one that is not there, is larger than a medium may be, or lies outside their folder.
        """
        ...
