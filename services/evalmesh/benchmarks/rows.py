"""Reading columns of a row, with errors that name the column; and the row layouts several benchmarks share."""

import math
from collections.abc import Sequence
from string import ascii_uppercase

from evalmesh.benchmarks.base import Row, RowContext
from evalmesh.domain.content import ContentPart
from evalmesh.domain.sample import Sample


def text(row: Row, column: str) -> str:
    """A column as text without surrounding blanks; numbers as written in Python, whole floats without `.0`.

    Raises `ValueError` when the column is missing, empty or not a plain value.
    """
    found = optional_text(row, column)
    if not found:
        state = "is empty" if column in row else f"is missing (there are: {', '.join(map(str, row)) or 'none'})"
        raise ValueError(f"column '{column}' {state}")
    return found


def optional_text(row: Row, column: str) -> str:
    """Like `text`, but empty when the column is missing or empty."""
    value = row.get(column)
    if value is None:
        return ""
    if isinstance(value, float) and (math.isnan(value) or value.is_integer()):
        return "" if math.isnan(value) else str(int(value))
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value).strip()
    raise ValueError(f"column '{column}' holds a {type(value).__name__}, expected text")


def media(row: Row, column: str, context: RowContext) -> tuple[ContentPart, ...]:
    """The images, sounds or films of a column, in order; none when it is missing or empty.

    Bytes, Hugging Face structs, data URLs, base64, paths beside the data file, and lists of these (`MediaSink.add`).
    Raises `ValueError` that names the column.
    """
    try:
        return context.media.add(row.get(column))
    except ValueError as error:
        raise ValueError(f"column '{column}': {error}") from error


def sample_id(context: RowContext) -> str:
    """Made of the row's place, never of a column: columns called `id` are not always unique."""
    return f"{context.subset}/{context.index}"


def choice_columns(row: Row) -> tuple[str, ...]:
    """Options in columns A, B, C, ...; raises `ValueError` for fewer than two, or for a gap."""
    texts = [optional_text(row, letter) for letter in ascii_uppercase if letter in row]
    filled = [letter for letter in ascii_uppercase if letter in row and optional_text(row, letter)]
    if len(filled) < 2:
        absent = [f"'{letter}'" for letter in "AB" if letter not in row]
        state = f"{' and '.join(absent)} missing (there are: {', '.join(map(str, row))})" if absent else "one is empty"
        raise ValueError(f"columns 'A' and 'B' must both hold an option: {state}")
    if "".join(filled) != ascii_uppercase[: len(filled)]:
        missing = next(letter for letter in ascii_uppercase if letter not in filled)
        raise ValueError(f"column '{missing}' is empty although '{filled[-1]}' holds an option")
    return tuple(texts[: len(filled)])


def choice_list(row: Row, column: str) -> tuple[str, ...]:
    """Options in one column that holds a list; raises `ValueError` for fewer than two or more than 26."""
    value = row.get(column)
    if not isinstance(value, Sequence) or isinstance(value, str) or not 2 <= len(value) <= len(ascii_uppercase):
        raise ValueError(f"column '{column}' must hold a list of 2 to 26 options")
    return tuple(str(option).strip() for option in value)


def answer_letter(row: Row, column: str, n_choices: int) -> str:
    """A letter as written in the row; raises `ValueError` when it is none of the options' letters."""
    letter = text(row, column).upper()
    letters = ascii_uppercase[:n_choices]
    if len(letter) != 1 or letter not in letters:
        raise ValueError(f"column '{column}' is '{letter}', expected one letter of {', '.join(letters)}")
    return letter


def lettered_columns(row: Row, context: RowContext) -> Sample:
    """Columns question, A, B, C, ..., answer (a letter), optionally id."""
    question = text(row, "question")
    choices = choice_columns(row)
    row_id = optional_text(row, "id")
    return Sample(
        id=sample_id(context),
        index=context.index,
        subset=context.subset,
        input=question,
        target=(answer_letter(row, "answer", len(choices)),),
        choices=choices,
        metadata={"id": row_id} if row_id else {},
    )
