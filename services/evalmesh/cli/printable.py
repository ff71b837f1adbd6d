"""What comes from outside on a terminal: shown, never obeyed.

Models, servers, files and records may hold escape sequences that clear a screen, retitle a window or turn a line
around. `printable` is the one place that knows which characters do something; everything the command line prints goes
through it, since `guarded` wraps the standard streams and `make_console` draws with it.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but tab and line feed
    "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff"  # separators, what turns a line around
    "\ud800-\udfff]"  # halves of characters, which no stream can encode
)


def printable(text: str) -> str:
    """The text with every character that does something written out as an escape of JSON."""
    if text.isprintable():
        return text
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The same, on one line."""
    return " ".join(printable(text).split())


class _Guarded:
    """A standard stream through which only printable text goes."""

    def __init__(self, stream: TextIO) -> None:
        self.bare_stream = stream

    def write(self, text: str) -> int:
        self.bare_stream.write(printable(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare_stream, name)


@contextmanager
def guarded() -> Iterator[None]:
    """Within the block, what is printed is printable, and what a stream's encoding lacks is written as an escape."""
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (cast("TextIO", _Guarded(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def bare(stream: TextIO) -> TextIO:
    """The stream itself, for whoever writes escape sequences of its own and none of others."""
    return getattr(stream, "bare_stream", stream)
