"""Where a prompt shows the options of a question, and under which letters."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

_MARKER = re.compile(r"(?:^|(?<=\s))[(\[*]*([A-Z])(?:[)\].:][)*]*|\*\*)(?=\s)[^\S\n]*")
_LABELLED = re.compile(r"(?:^|\n)[^\S\n]*[(\[*]*[A-J][)\].:][)*]*[^\S\n]*$")
_LABEL_CHARS = 12
_MIN_SHOWN = 2


@dataclass(frozen=True, slots=True)
class _Marker:
    letter: str
    text_start: int
    at_line_start: bool


def is_labelled(text: str, start: int) -> bool:
    """Whether what starts here stands behind a letter, as an option does: a question may equal another's option."""
    return _LABELLED.search(text, max(0, start - _LABEL_CHARS), start) is not None


def locate_letters(tail: str, choices: Sequence[str]) -> tuple[str, ...] | None:
    """The letter the prompt gives to each choice; `None` when options are shown and are not these.

    Args:
        tail: What follows the question in the prompt. Options look like `A) text`, `(A) text`, `A. text`, `A: text`.
        choices: Option texts in the order of the data set, without white space around them.

    Returns:
        Letters in the order of `choices`: `("A", "B", ...)` unless the prompt shuffles, and also when no options
        are shown at all (log-likelihood prompts).
    """
    markers = [
        _Marker(found[1], found.end(), at_line_start=not tail[tail.rfind("\n", 0, found.start()) + 1 : found.start()])
        for found in _MARKER.finditer(tail)
    ]
    letters_shown = {marker.letter for marker in markers}
    in_lines = {marker.letter for marker in markers if marker.at_line_start}
    # One letter alone may be the `A:` of a question-and-answer template, or a name's initial.
    if len(in_lines) < _MIN_SHOWN and not set(ascii_uppercase[:_MIN_SHOWN]) <= letters_shown:
        return tuple(ascii_uppercase[: len(choices)])
    free = list(markers)
    letters: list[str] = []
    for choice in choices:
        marker = next((m for m in free if _is_option(tail, m.text_start, choice)), None)
        if marker is None:
            return None
        free.remove(marker)
        letters.append(marker.letter)
    return tuple(letters) if len(set(letters)) == len(letters) else None


def _is_option(tail: str, start: int, choice: str) -> bool:
    """Whether the option that starts here is this whole text."""
    if not tail.startswith(choice, start):
        return False
    end = start + len(choice)
    while end < len(tail) and tail[end] in " \t\r":
        end += 1
    return end == len(tail) or tail[end] == "\n" or (tail[end - 1].isspace() and _MARKER.match(tail, end) is not None)
