"""Rows of the data set file of a load test, one at a time."""

from collections.abc import Iterator
from pathlib import Path

from evalmesh.domain.errors import InvalidInput
from evalmesh.wire.row_files import Kind, Placed, RowFile, kind_by_name

_FIELD = "prompts.file_digest"


def records(path: Path, name: str = "") -> Iterator[Placed]:
    """Rows in the order of the file; blank lines are none.

    `name` is what the file was called: its suffix says what is in it, and without a known one its beginning does. A
    row that cannot be read comes as `Bad`; raises `InvalidInput` when reading cannot go on.
    """
    return _file(path).rows(kind_of(path, name))


def text_lines(path: Path) -> Iterator[Placed]:
    """Every line as a text, whatever the file is called."""
    return _file(path).rows("text")


def kind_of(path: Path, name: str = "") -> Kind:
    """What is in the file. Raises `InvalidInput` when it cannot be read."""
    kind = kind_by_name(name or path.name)
    if kind is not None and kind != "json":
        return kind
    found = _file(path).sniffed()
    return "lines" if kind == "json" and found == "text" else found


def _file(path: Path) -> RowFile:
    if not path.is_file():
        raise InvalidInput("The data set file is not there. Import it again.", {"field": _FIELD})
    return RowFile(path, "The data set file", _FIELD)
