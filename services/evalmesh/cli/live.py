"""Something that goes on, as it is watched: redrawn on a terminal, a few lines now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Timer
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from evalmesh.cli.notebook import NotebookView, in_notebook
from evalmesh.domain.load_test import LoadTest
from evalmesh.domain.run import Run
from evalmesh.domain.state import State

_PLAIN_EVERY_S = 2.0
_PASSING_S = 0.5
"""A state on the way to another is worth a line of its own once it has lasted so long."""
_PASSING = frozenset({State.QUEUED.value, State.PLANNING.value})
_LISTENER: ContextVar[Callable[[Any], None] | None] = ContextVar("evalmesh_progress_listener", default=None)


@contextmanager
def heard_by(listener: Callable[[Any], None] | None) -> Iterator[None]:
    """Updates of what is watched within the block go to this function too, as they come in."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


class LiveView:
    """What progress of runs and of load tests has in common. Use it as a context manager."""

    def __init__(self, console: Console, *, live: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        moves = live and not console.is_dumb_terminal
        self._live: Live | NotebookView | None = None
        if in_notebook() and not console.quiet:
            self._live = NotebookView()
        elif moves:
            self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._now = now
        self._state = ""
        self._plain_s = float("-inf")
        self._plain_text = ""
        self._held: Timer | None = None
        self._entered = ("", 0.0)
        """The state and since when it is this one."""

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._forget_held()
        if self._live is not None:
            self._live.stop()

    @staticmethod
    def _tell(update: Run | LoadTest) -> None:
        if (listener := _LISTENER.get()) is not None:
            listener(update)

    def _show(self, now_s: float, state: str, view: Callable[[], RenderableType], lines: Callable[[], str]) -> None:
        """Shows the view, or the lines when the state is another or the last ones are old."""
        if self._live is not None:
            self._live.update(view())
            return
        self._forget_held()
        if state == self._state and now_s - self._plain_s < _PLAIN_EVERY_S:
            return
        text = lines()
        if state != self._entered[0]:
            self._entered = (state, now_s)
        if state in _PASSING and now_s - self._entered[1] < _PASSING_S:
            self._held = Timer(_PASSING_S, self._say, (now_s, state, text))
            self._held.daemon = True
            self._held.start()
        else:
            self._say(now_s, state, text)

    def _forget_held(self) -> None:
        if self._held is not None:
            self._held.cancel()
            self._held = None

    def _say(self, now_s: float, state: str, text: str) -> None:
        if text and text != self._plain_text:
            self._console.print(Text(text), soft_wrap=True)
        self._state, self._plain_s, self._plain_text = state, now_s, text


def clock_text(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
