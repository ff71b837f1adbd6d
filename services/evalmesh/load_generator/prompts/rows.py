"""Rows of the data set file of a load test, one at a time."""

from collections.abc import Callable, Iterator
from pathlib import Path

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.row_form import RowForm
from evalmesh.load_generator.prompts.base import Context
from evalmesh.wire.row_files import Kind, Placed, RowFile, kind_by_name

_FIELD = "prompts.file_digest"


def records(
    path: Path, name: str = "", form: RowForm | None = None, note: Callable[[str], None] | None = None
) -> Iterator[Placed]:
    """Rows in the order of the file; blank lines are none.

    `name` is what the file was called: its suffix says what is in it, and without a known one its beginning does. A
    row that cannot be read comes as `Bad`; raises `InvalidInput` when reading cannot go on. `note` is told what was
    guessed.
    """
    file = _file(path, form, name)
    for row in file.rows(_kind_of(file, name)):
        while note is not None and file.notes:
            note(f"{file.notes.popitem()[0]}.".replace(path.name, name or "the data set file"))
        yield row


def of_context(context: Context) -> Iterator[Placed]:
    """The rows of the file that a load test names; `args.encoding` and `args.delimiter` say how they are written."""
    args = {name: context.spec.args.get(name) or "" for name in ("encoding", "delimiter")}
    form = RowForm.said({}, str(args["encoding"]), str(args["delimiter"]))
    if len(form.delimiter) > 1:
        raise InvalidInput(
            f"prompts.args.delimiter is {form.delimiter!r}; give the one character that stands between fields.",
            {"field": "prompts.args.delimiter"},
        )
    return records(context.file(), context.spec.file_name, form, context.note)


def text_lines(path: Path) -> Iterator[Placed]:
    """Every line as a text, whatever the file is called."""
    return _file(path).rows("text")


def kind_of(path: Path, name: str = "") -> Kind:
    """What is in the file. Raises `InvalidInput` when it cannot be read."""
    return _kind_of(_file(path), name)


def _kind_of(file: RowFile, name: str) -> Kind:
    kind = kind_by_name(name or file.path.name)
    if kind is not None and kind != "json":
        return kind
    found = file.sniffed()
    return "lines" if kind == "json" and found == "text" else found


def _file(path: Path, form: RowForm | None = None, name: str = "") -> RowFile:
    if not path.is_file():
        raise InvalidInput("The data set file is not there. Import it again.", {"field": _FIELD})
    return RowFile(path, f"The data set file{f' {name!r}' if name else ''}", _FIELD, form or RowForm())
