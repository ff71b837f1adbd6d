"""Texts of models and data sets as a terminal may see them: none of their characters steers it."""

import re

_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with control characters, marks of direction and halves of characters as JSON escapes them.

    JSON that says so in texts says the same afterwards.
    """
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Likewise, in one line: each run of space is one blank."""
    return printable(" ".join(text.split()))
