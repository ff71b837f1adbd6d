"""Something that goes on, as it is watched: redrawn on a terminal, a few lines now and then elsewhere."""

import time
from collections.abc import Callable
from threading import Timer
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from evalmesh.domain.state import State

_PLAIN_EVERY_S = 2.0
_PASSING_S = 0.5
"""A state on the way to another is worth a line of its own once it has lasted so long."""
_PASSING = frozenset({State.QUEUED.value, State.PLANNING.value})


class LiveView:
    """What progress of runs and of load tests has in common. Use it as a context manager."""

    def __init__(self, console: Console, *, live: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        moves = live and not console.is_dumb_terminal
        self._live = Live(console=console, refresh_per_second=8, transient=True) if moves else None
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
