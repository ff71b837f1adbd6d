"""Progress in a notebook: one output that changes in place, where each line would be an output of its own."""

import io
import sys
import time
from typing import Any

from rich.console import RenderableType

from evalmesh.cli.console import console_into

_EVERY_S = 0.25
_WIDTH = 110
_FORMAT = "<pre style='line-height:1.3;white-space:pre;overflow-x:auto'>{code}</pre>"


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, and no IPython in a terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


class NotebookView:
    """As `rich.live.Live`: what it shows last stays, until what is returned stands below it."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown_s = float("-inf")
        self._waiting: RenderableType | None = None

    def start(self) -> None:
        """Makes the output; nothing is in it yet."""
        from IPython.display import DisplayHandle  # noqa: PLC0415  (there, in a notebook)

        self._handle = DisplayHandle()  # type: ignore[no-untyped-call]
        self._handle.display({"text/plain": ""}, raw=True)

    def update(self, view: RenderableType) -> None:
        """Shows this instead, some times a second at most."""
        self._waiting = view
        if time.monotonic() - self._shown_s >= _EVERY_S:
            self._show()

    def stop(self) -> None:
        """Shows what came last."""
        self._show()

    def _show(self) -> None:
        if self._waiting is None or self._handle is None:
            return
        console = console_into(io.StringIO(), width=_WIDTH, record=True)
        console.print(self._waiting)
        text = console.export_text(clear=False)
        html = console.export_html(inline_styles=True, code_format=_FORMAT)
        self._handle.update({"text/html": html, "text/plain": text}, raw=True)
        self._waiting, self._shown_s = None, time.monotonic()
