"""Where commands print; light, so that a look at a file needs no platform."""

import os
import sys

from rich.console import Console

WIDTH_OF_FILES = 160


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Left to the command line, for which a reader that has seen enough is no failure; rich would end with 1."""
        raise BrokenPipeError


def make_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console that does not fold tables to 80 columns when its output goes to a file or a pipe."""
    file = sys.stderr if stderr else sys.stdout
    width = None if file.isatty() or os.environ.get("COLUMNS") else WIDTH_OF_FILES
    return _Console(stderr=stderr, width=width, highlight=False, quiet=quiet)


def is_live() -> bool:
    """Whether someone is looking at a terminal."""
    return sys.stdout.isatty() and sys.stderr.isatty()
