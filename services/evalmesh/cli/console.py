"""Where commands print; light, so that a look at a file needs no platform."""

import io
import os
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from evalmesh.cli.printable import bare, printable

WIDTH_OF_FILES = 160


class SafeConsole(Console):
    """Draws colours and cursor moves of its own and none that a text brings along."""

    full_width = False
    """Whether tables may be as wide as they like."""

    def on_broken_pipe(self) -> None:
        """Left to the command line, for which a reader that has seen enough is no failure; rich would end with 1."""
        raise BrokenPipeError

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments whose text is printable."""
        for segment in super().render(renderable, options):
            if segment.control is None and not segment.text.isprintable():
                yield Segment(printable(segment.text), segment.style)
            else:
                yield segment

    def say(self, line: str, style: str = "") -> None:
        """A line of text, broken at words where a terminal is narrow, what follows indented by two more."""
        if self.full_width:
            self.print(Text(line, style=style), soft_wrap=True)
            return
        start = len(line) - len(line.lstrip())
        first, *rest = Text(line.strip(), style=style).wrap(self, max(self.width - start - 2, 20)) or [Text()]
        self.print(Text(" " * start) + first, soft_wrap=True)
        for part in rest:
            self.print(Text(" " * (start + 2)) + part, soft_wrap=True)


def make_console(*, stderr: bool = False, quiet: bool = False) -> SafeConsole:
    """A console that does not fold tables to 80 columns when its output goes to a file or a pipe."""
    file = bare(sys.stderr if stderr else sys.stdout)
    narrow = file.isatty() or os.environ.get("COLUMNS")
    settings: dict[str, Any] = {} if narrow else {"width": WIDTH_OF_FILES}
    console = SafeConsole(file=file, highlight=False, quiet=quiet, **settings)
    console.full_width = not narrow
    return console


def console_into(text: io.StringIO, *, width: int = WIDTH_OF_FILES, record: bool = False) -> SafeConsole:
    """A console that writes into a text, tables at their full width."""
    console = SafeConsole(file=text, width=width, record=record, force_jupyter=False, highlight=False)
    console.full_width = True
    return console


def is_live() -> bool:
    """Whether someone is looking at a terminal."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def one_place() -> bool:
    """Whether output and errors are seen in one place: a terminal, or the same file or pipe."""
    try:
        return os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
    except (OSError, ValueError):
        return False
