"""Texts of models and data sets as a terminal may see them: none of their characters steers it."""

import re

_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_STEERING_OR_SPACE = re.compile(_STEERING.pattern[:-1] + "\t\n]")


def printable(text: str) -> str:
    """The text with control characters, marks of direction and halves of characters written as escapes."""
    return _STEERING.sub(_escape, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Likewise, in one line: each run of space is one blank."""
    return printable(" ".join(text.split()))


def in_json(text: str) -> str:
    """JSON that says the same with these characters escaped."""
    return _STEERING_OR_SPACE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
